"""Which promised files have not come: days without files, and gaps in their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from iotbill_pipelines.config.deliveries import Delivery, read_deliveries
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage.models import FeedFile, FileStatement


@dataclass(frozen=True)
class Missing:
    """A feed's day that lacks files: how many came of how many, or which numbers are left out.

    ``since`` is the first of the due days up to this one that all lack files.
    """

    feed_id: str
    day: date
    came: int
    due: int
    since: date
    numbers: tuple[int, ...] = ()


def missing_files(ws: Workspace, now: datetime, since: date | None = None) -> list[Missing]:
    """Return the days, by feed, whose files are due and not there; an unread file has come.

    Looks back to ``since``, or as far as configs/deliveries.yaml says.
    """
    config = read_deliveries(ws.configs)
    wanted = {delivery.feed: delivery for delivery in config.deliveries}
    oldest = since or now.date() - timedelta(days=config.look_back_days)
    ours = FeedFile.feed_id.in_(list(wanted))
    companions = sa.select(FileStatement.file_key).where(FileStatement.feed_id.in_(list(wanted)))
    recent = sa.select(FeedFile.feed_id, FeedFile.original_name).where(
        ours,
        FeedFile.received_day >= oldest - timedelta(days=1),
        FeedFile.file_key.not_in(companions),
    )
    before = sa.select(FeedFile.feed_id).where(ours, FeedFile.received_day < oldest).distinct()
    names: dict[str | None, list[str]] = {feed: [] for feed in wanted}
    with ws.engine.connect() as connection:
        for feed, name in connection.execute(recent):
            names[feed].append(name)
        known = set(connection.execute(before).scalars())
    return [
        found
        for feed, delivery in wanted.items()
        for found in missing_of(delivery, names[feed], oldest if feed in known else None, now)
        if found.day >= oldest
    ]


def missing_of(
    delivery: Delivery, names: Iterable[str], known_since: date | None, now: datetime
) -> list[Missing]:
    """Return the days of a promise whose files are due at ``now`` and not among ``names``.

    Without ``delivery.since`` a feed is due from its first file on, or from ``known_since``.
    """
    came: dict[date, list[int | None]] = {}
    for name in names:
        if told := delivery.day_of(name):
            came.setdefault(told[0], []).append(told[1])
    first = min([*came, *([known_since] if known_since else [])], default=None)
    if first is None and delivery.since is None:
        return []
    found: list[Missing] = []
    since: date | None = None
    for day in delivery.due_days(first or date.max, now):
        files = came.get(day, [])
        numbers = {number for number in files if number is not None}
        left_out = sorted(set(range(min(1, *numbers), max(numbers))) - numbers) if numbers else []
        if len(files) >= delivery.files and not left_out:
            since = None
            continue
        since = since or day
        found.append(
            Missing(delivery.feed, day, len(files), delivery.files, since, tuple(left_out))
        )
    return found
