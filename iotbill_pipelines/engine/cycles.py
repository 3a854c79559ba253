"""Windows of the cycles in use: what a close of a month has to settle (RULEBOOK §§0.4, 1, 3).

A window is ``[window_start, window_end)`` in local days of the payer's billing zone. It settles in
the close of the month that holds its last day, so that a close never waits for usage to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Cycle, Month, carrier_months
from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.statements import statement

_CYCLE_WINDOW = pa.schema(
    [
        ("cycle", pa.string()),
        ("bill_day", pa.int32()),
        ("window_start", pa.date32()),
        ("window_end", pa.date32()),
        ("last_date", pa.date32()),
        ("days", pa.int64()),
        ("months", pa.int64()),
        ("in_period", pa.bool_()),
    ]
)
_CYCLE_MONTH = pa.schema(
    [
        ("cycle", pa.string()),
        ("bill_day", pa.int32()),
        ("window_start", pa.date32()),
        ("month_start", pa.date32()),
        ("month_end", pa.date32()),
        ("days", pa.int64()),
    ]
)


USED = ("usage", "overage", "combined")
"""Kinds of charges whose windows count usage."""
_CARRIER_MONTH = pa.schema(
    [
        ("bill_day", pa.int32()),
        ("billing_period", pa.string()),
        ("first_date", pa.date32()),
        ("end_date", pa.date32()),
    ]
)


def first_day(cycles: Iterable[str], bill_days: Iterable[int | None], period: Month) -> date:
    """Return the earliest local day of the windows that settle in a period.

    ``cycles`` are those of the charges in use that count usage (:class:`calendars.Cycle` as text),
    ``bill_days`` those of all accounts, None being the first of the month.
    """
    return min(
        start
        for cycle in {*cycles, str(Cycle())}
        for day in {1, *(day for day in bill_days if day is not None)}
        for start, end in Cycle.parse(cycle).windows(period.start, period.end, day)
        if end <= period.end
    )


def open_since(
    cycles: Iterable[str], bill_days: Iterable[int | None], period: Month
) -> date | None:
    """Return the first day of the windows that are open at a period's end; None where none is."""
    starts = [
        start
        for cycle in {*cycles, str(Cycle())}
        for day in {1, *(day for day in bill_days if day is not None)}
        for start, end in Cycle.parse(cycle).windows(period.start, period.end, day)
        if end > period.end
    ]
    return min(starts, default=None)


def load_windows(compute: Compute, period: Month, *, cut: bool = False) -> None:
    """Load the windows around the period, and define who has which.

    ``cycle_window``: a row per cycle of a charge, bill day of an account, and window that shares a
    day with the period, its eve or the month after it, for charges in advance; ``in_period`` marks
    those that share one with the period itself. ``cycle_month`` cuts them into months.
    ``usage_window``: windows that settle in the period in ``settled_period``, with
    ``usage_period``.
    ``charge_cycle`` says for each charge its cycle and whose bill day counts (``cycle_level``: the
    payer's own, or that of the account whose pool the usage draws from), ``account_cycle`` the bill
    days of each account at each such level. ``carrier_month`` has, by bill day, the months of
    vendors that begin on another day than the 1st. ``windowed_usage`` is ``rated_usage`` of
    ``usage_window``, with its window's bounds. Needs ``share_place``.

    With ``cut`` only windows that are open at the period's end, as if they ended there; their days
    stay those of the whole window.
    """
    compute.define("charge_cycle", statement("rate", "charge_cycle"), keep=True)
    compute.define("account_cycle", statement("rate", "account_cycle"), keep=True)
    cycles = compute.fetch("select distinct cycle, kind from charge_cycle").to_pylist()
    days = compute.fetch("select distinct bill_day from account_cycle")["bill_day"].to_pylist()
    windows: list[dict[str, Any]] = []
    months: list[dict[str, object]] = []
    own = not cut
    used = {row["cycle"] for row in cycles if row["kind"] in USED}
    for text in sorted({row["cycle"] for row in cycles}):
        cycle = Cycle.parse(text)
        for day in sorted({*days, 1}):
            key: dict[str, object] = {"cycle": text, "bill_day": day}
            for start, end in cycle.windows(period.start - _DAY, (period + 1).end, day):
                if cut and not start < period.end < end:
                    continue
                until = period.end if cut else end
                inside = start < period.end and end > period.start
                own &= not inside or text not in used or (start, end) == (period.start, period.end)
                windows.append(
                    {
                        **key,
                        "window_start": start,
                        "window_end": until,
                        "last_date": until - _DAY,
                        "days": (end - start).days,
                        "months": cycle.months,
                        "in_period": inside,
                    }
                )
                months += [
                    {
                        **key,
                        "window_start": start,
                        "month_start": month_start,
                        "month_end": month_end,
                        "days": (month_end - month_start).days,
                    }
                    for month_start, month_end in cycle.by_month(start, end, day)
                ]
    compute.load("cycle_window", pa.Table.from_pylist(windows, schema=_CYCLE_WINDOW))
    compute.load("cycle_month", pa.Table.from_pylist(months, schema=_CYCLE_MONTH))
    compute.load("carrier_month", _months_of_carriers(compute, period, windows))
    compute.define("usage_window", statement("rate", "usage_window"), keep=True)
    compute.define("windowed_usage", _PLAIN if own else statement("rate", "windowed_usage"))


def _months_of_carriers(
    compute: Compute, period: Month, windows: Sequence[Mapping[str, Any]]
) -> pa.Table:
    days = compute.fetch(
        "select distinct bill_day from account where kind = 'vendor' and bill_day > 1"
    )["bill_day"].to_pylist()
    first = min([period.start, *(row["window_start"] for row in windows)]) - _DAY
    end = max([period.end, *(row["window_end"] for row in windows)]) + _DAY
    return pa.Table.from_pylist(
        [
            {
                "bill_day": day,
                "billing_period": str(month),
                "first_date": start,
                "end_date": until,
            }
            for day in sorted(days)
            for month, start, until in carrier_months(day, first, end)
        ],
        schema=_CARRIER_MONTH,
    )


_DAY = timedelta(days=1)

_PLAIN = """
select r.*, p.start_date as window_start, p.end_date as window_end
from rated_usage as r
join settled_period as p on p.usage_period = r.usage_period
""".strip()
"""Where every window is the month itself, each record tells it."""
