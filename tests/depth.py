"""How much random testing a run does: ``IOTBILL_TEST_DEPTH`` times the usual.

``make test`` does the usual, ``make test-deep`` five times that and what takes too long for every
run.
"""

from __future__ import annotations

import os

_DEPTH = int(os.environ.get("IOTBILL_TEST_DEPTH", "1"))
DEEP = _DEPTH > 1


def seeds(first: int, usual: int) -> range:
    """Return the seeds of a test that is run once for each."""
    return range(first, first + usual * _DEPTH)


def examples(usual: int) -> int:
    """Return the number of examples of a hypothesis test."""
    return usual * _DEPTH
