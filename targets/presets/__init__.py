"""Targets by family."""
