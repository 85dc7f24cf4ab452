"""From scheduled TIR to a library."""
