"""Text and pictures in."""
