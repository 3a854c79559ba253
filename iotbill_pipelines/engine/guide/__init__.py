"""Guiding: whose usage it is, in which state and on which offers (RULEBOOK §§1, 5, 7; MD-10).

Owners and offers become disjoint intervals once, for few rows; records then join them by equality
and an instant between two others. Local dates come from a quarter-hour calendar per billing zone,
because converting a time zone for every record costs more than joining one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from iotbill_pipelines.engine.calendars import Cycle, Month, months_between, quarter_offsets
from iotbill_pipelines.engine.compute import Compute, conform
from iotbill_pipelines.engine.schemas import SERVICE_ACTIVATION
from iotbill_pipelines.engine.statements import statement
from iotbill_pipelines.engine.windows import Window, band, read_windows

_MICROSECOND = timedelta(microseconds=1)
_QUARTER_MICROS = timedelta(minutes=15) // _MICROSECOND

_LOCAL_CALENDAR = pa.schema(
    [
        ("billing_zone", pa.string()),
        ("quarter_utc", pa.timestamp("us")),
        ("local_date", pa.date32()),
        ("usage_period", pa.string()),
        ("band", pa.string()),
        ("band_no", pa.int64()),
    ]
)
_BAND_INTERVAL = pa.schema(
    [
        ("billing_zone", pa.string()),
        ("band_no", pa.int64()),
        ("band", pa.string()),
        ("from_utc", pa.timestamp("us")),
        ("to_utc", pa.timestamp("us")),
    ]
)
_OFFER_SWITCH = pa.schema(
    [
        ("window_start", pa.date32()),
        ("level", pa.string()),
        ("account_id", pa.string()),
        ("service_id", pa.string()),
        ("offer_id", pa.string()),
        ("held_offer_id", pa.string()),
    ]
)
_CHANGE_WINDOW = pa.schema(
    [
        ("cycle", pa.string()),
        ("bill_day", pa.int32()),
        ("window_start", pa.date32()),
        ("window_end", pa.date32()),
    ]
)
_FIRST_USE_ROW = pa.schema(
    [
        ("file_key", pa.int64()),
        ("line_no", pa.int64()),
        ("part_no", pa.int32()),
        ("level", pa.string()),
        ("billed_quantity", pa.int64()),
        ("pooled", pa.bool_()),
    ]
)
_ZONE_DAY = pa.schema(
    [
        ("billing_zone", pa.string()),
        ("local_date", pa.date32()),
        ("starts_utc", pa.timestamp("us")),
    ]
)


def define_day_intervals(compute: Compute) -> None:
    """Define ``service_state_interval`` and ``service_offer_interval``, disjoint by local day.

    ``offer_extension`` says by how many days suspensions moved an offer's agreed end (ST-23).
    """
    _define_states(compute, "service_state")
    compute.define("offer_extension", statement("guide", "offer_extension"))
    compute.define(
        "service_offer_interval", statement("guide", "service_offer_interval"), keep=True
    )


def change_plans(compute: Compute, period: Month) -> None:
    """Let changes between offers of plans with ``plan_change: cycle`` count by window (SP-19).

    Redefines ``service_offer_interval`` and defines ``offer_switch``: the offer that a service is
    taken to have had in a window, where it used under another. The windows are those of the period
    and, for charges in advance, of the next. Needs ``account_cycle`` and
    :func:`define_day_intervals`.
    """
    asked = "select count(*) as offers from offer where plan_change = 'cycle'"
    if not compute.fetch(asked)["offers"][0].as_py():
        compute.load("offer_switch", _OFFER_SWITCH.empty_table())
        return
    cycles = compute.fetch("select distinct cycle from share_plan")["cycle"].to_pylist()
    days = compute.fetch("select distinct bill_day from account_cycle")["bill_day"].to_pylist()
    windows = [
        {"cycle": cycle, "bill_day": day, "window_start": start, "window_end": end}
        for cycle in sorted(cycles)
        for day in sorted(days)
        for start, end in Cycle.parse(cycle).windows(period.start, (period + 1).end, day)
    ]
    compute.load("change_window", pa.Table.from_pylist(windows, schema=_CHANGE_WINDOW))
    for step in ("offer_piece", "offer_switch", "offer_held"):
        compute.define(step, statement("guide", step), keep=True)
    compute.define("service_offer_interval", "select * from offer_held", keep=True)


def _define_states(compute: Compute, source: str) -> None:
    text = statement("guide", "service_state_interval").replace("state_source", source)
    compute.define("service_state_interval", text, keep=True)


def activate_first_use(compute: Compute) -> None:
    """Define ``known_state`` and ``first_use_row``: who became active by using it (RULEBOOK §2).

    ``known_state`` is ``service_state`` with the changes that first use or the end of its window
    brings about; ``service_state_interval`` is made of it anew. ``first_use_row`` says for every
    record of a service that waits, or waited, how much of it is billed and whether it draws from
    pools. Needs :func:`define_day_intervals` and ``rated_usage`` since the services were added:
    a late record moves the date, until its period is closed: ``closed_activation``
    (:data:`schemas.SERVICE_ACTIVATION`) holds the dates that stay. Defines ``service_activation``,
    the dates of ``settled_period``.
    """
    if not compute.fetch("first_use").num_rows:
        compute.define("known_state", "select service_id, changed_at, state from service_state")
        compute.load("first_use_row", _FIRST_USE_ROW.empty_table())
        compute.load("service_activation", SERVICE_ACTIVATION.arrow_schema.empty_table())
        return
    for step in ("first_use_wait", "first_use_event", "first_use_activation"):
        compute.define(step, statement("guide", step), keep=True)
    compute.define("first_use_row", statement("guide", "first_use_row"), keep=True)
    compute.define("known_state", statement("guide", "known_state"), keep=True)
    dates = conform(statement("guide", "service_activation"), SERVICE_ACTIVATION)
    compute.define("service_activation", dates)
    _define_states(compute, "known_state")


def load_calendar(compute: Compute, first: datetime | None, last: datetime | None) -> None:
    """Load ``local_calendar``, ``band_interval``, ``zone_day`` and ``calendar_bound``.

    ``first`` and ``last`` are the earliest and latest UTC instant of usage, or None without usage.
    ``band_interval`` has the stretches of time in which the same time windows of the catalog hold,
    numbered. ``local_calendar`` has a row per zone and UTC quarter hour, which lies in one of them;
    ``zone_day`` the UTC instant at which each local date begins (a date that a zone skipped begins
    where the next one does).
    Raises zoneinfo.ZoneInfoNotFoundError for a zone that IANA does not know.
    """
    zones: list[str] = compute.fetch("select distinct billing_zone from account")[
        "billing_zone"
    ].to_pylist()
    if first is None or last is None:
        first = last = datetime(1970, 1, 2)  # noqa: DTZ001 - UTC, naive, as everywhere in the engine
    margin = timedelta(days=2)
    windows = read_windows(
        compute.fetch("time_window").to_pylist(), compute.fetch("holiday").to_pylist()
    )
    calendars: list[pa.Table] = []
    bands: list[tuple[str, int, str, datetime, datetime]] = []
    days: list[tuple[str, date, datetime]] = []
    midnight = datetime.combine(first.date(), time()) - margin
    end = datetime.combine(last.date(), time()) + margin + timedelta(days=1)
    for zone in sorted(zones):
        quarters = _quarters(zone, midnight, end)
        calendar, held = _with_bands(zone, quarters, windows)
        calendars.append(calendar)
        bands += held
        days += _days(zone, quarters)
    none = _LOCAL_CALENDAR.empty_table()
    compute.load("local_calendar", pa.concat_tables(calendars) if calendars else none)
    compute.load("band_interval", _rows(bands, _BAND_INTERVAL))
    compute.load("zone_day", _rows(days, _ZONE_DAY))
    compute.load(
        "calendar_bound",
        pa.table({"first_date": pa.array([first.date() - timedelta(days=1)], pa.date32())}),
    )


@lru_cache(maxsize=64)
def _quarters_of_month(zone: str, month: Month) -> pa.Table:
    """The quarter hours of a UTC month with their local date, its month, and minute of the day."""
    start, end = (datetime.combine(day, time()) for day in (month.start, month.end))
    since, until = ((at - datetime(1970, 1, 1)) // _MICROSECOND for at in (start, end))  # noqa: DTZ001
    quarters = pa.array(range(since, until, _QUARTER_MICROS), pa.int64()).cast(pa.timestamp("us"))
    ahead = pa.array(quarter_offsets(zone, start, end), pa.int64())
    local = pc.add(quarters, pc.multiply(ahead, pa.scalar(timedelta(minutes=1))))
    columns = {
        "quarter_utc": quarters,
        "local_date": local.cast(pa.date32()),
        "usage_period": pc.strftime(local, "%Y-%m"),
        "minute": pc.add(pc.multiply(pc.hour(local), 60), pc.minute(local)).cast(pa.int32()),
    }
    return pa.table(columns)


def _quarters(zone: str, since: datetime, until: datetime) -> pa.Table:
    """The quarter hours of a span of UTC days, in order."""
    months = months_between(Month.of(since.date()), Month.of(until.date()))
    found = pa.concat_tables([_quarters_of_month(zone, month) for month in months])
    begun = pc.greater_equal(found["quarter_utc"], pa.scalar(since, pa.timestamp("us")))
    ended = pc.less(found["quarter_utc"], pa.scalar(until, pa.timestamp("us")))
    return found.filter(pc.and_(begun, ended))


def _with_bands(
    zone: str, quarters: pa.Table, windows: Sequence[Window]
) -> tuple[pa.Table, list[tuple[str, int, str, datetime, datetime]]]:
    """A zone's rows of ``local_calendar`` and ``band_interval``."""
    moments = quarters["quarter_utc"]
    names, numbers = [""] * len(quarters), [0] * len(quarters)
    bands = []
    since, held, band_no = moments[0].as_py(), "", 0
    if windows:
        minutes = zip(
            moments.to_pylist(),
            quarters["local_date"].to_pylist(),
            quarters["minute"].to_pylist(),
            strict=True,
        )
        for place, (quarter, local_date, minute) in enumerate(minutes):
            now = band(windows, local_date, minute)
            if now != held:
                if quarter > since:
                    bands.append((zone, band_no, held, since, quarter))
                since, held, band_no = quarter, now, band_no + 1
            names[place], numbers[place] = now, band_no
    bands.append((zone, band_no, held, since, datetime(9999, 12, 31)))  # noqa: DTZ001
    columns = [
        pa.array([zone] * len(quarters), pa.string()),
        *(quarters[name] for name in ("quarter_utc", "local_date", "usage_period")),
        pa.array(names, pa.string()),
        pa.array(numbers, pa.int64()),
    ]
    return pa.table(columns, schema=_LOCAL_CALENDAR), bands


def _days(zone: str, quarters: pa.Table) -> list[tuple[str, date, datetime]]:
    """A zone's rows of ``zone_day``, the latest first."""
    grouped = quarters.group_by("local_date").aggregate([("quarter_utc", "min")])
    begins = dict(
        zip(grouped["local_date"].to_pylist(), grouped["quarter_utc_min"].to_pylist(), strict=True)
    )
    day, starts = max(begins), max(begins.values())
    days = []
    while day >= min(begins):
        starts = begins.get(day, starts)
        days.append((zone, day, starts))
        day -= timedelta(days=1)
    return days


def define_instants(compute: Compute) -> None:
    """Define ``owner_interval``, ``state_instant`` and ``offer_instant`` for joining records.

    Needs :func:`define_day_intervals` and :func:`load_calendar`.
    """
    define_owners(compute)
    for step in ("state_instant", "offer_instant"):
        compute.define(step, statement("guide", step), keep=True)


def define_owners(compute: Compute) -> None:
    """Define ``owner_interval``: which service an identifier meant, in UTC."""
    compute.define("owner_interval", statement("guide", "owner_interval"), keep=True)


def _rows(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
