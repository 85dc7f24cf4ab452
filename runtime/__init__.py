"""The on-device runtime: opens a bundle, preprocesses images and text, generates tokens.

Its only import from the rest of handglass is `handglass.errors`. It never imports torch, onnx or
the TVM compiler.
"""
