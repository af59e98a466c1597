"""What the scripts of the benchmarks share. Python's standard library only."""
