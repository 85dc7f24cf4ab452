"""Weights and the manifest of a bundle."""
