"""Schedules for GPUs, independent of the language that kernels are compiled to."""
