"""Integer and tile instructions of CPUs, and the packed layouts they read."""
