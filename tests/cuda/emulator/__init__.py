"""Runs PTX on a CPU, and finds what a GPU would do silently: see docs/cuda.md."""
