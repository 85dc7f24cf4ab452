"""The reference implementation of the model in numpy and float32, for `handglass verify`.

Weights are read from the checkpoint layer by layer and released again, so the full-size model needs
only memory for its largest tensor and the activations. The code is simple rather than fast: plain
matrix products, without torch or TVM.
"""

from .arithmetic import Weights
from .language import embed, logits
from .merged_vision import encode_merged, in_windows
from .pixels import pixels
from .resampler import resample
from .vision import encode_vision

__all__ = [
    "Weights",
    "embed",
    "encode_merged",
    "encode_vision",
    "in_windows",
    "logits",
    "pixels",
    "resample",
]
