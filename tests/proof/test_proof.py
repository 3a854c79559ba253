"""Every published case through the public engine; the page that counts them claims no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

from .outcome import Run
from .registry import foresee_all, published, run, unmapped
from .report import PAGE, counted

SHARED = ROOT.parent / "shared"
CASES = published(SHARED) if SHARED.is_dir() else []


def test_every_case_says_how_it_is_run() -> None:
    if not CASES:
        pytest.skip("the public sample files (../shared) are not on this machine")
    assert not unmapped(CASES), "give the model or concept an adapter, or say why it has none"


@pytest.fixture(scope="module")
def foreseen() -> None:
    foresee_all(CASES)


@pytest.mark.usefixtures("foreseen")
@pytest.mark.parametrize(
    "found", [one for one in CASES if isinstance(one.entry, Run)], ids=lambda one: one.id
)
def test_case(found: object) -> None:
    checks = run(found)  # type: ignore[arg-type]
    assert checks, "a case that checks nothing shows nothing"
    assert not [check for check in checks if not check.holds]


def test_the_page_claims_no_more_than_is_run() -> None:
    """``python -m tests.proof`` writes it; it fails for a case that does not hold."""
    if not CASES:
        pytest.skip("the public sample files (../shared) are not on this machine")
    page = (ROOT / PAGE).read_text()
    claimed = re.search(r"\*\*(\d+) of (\d+) published cases\*\*", page)
    assert claimed is not None
    able = sum(isinstance(one.entry, Run) for one in CASES)
    assert int(claimed[2]) == len(CASES)
    assert int(claimed[1]) <= able
    for row in counted(CASES):
        assert f"| {row.concept} |" in page, "write the page again: python -m tests.proof"


def test_another_case_of_a_known_kind_just_runs(tmp_path: Path) -> None:
    """Numbers that stand in no file, through the same adapters."""
    from .peers import PEERS

    entry = PEERS["graduated_with_flat"]
    assert isinstance(entry, Run)
    case = {
        "definition": {
            "tiers": [
                {"from": "0", "to": "7", "per_unit": "3", "flat": "1"},
                {"from": "8", "to": None, "per_unit": "2", "flat": "4"},
            ]
        },
        "usage": {"units": "9"},
        "expected": {"amount": "30"},
    }
    assert all(check.holds for check in entry.adapter(case))  # 7 x 3 + 1 + 2 x 2 + 4
    wrong = {**case, "expected": {"amount": "31"}}
    assert not all(check.holds for check in entry.adapter(wrong))
