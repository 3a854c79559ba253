"""Run every case and write docs/correctness.md: ``python -m tests.proof``."""

from __future__ import annotations

import sys

from tests.conftest import ROOT

from .outcome import Run
from .registry import foresee_all, published, run, unmapped
from .report import PAGE, page


def main() -> int:
    shared = ROOT.parent / "shared"
    if not shared.is_dir():
        sys.stderr.write(f"{shared} is not here; the published cases are read from it\n")
        return 2
    cases = published(shared)
    wrong = unmapped(cases)
    foresee_all(cases)
    for one in cases:
        if isinstance(one.entry, Run):
            failed = [check for check in run(one) if not check.holds]
            wrong += [f"{one.id}: {c.what} is {c.found}, not {c.expected}" for c in failed]
    if wrong:
        sys.stderr.write("\n".join([*wrong, "the page is left as it was"]) + "\n")
        return 1
    (ROOT / PAGE).write_text(page(cases), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
