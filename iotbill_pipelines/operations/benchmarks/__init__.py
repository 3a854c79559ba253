"""Benchmarks: seeded inputs of any size, measured in a process of their own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def in_own_process(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Run ``work`` in a fresh process, whose memory nothing else has used; return its result.

    The process ends without its exit handlers: what it opens it must close.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def peak_memory_bytes() -> int:
    """Return the most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
