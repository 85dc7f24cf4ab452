"""Dual encoders on the device: pictures and texts as directions, scores, an index of a folder."""
