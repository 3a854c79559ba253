"""The profile of a feed-day: a few numbers per feed and day received, made in one pass.

Expectations about volume, nulls and rejects run on this small table and never on the records:
the same ten expectations cost 17 s on two million records and 1.5 s on their profile.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.feeds import sql
from iotbill_pipelines.engine.schemas import USAGE_RECORD

LANDED_FILE = pa.schema(
    [
        pa.field("file_key", pa.int64()),
        pa.field("feed_id", pa.string()),
        pa.field("received_day", pa.date32()),
        pa.field("records_in", pa.int64()),
        pa.field("ignored", pa.int64()),
        pa.field("rejected", pa.int64()),
    ]
)
"""Relation ``landed_file`` that :func:`profile` needs beside ``usage_record``."""

OPTIONAL = tuple(column.name for column in USAGE_RECORD.columns if column.nullable)


def profile(compute: Compute, usage_classes: Sequence[str] = ()) -> pa.Table:
    """Define and return ``feed_day_profile``, a row per feed and day received.

    Columns: ``feed_id``, ``day``, ``files``, ``records_in``, ``accepted``, ``ignored``,
    ``rejected``, ``reject_per_million`` (of all records but the ignored ones), ``identifiers``
    (distinct), ``first_event``, ``last_event`` (UTC), ``flagged``, per optional column
    ``nulls_<column>``, and per class of ``usage_classes`` ``quantity_<class>``.
    """
    nulls = "".join(f", count(*) - count(u.{name}) as nulls_{name}" for name in OPTIONAL)
    quantities = "".join(
        ", cast(coalesce(sum(case when u.usage_class = "
        + sql.render(sql.text(name))
        + " then u.quantity end), 0) as decimal(38,0)) as "
        + sql.render(sql.column(f"quantity_{name}"))
        for name in usage_classes
    )
    named = "".join(f", coalesce(r.nulls_{name}, 0) as nulls_{name}" for name in OPTIONAL)
    summed = "".join(
        f", coalesce(r.{column}, 0) as {column}"
        for column in (sql.render(sql.column(f"quantity_{name}")) for name in usage_classes)
    )
    compute.define(
        "feed_day_profile",
        f"""
select d.feed_id, d.day, d.files, d.records_in, coalesce(r.accepted, 0) as accepted,
  d.ignored, d.rejected,
  coalesce(floor_div(d.rejected * 1000000, nullif(d.records_in - d.ignored, 0)), 0)
    as reject_per_million,
  coalesce(r.identifiers, 0) as identifiers, r.first_event, r.last_event,
  coalesce(r.flagged, 0) as flagged{named}{summed}
from (
  select feed_id, received_day as day, count(*) as files,
    cast(sum(records_in) as bigint) as records_in, cast(sum(ignored) as bigint) as ignored,
    cast(sum(rejected) as bigint) as rejected
  from landed_file group by feed_id, received_day
) as d
left join (
  select f.feed_id, f.received_day as day, count(*) as accepted,
    count(distinct u.uid_type || ' ' || u.uid_value) as identifiers,
    min(u.event_start) as first_event, max(u.event_start) as last_event,
    count(u.flags) as flagged{nulls}{quantities}
  from usage_record as u join landed_file as f on f.file_key = u.file_key
  group by f.feed_id, f.received_day
) as r on r.feed_id = d.feed_id and r.day = d.day""",
        keep=True,
    )
    return compute.fetch("select * from feed_day_profile order by feed_id, day")
