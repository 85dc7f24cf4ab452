"""The compiler: checkpoint in, bundle out. It runs on the host only."""
