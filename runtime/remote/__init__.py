"""Measuring on another machine: a small server for the device, and its client.

The protocol is our own (docs/device-server.md, "The device protocol"). The server needs numpy,
tvm_ffi and libtvm_runtime.so; it forks and never executes another program.
"""
