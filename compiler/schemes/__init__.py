"""Storage schemes of weight matrices, one per file; `quantize.py` lists them by name."""
