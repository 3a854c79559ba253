"""Alerts: each channel hears of an incident once, again after a while, and when it clears.

What was told is remembered in PostgreSQL after the message went out: a process that dies in between
tells twice, never not at all. A channel that fails is tried again later and holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from iotbill_pipelines.config.alerts import AlertPolicy, SecretMissing, address, read_alert_policy
from iotbill_pipelines.config.close import ClosePolicy, read_close_policy
from iotbill_pipelines.operations.close import CHECKLIST, CLOSE_STAGES
from iotbill_pipelines.operations.incidents import TOLD_ONCE, UNCHECKED, Incident, find_incidents
from iotbill_pipelines.operations.locks import advisory_lock
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import messages
from iotbill_pipelines.storage.messages import Kind, NotSent
from iotbill_pipelines.storage.models import AlertChannel, AlertDelivery, AlertIncident

Secret = Callable[[str], str | None]
Event = Literal["opened", "cleared"]

GATES = frozenset(
    {gate.code for stage in CLOSE_STAGES for gate in stage.all_gates}
    | {code for codes in CHECKLIST.values() for code in codes}
) - {"data_quality"}
"""Codes of incidents that are gates of the close; days of feeds are the business of their feed."""

LONGEST_PAUSE = timedelta(hours=1)
CLEARED_KEPT = timedelta(days=7)
"""A channel that was down for longer is not told any more what has cleared meanwhile."""


@dataclass(frozen=True)
class OpenIncident:
    """An incident as people see it, with the channels that hear of it."""

    incident_id: int
    code: str
    severity: str
    subject: str
    feed_id: str | None
    owner: str | None
    message: str
    figure: str
    what_to_do: str
    evidence: str
    opened_at: datetime
    cleared_at: datetime | None
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Sent:
    """What a channel was told: incidents that are new (or worse), still open, or cleared."""

    channel: str
    new: int
    again: int
    cleared: int
    error: str | None = None


@dataclass(frozen=True)
class _Due:
    incident: OpenIncident
    event: Event
    repeated: bool


def _owner(policy: AlertPolicy, close: ClosePolicy, incident: Incident) -> str | None:
    """Whose business an incident is: of a gate as configs/close.yaml says, if it does."""
    of_gate = close.owner_of(incident.code) if incident.code in GATES else ""
    return of_gate or policy.owner_of(incident.code, incident.feed_id)


def refresh(ws: Workspace, policy: AlertPolicy) -> None:
    """Bring the remembered incidents in line with what is wrong now."""
    now, close = ws.clock(), read_close_policy(ws.configs)
    found = {incident.fingerprint: incident for incident in find_incidents(ws, policy, now)}
    unchecked = [code for each in found.values() for code in UNCHECKED.get(each.code, ())]
    with ws.engine.begin() as connection:
        select = sa.select(AlertIncident.fingerprint, AlertIncident.incident_id).where(
            AlertIncident.cleared_at.is_(None), AlertIncident.code.not_in(unchecked)
        )
        known = {row.fingerprint: row.incident_id for row in connection.execute(select)}
        gone = [number for fingerprint, number in known.items() if fingerprint not in found]
        if gone:
            connection.execute(
                sa.update(AlertIncident)
                .where(AlertIncident.incident_id.in_(gone))
                .values(cleared_at=now)
            )
        rows = [
            {
                "fingerprint": fingerprint,
                "code": incident.code,
                "severity": incident.severity,
                "subject": incident.subject,
                "feed_id": incident.feed_id,
                "owner": _owner(policy, close, incident),
                "message": incident.message,
                "figure": incident.figure,
                "what_to_do": incident.what_to_do,
                "evidence": incident.evidence,
                "opened_at": now,
            }
            for fingerprint, incident in found.items()
        ]
        if rows:
            statement = insert(AlertIncident)
            told = ("severity", "owner", "message", "figure", "what_to_do", "evidence")
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[AlertIncident.fingerprint],
                    index_where=AlertIncident.cleared_at.is_(None),
                    set_={name: getattr(statement.excluded, name) for name in told},
                ),
                rows,
            )


def list_alerts(ws: Workspace, *, cleared: bool = False) -> list[OpenIncident]:
    """Return the open incidents as they are now, newest first; with ``cleared`` the past too."""
    policy = read_alert_policy(ws.configs)
    with advisory_lock(ws.engine, "alerts", wait=True):
        refresh(ws, policy)
        return _stored(ws, policy, None if cleared else ws.clock())


def _stored(
    ws: Workspace, policy: AlertPolicy, cleared_after: datetime | None
) -> list[OpenIncident]:
    columns = [column for column in AlertIncident.__table__.columns if column.name != "fingerprint"]
    select = sa.select(*columns).order_by(AlertIncident.opened_at.desc(), AlertIncident.incident_id)
    if cleared_after is not None:
        select = select.where(
            AlertIncident.cleared_at.is_(None) | (AlertIncident.cleared_at > cleared_after)
        )
    with ws.engine.connect() as connection:
        rows = connection.execute(select).mappings().all()
    return [
        OpenIncident(
            **row,
            channels=tuple(
                policy.channels_of(row["code"], row["severity"], row["feed_id"], row["owner"])
            ),
        )
        for row in rows
    ]


def send_alerts(ws: Workspace, secret: Secret, *, now_or_never: bool = False) -> list[Sent]:
    """Tell every channel what it has not heard yet; return what each was told.

    A channel that failed is left alone for a while, unless ``now_or_never``. Raises ConfigError for
    bad configuration; a channel's own failure is in the result.
    """
    policy = read_alert_policy(ws.configs)
    with advisory_lock(ws.engine, "alerts", wait=True):
        refresh(ws, policy)
        incidents = _stored(ws, policy, ws.clock() - CLEARED_KEPT)
        return [
            sent
            for name in policy.channels
            if (sent := _tell(ws, policy, name, incidents, secret, now_or_never)) is not None
        ]


def _tell(
    ws: Workspace,
    policy: AlertPolicy,
    channel: str,
    incidents: Sequence[OpenIncident],
    secret: Secret,
    now_or_never: bool,
) -> Sent | None:
    now = ws.clock()
    due = _due(ws, policy, channel, incidents, now)
    if not due or not (now_or_never or _may_try(ws, channel, now)):
        return None
    title, body, kind = compose(policy, due)
    counted = Sent(
        channel,
        sum(one.event == "opened" and not one.repeated for one in due),
        sum(one.repeated for one in due),
        sum(one.event == "cleared" for one in due),
    )
    error = _send(policy, channel, secret, title, body, kind)
    with ws.engine.begin() as connection:
        _remember_channel(connection, channel, now, error)
        if error is None:
            _remember(connection, channel, due, now)
    return counted if error is None else Sent(channel, 0, 0, 0, error)


def _due(
    ws: Workspace,
    policy: AlertPolicy,
    channel: str,
    incidents: Sequence[OpenIncident],
    now: datetime,
) -> list[_Due]:
    select = sa.select(
        AlertDelivery.incident_id,
        AlertDelivery.event,
        AlertDelivery.severity,
        AlertDelivery.sent_at,
    ).where(AlertDelivery.channel == channel)
    with ws.engine.connect() as connection:
        told = {(row.incident_id, row.event): row for row in connection.execute(select)}
    due = []
    for incident in incidents:
        opened = told.get((incident.incident_id, "opened"))
        if incident.cleared_at is not None:
            if opened and (incident.incident_id, "cleared") not in told:
                due.append(_Due(incident, "cleared", False))
            continue
        hours = policy.channels_of(
            incident.code, incident.severity, incident.feed_id, incident.owner
        ).get(channel)
        if hours is None:
            continue
        if opened is None or (incident.severity == "block" and opened.severity == "warn"):
            due.append(_Due(incident, "opened", False))
        elif incident.code in TOLD_ONCE:
            continue
        elif hours and now - opened.sent_at >= timedelta(hours=hours):
            due.append(_Due(incident, "opened", True))
    return due


def compose(policy: AlertPolicy, due: Sequence[_Due]) -> tuple[str, str, Kind]:
    """Return title, text and kind of one message for everything that a channel is due."""
    new = [one.incident for one in due if one.event == "opened" and not one.repeated]
    again = [one.incident for one in due if one.repeated]
    cleared = [one.incident for one in due if one.event == "cleared"]
    counts = [(len(new), "new"), (len(again), "still open"), (len(cleared), "cleared")]
    title = "iotbill: " + ", ".join(f"{count} {word}" for count, word in counts if count)
    if len(due) == 1:
        title += f" ({due[0].incident.code})"
    left = policy.most_listed
    parts = []
    for heading, listed in (("NEW", new), ("STILL OPEN", again), ("CLEARED", cleared)):
        if not listed:
            continue
        ordered = sorted(listed, key=lambda i: (i.severity != "block", i.code, i.subject))
        shown, left = ordered[:left], max(left - len(ordered), 0)
        lines = [_spelled_out(one, heading == "CLEARED") for one in shown]
        if len(shown) < len(ordered):
            lines.append(f"... and {len(ordered) - len(shown)} more: iotbill alerts list")
        parts.append(f"{heading}\n\n" + "\n\n".join(lines))
    kind: Kind = "success" if not new and not again else "warning"
    if any(incident.severity == "block" for incident in (*new, *again)):
        kind = "failure"
    return title, "\n\n".join(parts), kind


def _spelled_out(incident: OpenIncident, cleared: bool) -> str:
    owner = f" [{incident.owner}]" if incident.owner else ""
    if cleared:
        return f"{incident.code}{owner}: {incident.message.splitlines()[0]}"
    lines = [f"{incident.severity.upper()} {incident.code}{owner}: {incident.message}"]
    for label, text in (
        ("figure", incident.figure),
        ("to do", incident.what_to_do.replace("\n", "; ")),
        ("evidence", incident.evidence),
        ("since", f"{incident.opened_at:%Y-%m-%d %H:%M} UTC"),
    ):
        if text:
            lines.append(f"  {label}: {text}")
    return "\n".join(lines)


def send_test(ws: Workspace, secret: Secret, channel: str | None = None) -> list[Sent]:
    """Send every channel, or one, a message that says it is a test. Raises ValueError for
    a name that there is not."""
    policy = read_alert_policy(ws.configs)
    if channel is not None and channel not in policy.channels:
        known = ", ".join(policy.channels) or "none; add it under channels in configs/alerts.yaml"
        raise ValueError(f"there is no channel {channel!r}; there are: {known}")
    body = f"A test by {ws.actor}: alerts of iotbill arrive here.\nevidence: iotbill alerts list"
    return [
        Sent(name, 0, 0, 0, _send(policy, name, secret, "iotbill: test", body, "info"))
        for name in ([channel] if channel else policy.channels)
    ]


def _send(
    policy: AlertPolicy, channel: str, secret: Secret, title: str, body: str, kind: Kind
) -> str | None:
    """Send, and return why it failed, None if it went out."""
    try:
        url, secrets = address(channel, policy.channels[channel], secret)
        messages.send(url, title, body, kind, secrets)
    except (SecretMissing, NotSent) as error:
        return str(error)
    return None


def _may_try(ws: Workspace, channel: str, now: datetime) -> bool:
    """Whether a channel's pause after failures is over: a minute, doubling up to an hour."""
    select = sa.select(AlertChannel).where(AlertChannel.channel == channel)
    with ws.engine.connect() as connection:
        last = connection.execute(select).first()
    if last is None or not last.failures:
        return True
    pause = min(timedelta(minutes=2 ** min(last.failures - 1, 10)), LONGEST_PAUSE)
    return bool(now >= last.tried_at + pause)


def _remember_channel(
    connection: sa.Connection, channel: str, now: datetime, error: str | None
) -> None:
    failures = 0 if error is None else AlertChannel.failures + 1
    connection.execute(
        insert(AlertChannel)
        .values(channel=channel, tried_at=now, failures=int(error is not None), error=error)
        .on_conflict_do_update(
            index_elements=[AlertChannel.channel],
            set_={"tried_at": now, "failures": failures, "error": error},
        )
    )


def _remember(connection: sa.Connection, channel: str, due: Sequence[_Due], now: datetime) -> None:
    statement = insert(AlertDelivery)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[
                AlertDelivery.incident_id, AlertDelivery.channel, AlertDelivery.event,
            ],
            set_={
                "severity": statement.excluded.severity,
                "sent_at": statement.excluded.sent_at,
                "times": AlertDelivery.times + 1,
            },
        ),
        [
            {
                "incident_id": one.incident.incident_id,
                "channel": channel,
                "event": one.event,
                "severity": one.incident.severity,
                "times": 1,
                "sent_at": now,
            }
            for one in due
        ],
    )  # fmt: skip
