"""Tuning of each kernel of a model: searches the choices of its schedule by measurement."""
