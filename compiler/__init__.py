"""Checkpoint in, bundle out; runs on the host only."""
