"""What only a GPU can answer; `benchmarks/gpu.sh` runs the parts one after the other."""
