"""`inspect.stack` without the source of frames that nobody reads.

TVM's script decorators list the whole stack, and read the source of no frame but the third. Below
pytest the stack is deep: finding the source of every frame took 6 ms, twice per kernel (2.6 % of
the CPU time of test_integer_matmul.py).
"""

import inspect
import sys
from types import FrameType

WITH_SOURCE = 3


def short_stack(context: int = 1) -> list[inspect.FrameInfo]:
    """The frames of the caller and outward, as of `inspect.stack`."""
    frames: list[inspect.FrameInfo] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(_described(frame, context if len(frames) < WITH_SOURCE else 0))
        frame = frame.f_back
    return frames


def _described(frame: FrameType, context: int) -> inspect.FrameInfo:
    if context:
        found = inspect.getframeinfo(frame, context)
        return inspect.FrameInfo(frame, *found[:5])
    code = frame.f_code
    return inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
