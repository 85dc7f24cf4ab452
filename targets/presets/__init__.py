"""Preset targets by family."""
