"""The error classes of the product, one per exit code.

Every message says what went wrong, where, with which value, and what to do about it. The command
line prints the message alone and leaves with `exit_code`; a traceback means a bug of ours (70).
"""


class HandglassError(Exception):
    """Base of all errors that a user can cause and mend."""

    exit_code = 70


class UsageError(HandglassError):
    """The command or the call was put together wrongly: unknown flag value, missing argument."""

    exit_code = 2


class InputError(HandglassError):
    """A file or value from outside is bad: picture, checkpoint, prompt, configuration."""

    exit_code = 3


class DeviceError(HandglassError):
    """The machine cannot do it: missing runtime library, instruction set, memory, connection."""

    exit_code = 4


class MismatchError(HandglassError):
    """Two things that must agree do not: a hash, a format version, a target, a signature."""

    exit_code = 5
