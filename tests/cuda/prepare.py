"""Builds what the processes of `make test-cuda` share, before several of them do so at once.

The plug-in, the emulated driver and the emulator's machine stay in the user's cache, from which
tests take them (tests/conftest.py).
"""

from emulated_driver import build_driver
from emulator.build import machine, prelude

from handglass.runtime.devices.cuda import CUDA
from handglass.runtime.devices.plugin.library import find_library

if __name__ == "__main__":
    for make in (lambda: find_library(CUDA.recipe).path, build_driver, machine, prelude):
        print(f"ready: {make()}")
