"""Exception classes, one per exit code.

Each message states what went wrong, where, the offending value, and what to do about it. The
command line prints only the message and exits with `exit_code`. A traceback indicates a bug in
handglass (exit code 70).
"""


class HandglassError(Exception):
    """Base class of all errors that a user can cause and correct."""

    exit_code = 70


class UsageError(HandglassError):
    """Invalid command line or call: an unknown flag value, a missing argument."""

    exit_code = 2


class InputError(HandglassError):
    """Invalid external input: a picture, a checkpoint, a prompt, a configuration."""

    exit_code = 3


class DeviceError(HandglassError):
    """The device lacks something: a runtime library, an instruction set, memory, a connection."""

    exit_code = 4


class MismatchError(HandglassError):
    """Two values that must agree differ: a hash, a format version, a target, a signature."""

    exit_code = 5
