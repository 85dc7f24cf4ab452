"""A CUDA plug-in for TVM's runtime, in C++, on NVIDIA's driver API alone.

    load_cuda()          enables `tvm.device("cuda")` for any program on TVM's runtime
    cuda_devices()       the devices of this machine, in the order of cuda:0, cuda:1, ...

It needs neither CUDA's toolkit nor its headers, and opens libcuda.so.1 when a device is first used.
"""

from .devices import cuda_devices, cuda_problem, cuda_statistics
from .plugin import CUDA

load_cuda = CUDA.load

__all__ = ["CUDA", "cuda_devices", "cuda_problem", "cuda_statistics", "load_cuda"]
