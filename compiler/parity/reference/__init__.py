"""The reference implementation of the model in numpy and float32, for `handglass verify`.

Weights are read from the checkpoint layer by layer and released again, so the full-size model needs
only memory for its largest tensor and the activations. The code is simple rather than fast: plain
matrix products, without torch or TVM.
"""

from .arithmetic import Weights
from .family import Eyes, Reference, Step
from .language import Names, embed, logits
from .merged_vision import encode_merged, in_windows
from .pixels import Pixels, square
from .resampler import resample
from .slices import sliced
from .vision import encode_vision

__all__ = [
    "Eyes",
    "Names",
    "Pixels",
    "Reference",
    "Step",
    "Weights",
    "embed",
    "encode_merged",
    "encode_vision",
    "in_windows",
    "logits",
    "resample",
    "sliced",
    "square",
]
