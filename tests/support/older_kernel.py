"""Hides a system call from a program: PRoot 5.1 does not translate the paths of `faccessat2`.

glibc calls `faccessat` where the kernel answers that it has no `faccessat2`, as before Linux 5.8.
"""

from __future__ import annotations

import ctypes
import errno
import struct

FACCESSAT2 = 439
"""On every architecture."""
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
FAIL, ALLOW = 0x00050000, 0x7FFF0000
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, MODE_FILTER = 38, 22, 2


def hide_faccessat2() -> None:
    """For this process and those that it starts; for `preexec_fn`. Raises OSError."""
    steps = [
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, FACCESSAT2),
        (RETURN, 0, 0, FAIL | errno.ENOSYS),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    call = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0),
        (SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if call(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
