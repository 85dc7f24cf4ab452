"""Damaged files for every reader, in child processes with limits: `python -m fuzz --help`."""
