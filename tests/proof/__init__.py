"""The published cases, each run through the public engine by an adapter of its model.

``python -m tests.proof`` writes docs/correctness.md from the results.
"""
