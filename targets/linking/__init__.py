"""Linkers, and the native program."""
