"""Read the published examples and compare figures with them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any


def worked_example(shared: Path, case_id: str) -> dict[str, Any]:
    """Return one case of ``worked_examples.json``."""
    return next(case for case in _read(shared, "worked_examples") if case["id"] == case_id)


def worked_ids(shared: Path, concept: str) -> set[str]:
    """Return the ids of all worked examples of a concept."""
    cases = _read(shared, "worked_examples")
    return {case["id"] for case in cases if case["concept"].startswith(f"{concept}.")}


def peer_cases(shared: Path, model: str) -> list[dict[str, Any]]:
    """Return the cases of ``peer_cases.json`` of one model; at least one."""
    found = [case for case in _read(shared, "peer_cases") if case["model"] == model]
    assert found, f"no peer case of model {model}"
    return found


def matches(found: Any, expected: Any) -> bool:
    """Compare money as numbers and everything else as it is."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(matches(found[k], expected[k]) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(matches, found, expected))
    return bool(found == (Decimal(expected) if isinstance(found, Decimal) else expected))


def _read(shared: Path, name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((shared / "examples" / f"{name}.json").read_text())
    return cases
