"""Compiled functions with their parameters and state."""
