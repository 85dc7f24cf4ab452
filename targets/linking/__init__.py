"""Linkers, and the build of the native program."""
