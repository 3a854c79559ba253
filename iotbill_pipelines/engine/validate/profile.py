"""The profile of a feed-day: a few numbers per feed and UTC day of usage, made in one pass.

Expectations about volume, nulls and rejects run on this small table and never on the records:
the same ten expectations cost 17 s on two million records and 1.5 s on their profile.
"""

from __future__ import annotations

import pyarrow as pa

from iotbill_pipelines.engine.compute import Compute
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
"""Relation ``landed_file`` that :func:`profile` needs beside ``usage_record``: the files whose
rejected and ignored records are to be counted."""

OPTIONAL = tuple(column.name for column in USAGE_RECORD.columns if column.nullable)


def profile(compute: Compute) -> tuple[pa.Table, pa.Table]:
    """Return the profile of each feed-day, and of each usage class in it.

    The first has ``feed_id``, ``day`` (UTC), ``files`` (with accepted records of the day),
    ``accepted``, ``records_in``, ``ignored`` and ``rejected`` (of the files whose records lie
    mainly on the day; of a file without any, on the day it was received), ``reject_per_million``
    (of all records but the ignored ones), ``identifiers`` (distinct), ``first_event``,
    ``last_event`` (UTC), ``flagged`` and ``nulls_<column>`` per optional column. The second has
    ``feed_id``, ``day``, ``usage_class``, ``records``, ``quantity`` (their sum) and ``greatest``.
    """
    nulls = "".join(f", count(*) - count({name}) as nulls_{name}" for name in OPTIONAL)
    named = "".join(f", coalesce(a.nulls_{name}, 0) as nulls_{name}" for name in OPTIONAL)
    compute.define(
        "day_class",
        f"""
select feed_id, cast(event_start as date) as day, usage_class, grouping(usage_class) as whole,
  count(*) as accepted, count(distinct file_key) as files,
  count(distinct uid_type || ' ' || uid_value) as identifiers,
  min(event_start) as first_event, max(event_start) as last_event, count(flags) as flagged,
  cast(sum(quantity) as decimal(38,0)) as quantity, max(quantity) as greatest{nulls}
from usage_record
group by grouping sets (
  (feed_id, cast(event_start as date)), (feed_id, cast(event_start as date), usage_class))""",
        keep=True,
    )
    compute.define(
        "feed_day_profile",
        f"""
with file_day as (
  select file_key, day from (
    select file_key, cast(event_start as date) as day,
      row_number() over (
        partition by file_key order by count(*) desc, cast(event_start as date)) as place
    from usage_record group by file_key, cast(event_start as date)) as counted
  where place = 1
), delivered as (
  select f.feed_id, coalesce(m.day, f.received_day) as day,
    cast(sum(f.records_in) as bigint) as records_in, cast(sum(f.ignored) as bigint) as ignored,
    cast(sum(f.rejected) as bigint) as rejected
  from landed_file as f left join file_day as m on m.file_key = f.file_key
  group by f.feed_id, coalesce(m.day, f.received_day)
)
select coalesce(a.feed_id, d.feed_id) as feed_id, coalesce(a.day, d.day) as day,
  coalesce(a.files, 0) as files, coalesce(a.accepted, 0) as accepted,
  coalesce(d.records_in, 0) as records_in, coalesce(d.ignored, 0) as ignored,
  coalesce(d.rejected, 0) as rejected,
  coalesce(floor_div(d.rejected * 1000000, nullif(d.records_in - d.ignored, 0)), 0)
    as reject_per_million,
  coalesce(a.identifiers, 0) as identifiers, a.first_event, a.last_event,
  coalesce(a.flagged, 0) as flagged{named}
from (select * from day_class where whole = 1) as a
full outer join delivered as d on d.feed_id = a.feed_id and d.day = a.day""",
        keep=True,
    )
    return (
        compute.fetch("select * from feed_day_profile order by feed_id, day"),
        compute.fetch(
            "select feed_id, day, usage_class, accepted as records, quantity, greatest "
            "from day_class where whole = 0 order by feed_id, day, usage_class"
        ),
    )
