"""TVM's runtime below any device: memory, clocks, arguments."""
