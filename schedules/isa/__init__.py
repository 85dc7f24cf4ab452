"""Integer and tile instructions of CPUs, and the packed layouts that they read."""
