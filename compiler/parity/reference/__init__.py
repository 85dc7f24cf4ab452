"""What the model computes, in numpy and float32: the measure that compiled code is held to.

Weights are read from the checkpoint layer by layer and dropped again, so that the full-size model
needs no more memory than its largest tensor and the activations. Slow on purpose: one obvious
matrix product after the other, and no arithmetic by torch or TVM.
"""

from .arithmetic import Weights
from .language import embed, logits
from .pixels import pixels
from .resampler import resample
from .vision import encode_vision

__all__ = ["Weights", "embed", "encode_vision", "logits", "pixels", "resample"]
