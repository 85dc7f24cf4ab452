"""A file for the output of a child process, which needs no folder where Linux has memory files."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import BinaryIO, cast


def scratch_file() -> BinaryIO:
    """An empty file without a name. Raises OSError if there is neither memory file nor folder."""
    with suppress(OSError, AttributeError):  # an old Linux; another system
        return os.fdopen(os.memfd_create("handglass-scratch", os.MFD_CLOEXEC), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())
