"""From a Relax module to scheduled kernels, and what each kernel is worth."""
