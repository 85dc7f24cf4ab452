"""Devices as data: what code to generate for one, how to link it, which schedules it takes.

Nothing here imports TVM before it is needed, so that a device without the compiler can still ask
which target it would be.
"""

from .table import find_target, known_targets
from .target import Target

__all__ = ["Target", "find_target", "known_targets"]
