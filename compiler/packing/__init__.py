"""Packing of the weights and description of a bundle in its manifest."""
