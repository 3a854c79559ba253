"""The commit cockpit: where a window will end if nothing changes (RULEBOOK §§4, 9; CT-15).

A forecast is shown, never booked: a shortfall is billed and recognised when its window ends.
"""

from __future__ import annotations

from datetime import date

from iotbill_pipelines.engine.contract.commitments import (
    CommitmentWindow,
    Shortfall,
    ramped,
    shortfall_of,
)
from iotbill_pipelines.engine.contract.terms import FLOW_KINDS, Commitment, Contract


def project(
    contract: Contract,
    commitment: Commitment,
    window: CommitmentWindow,
    so_far: Shortfall,
    as_of: date,
) -> Shortfall:
    """Return the window's shortfall at its end, if the days left bring what is ``expected`` of
    their months, or without that if every day left is like the average day so far.

    ``so_far`` is the window evaluated with what is known on ``as_of``, the first day not known. How
    many services there are is known for the days ahead too, so such commitments are as evaluated.
    """
    if commitment.kind not in FLOW_KINDS:
        return so_far
    if commitment.expected:
        rest, _ = ramped(commitment.expected, window.term, as_of, window.covered_until)
        measured = so_far.measured + rest
        return shortfall_of(contract, commitment, window, so_far.committed, measured)
    covered = (window.covered_until - window.covered_from).days
    passed = (min(as_of, window.covered_until) - window.covered_from).days
    measured = so_far.measured * covered / passed if passed > 0 else so_far.measured
    return shortfall_of(contract, commitment, window, so_far.committed, measured)
