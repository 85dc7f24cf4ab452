"""Benchmarks, and the limits of the machine that they are compared with."""
