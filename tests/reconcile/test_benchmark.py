"""The benchmark's inputs are repeatable, and its findings are those that were seeded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iotbill_pipelines.operations.benchmarks import reconcile


def test_a_small_run_finds_what_was_seeded_and_repeats(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        reconcile.generate(tmp_path / name, 400, seed=1)
        measured = reconcile._run(tmp_path / name, 400, 1, "500MB")
        found.append(replace(measured, seconds=0.0, peak_memory_bytes=0))

    assert found[0] == found[1]
    assert found[0].result_lines >= 400
    assert 0 < found[0].claims < found[0].causes < 60
