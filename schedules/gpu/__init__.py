"""Schedules for GPUs, whatever language their kernels are compiled to."""
