"""Graphs that users bring (ONNX): imported into Relax, and our operators recognised in them."""
