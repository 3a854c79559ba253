"""Benchmarks: seeded inputs of any size, measured in a process of their own."""
