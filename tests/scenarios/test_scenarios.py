"""Every scenario beside this file, through the same engine that closes a month."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotbill_pipelines.operations.scenarios import run_scenario

from .explained import apart

SCENARIOS = sorted(Path(__file__).parent.glob("*.yaml"))

RETOLD = (
    *("currency", "cycle", "levels", "peer", "rating", "recurring", "time", "transition"),
    *("tried", "units"),
)
"""Scenarios about prices of usage and of time; their charges are computed a second time."""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    report = run_scenario(path)
    assert report.lines, "a scenario that expects nothing shows nothing"
    assert report.passed, report.render()
    if path.stem.partition("_")[0] in RETOLD:
        wrong, untold = apart(path, report)
        assert not wrong, "\n".join(wrong)
        assert not untold


def test_a_difference_is_shown_line_by_line(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "pool_proportional_excess.yaml").read_text()
    changed = text.replace("charge: over, amount: 1.53", "charge: over, amount: 1.55")
    assert changed != text
    path = tmp_path / "wrong.yaml"
    path.write_text(changed)
    report = run_scenario(path)
    assert not report.passed
    assert [line.what for line in report.lines if not line.passed] == ["S2 over 2026-03"]
    verdict, head, line = report.render().splitlines()
    assert verdict.endswith("1 of 10 lines differ")
    assert head.split() == ["line", "expected", "got", "difference"]
    assert line.split()[-3:] == ["1.55", "1.53", "-0.02"]


def test_a_charge_nobody_expected_is_a_difference(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "rating_graduated.yaml").read_text()
    head, _, _ = text.partition("expected:")
    path = tmp_path / "silent.yaml"
    path.write_text(head + "expected:\n  charges: []\n  suspended: {no_owner: 2}\n")
    report = run_scenario(path)
    assert [(line.what, line.expected, line.got) for line in report.lines if not line.passed] == [
        ("S1 messages 2026-03", "no charge", "155.00"),
        ("records suspended: no_owner", "2", "0"),
    ]
