"""Code generation: from scheduled TIR to a library."""
