"""docs/correctness.md from what the cases came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .outcome import OutOfScope, Run
from .registry import Published

PAGE = "docs/correctness.md"

_HEAD = """# Correctness, case by case

Two public collections of billing cases, worked examples and cases from the tests of other billing
systems, are run through the engine that closes a month: as scenarios where they price usage,
states, pools or contracts, through the public functions of taxes, revenue, commissions,
reconciliation and booking (and of a contract's dates) where they are about those. Each adapter
builds its business from a case's own numbers, by model, so a new case of a known kind runs without
new code (`tests/proof/`).

Written by `python -m tests.proof`; run it again after a change.

"""


@dataclass
class Row:
    """A concept of one of the files, and what its cases came to."""

    file: str
    concept: str
    cases: int = 0
    passed: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)


def counted(cases: Sequence[Published]) -> list[Row]:
    """The cases by file and concept, in order; every case that is run counts as passed."""
    rows: dict[tuple[str, str], Row] = {}
    for one in cases:
        concept = one.concept
        if one.file == "worked examples":
            concept = concept.partition(".")[0]
        row = rows.setdefault((one.file, concept), Row(one.file, concept))
        row.cases += 1
        match one.entry:
            case Run() as entry:
                row.passed.append(one.id)
                if entry.policy:
                    row.remarks.setdefault(f"policy `{entry.policy}`", []).append(one.id)
                if entry.peer_wrong:
                    row.remarks.setdefault(f"the peer {entry.peer_wrong}", []).append(one.id)
            case OutOfScope(reason):
                row.left_out.setdefault(reason, []).append(one.id)
    return sorted(rows.values(), key=lambda row: (row.file, row.concept))


def page(cases: Sequence[Published]) -> str:
    """The page as Markdown."""
    rows = counted(cases)
    passed, total = sum(len(row.passed) for row in rows), sum(row.cases for row in rows)
    text = [
        _HEAD,
        f"**{passed} of {total} published cases** pass to the last digit; "
        f"{total - passed} are out of scope, each with its reason below. None fails.\n",
    ]
    for file in dict.fromkeys(row.file for row in rows):
        text.append(f"\n## {file.capitalize()}\n\n")
        text.append("| concept | cases | passed | out of scope | how, or why not |\n")
        text.append("|---|---:|---:|---:|---|\n")
        for row in (each for each in rows if each.file == file):
            told = [
                f"{reason} ({', '.join(ids)})"
                for reason, ids in (*row.remarks.items(), *row.left_out.items())
            ]
            text.append(
                f"| {row.concept} | {row.cases} | {len(row.passed)} | "
                f"{row.cases - len(row.passed)} | {'; '.join(told)} |\n"
            )
    return "".join(text)
