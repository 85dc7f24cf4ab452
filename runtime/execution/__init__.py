"""The device-independent layer over TVM's runtime: memory, clocks, kernel arguments."""
