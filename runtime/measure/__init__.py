"""Benchmarks, and measurements of the machine's limits to compare them with."""
