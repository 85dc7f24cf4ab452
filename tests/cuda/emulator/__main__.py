"""`python -m emulator FILE.ptx` prints the path of a shared object with its kernels."""

from __future__ import annotations

import sys
from pathlib import Path

from .build import build
from .ptx_types import PtxError


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m emulator FILE.ptx\n")
        return 2
    try:
        print(build(Path(sys.argv[1]).read_text("utf-8")))
    except (PtxError, OSError, RuntimeError) as error:
        sys.stderr.write(f"{sys.argv[1]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
