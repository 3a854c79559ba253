"""Desired minus booked: the one operation behind first bills and every correction (RULEBOOK §11).

A late record, a corrected rate, a changed contract, a moved SIM: each changes what is desired for
some units and usage periods; the difference is booked in the open accounting period, with the
original usage period on the line. A second run finds no difference and books nothing (CL-02).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.schemas import BOOKING
from iotbill_pipelines.engine.statements import statement


def booking(
    compute: Compute, accounting_period: Month, moved: Mapping[str, Month] | None = None
) -> None:
    """Define relation ``booking``: the rows to book (:data:`engine.schemas.BOOKING`).

    Needs the relations ``desired_charge``, ``booked_charge`` (:data:`engine.schemas.BOOKED_CHARGE`:
    what is booked, summed per unit) and ``product``. Both charge relations must cover the same
    usage periods: what is booked and no longer desired is reversed.

    A linear charge gets one line with the difference (reason ``initial`` or ``adjustment``); a
    non-linear one whose amount changed a ``reversal`` and a ``rebill``; one that vanished a
    ``reversal``. Entities in ``moved`` book in the period given there: theirs is closed (CL-01).
    Quantities and records are booked the same way, so that their sums too equal what
    is desired.
    """
    compute.load("booking_period", pa.table({"accounting_period": [str(accounting_period)]}))
    periods = sorted((moved or {}).items())
    compute.load(
        "entity_booking_period",
        pa.table(
            {
                "entity_id": pa.array([entity_id for entity_id, _ in periods], pa.string()),
                "accounting_period": pa.array([str(month) for _, month in periods], pa.string()),
            }
        ),
    )
    compute.define("booking_difference", statement("post", "booking_difference"), keep=True)
    compute.define("booking", conform(statement("post", "booking"), BOOKING), keep=True)
