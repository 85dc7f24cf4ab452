"""Target devices as data: which code to generate, how to link it, which schedules to use.

TVM is imported only when it is needed, so that a device without the compiler can still look up its
target.
"""

from .table import find_target, known_targets
from .target import Target

__all__ = ["Target", "find_target", "known_targets"]
