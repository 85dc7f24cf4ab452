"""The package for programs in other languages, such as the emulated driver.

`python -m emulator FILE.ptx` keeps a PTX text and prints the path of what it kept;
`python -m emulator KEPT.ptx KERNEL` prints the path of the kernel's shared object.
The reason for a failure goes to the standard output, too: the caller has it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .build import build, keep
from .ptx_types import PtxError


def main() -> int:
    if len(sys.argv) not in (2, 3):
        sys.stderr.write("usage: python -m emulator FILE.ptx [KERNEL]\n")
        return 2
    path, *kernel = sys.argv[1:]
    try:
        print(build(Path(path), *kernel) if kernel else keep(Path(path).read_text("utf-8")))
    except (PtxError, OSError, RuntimeError) as error:
        print(f"{path}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
