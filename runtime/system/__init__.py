"""Properties and resources of this machine: CPU, memory, caches, child processes."""
