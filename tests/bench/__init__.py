"""Benchmarks: one harness, the same sender and the same sink for Interlock and its peers. `make bench` runs it."""
