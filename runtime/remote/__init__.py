"""Measuring kernels on another machine: a small server for the device, and its client.

docs/device-server.md defines the protocol ("The device protocol"). The server needs numpy, tvm_ffi
and libtvm_runtime.so; it forks but never executes another program.
"""
