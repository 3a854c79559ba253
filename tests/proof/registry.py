"""Which case is run how: by its model or concept, so that a new case of a known kind just runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from .business import foresee
from .contracts import CONTRACT_PEERS, CONTRACTS
from .outcome import Case, Check, Entry, OutOfScope, Run
from .peers import EXCEPTIONS, PEERS
from .worked import WORKED, WORKED_EXCEPTIONS

TESTS = Path(__file__).resolve().parents[1]

_SUITES = ("contract", "tax", "revenue", "commission")
"""Areas whose own tests run their cases through their public functions; reused here."""


_REMARKS = ("policy", "precise_cents")
"""Keys of an expectation that say how it came about, not what it is."""


def _suite(area: str) -> ModuleType:
    """Load an area's example tests as a module; they are not a package."""
    name = f"test_{area}_examples"
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    path = TESTS / area / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"proof_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _through(adapter: Callable[[Any], Any], *, facts: bool) -> Callable[[Case], list[Check]]:
    """An area's adapter as one of ours: it returns all figures at once."""

    def run(case: Case) -> list[Check]:
        from published_examples import matches

        found = adapter(case["facts"] if facts else case)
        expected = {k: v for k, v in case["expected"].items() if k not in _REMARKS}
        holds = matches(found, expected)
        return [Check("every figure", expected, expected if holds else found)]

    return run


def _entries() -> tuple[dict[str, Entry], dict[str, Entry]]:
    worked, peers = dict(WORKED_EXCEPTIONS), dict(PEERS)
    for area in _SUITES:
        suite = _suite(area)
        for case_id, adapter in suite.WORKED.items():
            worked[case_id] = Run(_through(adapter, facts=True))
        for model, adapter in getattr(suite, "PEERS", {}).items():
            peers[model] = Run(_through(adapter, facts=False))
    return worked | CONTRACTS, peers | CONTRACT_PEERS


WORKED_BY_ID, PEERS_BY_MODEL = _entries()


@dataclass(frozen=True)
class Published:
    """A case and how it is run; ``entry`` is None where nobody said how."""

    file: str
    id: str
    concept: str
    case: Case
    entry: Entry | None


def published(shared: Path) -> list[Published]:
    """Every case of both files, in the files' order."""
    found = []
    for case in json.loads((shared / "examples" / "worked_examples.json").read_text()):
        entry = WORKED_BY_ID.get(case["id"]) or _by_concept(case["concept"])
        found.append(Published("worked examples", case["id"], case["concept"], case, entry))
    for case in json.loads((shared / "examples" / "peer_cases.json").read_text()):
        entry = EXCEPTIONS.get(case["id"]) or PEERS_BY_MODEL.get(case["model"])
        found.append(Published("peer cases", case["id"], case["model"], case, entry))
    return found


def _by_concept(concept: str) -> Entry | None:
    """The entry of a concept, or of the area it belongs to."""
    while concept:
        if concept in WORKED:
            return WORKED[concept]
        concept = concept.rpartition(".")[0]
    return None


def run(found: Published) -> list[Check]:
    """Run a case. Raises whatever its adapter raises."""
    assert isinstance(found.entry, Run)
    return found.entry.adapter(found.case)


def foresee_all(cases: list[Published]) -> None:
    """Do together what running the cases takes, so that each is quick then."""
    foresee([partial(run, one) for one in cases if isinstance(one.entry, Run)])


def unmapped(cases: list[Published]) -> list[str]:
    return [f"{one.id} ({one.concept})" for one in cases if one.entry is None]


def out_of_scope(found: Published) -> str | None:
    return found.entry.reason if isinstance(found.entry, OutOfScope) else None
