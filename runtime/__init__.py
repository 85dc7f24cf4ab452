"""The room on the device: opens a bundle, turns pictures and text into inputs, generates tokens.

Imports nothing of ours but `handglass.errors`, and never torch, onnx or the TVM compiler.
"""
