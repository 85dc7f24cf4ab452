"""Calls kernels of `vulkan_shaders` on vulkan:0; as a program, many times in one process.

python vulkan_calls.py ROUNDS      prints the final statistics as JSON
"""

import json
import sys
from typing import Any

import numpy as np
from plugin_calls import PluginCalls, handle
from vulkan_shaders import Kernel, axpy, pack_module

from handglass.runtime.devices.vulkan import VULKAN, vulkan_statistics

CALLS = PluginCalls(VULKAN)
function, device = CALLS.function, CALLS.device
empty, on_device, on_host = CALLS.empty, CALLS.on_device, CALLS.on_host


def load(*kernels: Kernel) -> Any:
    return CALLS.load(pack_module(*kernels))


def call(kernel: Any, x: Any, y: Any, alpha: float, n: int, *extra: int) -> None:
    kernel(handle(x), handle(y), alpha, *extra, n, (n + 63) // 64, 64)


def main(rounds: int) -> None:
    module = load(axpy(), axpy("uniform", uniform=True, extra_scalars=20))
    rng = np.random.default_rng(1)
    y = on_device(np.zeros(1000, np.float32))
    expected = np.zeros(1000, np.float64)
    for i in range(rounds):
        x = rng.standard_normal(1000).astype(np.float32)
        if i % 2:
            call(module["uniform"], on_device(x), y, 0.5, 999, *range(20))
        else:
            call(module["axpy"], on_device(x), y, 0.5, 999)  # x is freed while the call is recorded
        expected[:999] += 0.5 * x[:999]
    np.testing.assert_allclose(on_host(y), expected, rtol=1e-4, atol=1e-4)
    print(json.dumps(vulkan_statistics()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
