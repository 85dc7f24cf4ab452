"""Videos: their frames, which of them are shown, and how they are grouped."""
