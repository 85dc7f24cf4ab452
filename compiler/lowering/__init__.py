"""Lowering of a Relax module to scheduled kernels, and the work of each kernel."""
