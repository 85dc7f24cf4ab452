"""Measuring and tuning on an emulated ARM board, over the device protocol.

Part of `make test-arm`. The server runs under qemu with what `handglass deploy` brings to a board.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.arm, pytest.mark.compiler, pytest.mark.slow]
