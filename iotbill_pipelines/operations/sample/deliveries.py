"""Which events a carrier delivers on which day, and what goes wrong on the way.

Every record of a carrier's file is a :class:`Row` that knows its fate, so that what a close
reports can be held against what was planted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from random import Random

from iotbill_pipelines.operations.sample.fleet import (
    ALWAYS,
    CARRIERS,
    METER,
    Account,
    Carrier,
    Fleet,
    Service,
    numbers_of,
)
from iotbill_pipelines.operations.sample.traffic import Event, make_event, window


@dataclass(frozen=True)
class Row:
    """A record as delivered: the event, its fate, and for broken ones how it is broken.

    ``outcome`` is kept, ignored, duplicate, rejected or suspended; ``kind`` names what was
    planted, empty for ordinary records.
    """

    event: Event
    outcome: str = "kept"
    kind: str = ""
    defect: str = ""


DEFECTS = ("bad_time", "bad_quantity", "negative_quantity", "no_identifier", "cut_off")
"""Ways in which a malformed line is broken; each carrier writes them in its own layout."""


class Deliveries:
    """The rows of one carrier by UTC day of delivery."""

    def __init__(self, fleet: Fleet, carrier: Carrier, events: list[Event], rng: Random) -> None:
        self.month = fleet.month
        self.fleet = fleet
        self.carrier = carrier
        self.rng = rng
        self.days: dict[date, list[Row]] = defaultdict(list)
        start, end = window(fleet.month)
        day = start.date()
        while day <= end.date():
            self.days[day] = []
            day += timedelta(days=1)
        for event in events:
            self.days[event.start.date()].append(Row(event))
        self.next_id = max((event.id for event in events), default=1) + 1
        self.many = max(1, len(fleet.services) // 100)

    def spoil(self) -> dict[date, list[Row]]:
        """Plant every imperfection; return the rows by day, in the order of the file."""
        self._duplicates_in_a_file()
        self._duplicates_across_files()
        self._conflicts()
        self._unknown_sims()
        self._after_cancel()
        self._while_suspended()
        self._late()
        self._ignored()
        self._malformed()
        return dict(sorted(self.days.items()))

    # A day in the middle of the month, away from the plan changes' first days.
    def _some_day(self, first: int = 1, last: int = 26) -> date:
        return self.month.start + timedelta(days=self.rng.randrange(first, last))

    def _ordinary(self, day: date) -> int | None:
        """Draw a position of an ordinary record with something in it."""
        choices = [
            index
            for index, row in enumerate(self.days[day])
            if row.kind == "" and row.event.quantity > 1_000
        ] or [index for index, row in enumerate(self.days[day]) if row.kind == ""]
        return self.rng.choice(choices) if choices else None

    def _insert(self, day: date, row: Row, at: int | None = None) -> None:
        rows = self.days[day]
        rows.insert(self.rng.randrange(len(rows) + 1) if at is None else at, row)

    def _event(self, service: Service, usage_class: str, moment: datetime) -> Event:
        self.next_id += 1
        return make_event(service, usage_class, moment, self.next_id, self.rng)

    def _common_class(self) -> str:
        return "voice" if self.carrier.name == "telfix" else "data"

    def _duplicates_in_a_file(self) -> None:
        for _ in range(3 * self.many):
            day = self._some_day()
            at = self._ordinary(day)
            if at is not None:
                row = replace(self.days[day][at], kind="duplicate_in_file", outcome="duplicate")
                self._insert(day, row, min(len(self.days[day]), at + 1 + self.rng.randrange(6)))

    def _duplicates_across_files(self) -> None:
        for _ in range(2 * self.many):
            day = self._some_day()
            at = self._ordinary(day)
            if at is not None:
                row = replace(self.days[day][at], kind="duplicate_in_later_file")
                self._insert(day + timedelta(days=1), replace(row, outcome="duplicate"))

    def _conflicts(self) -> None:
        """The same record again with another quantity: nobody can say which one is right.

        The lesser one is rated, so that nobody pays for what the versions do not agree on; the
        other waits.
        """
        for _ in range(max(1, self.many // 3)):
            day = self._some_day()
            untouched = [
                at
                for at, row in enumerate(self.days[day])
                if row.kind == ""
                and row.event.usage_class == self._common_class()
                and row.event.quantity > 1
                and not self._copied(row.event)
            ]
            if not untouched:
                continue
            at = self.rng.choice(untouched)
            row = replace(self.days[day][at], kind="conflicting_resend")
            self.days[day][at] = row
            event = row.event
            more = replace(event, quantity=event.quantity + event.quantity // 2 + 1)
            self._insert(day + timedelta(days=1), replace(row, event=more, outcome="suspended"))

    def _copied(self, event: Event) -> bool:
        rows = self.days[event.start.date()] + self.days[event.start.date() + timedelta(days=1)]
        return sum(row.event.id == event.id for row in rows) > 1

    def _unknown_sims(self) -> None:
        for number in range(max(1, self.many // 2)):
            ghost = ghost_service(self.carrier, 900_000 + 13 * number, self.fleet)
            for _ in range(4):
                moment = self._moment(self._some_day())
                event = self._event(ghost, self._common_class(), moment)
                self._insert(moment.date(), Row(event, "suspended", "unknown_sim"))

    def _after_cancel(self) -> None:
        for service in self._with_story("cancelled"):
            for _ in range(2):
                moment = service.uses_to + timedelta(
                    days=self.rng.randrange(2, 5), seconds=self.rng.randrange(80_000)
                )
                event = self._event(service, self._common_class(), moment)
                self._insert(moment.date(), Row(event, "suspended", "after_cancel"))

    def _while_suspended(self) -> None:
        for service in self._with_story("suspended"):
            if service.silent is not None:
                moment = service.silent[0] + timedelta(
                    days=self.rng.randrange(1, 4), seconds=self.rng.randrange(80_000)
                )
                event = self._event(service, self._common_class(), moment)
                self._insert(moment.date(), Row(event, "kept", "used_while_suspended"))

    def _late(self) -> None:
        """Records of the month before, delivered in the first days of this one."""
        quiet = [s for s in self._all() if not s.story]
        for _ in range(4 * self.many):
            if not quiet:
                return
            last = self.month.start - timedelta(days=1)
            moment = datetime.combine(last, time(0)) - timedelta(
                days=self.rng.randrange(1, 6), seconds=self.rng.randrange(80_000)
            )
            event = self._event(self.rng.choice(quiet), self._common_class(), moment)
            self._insert(self._some_day(1, 4), Row(event, "kept", "late_record"))

    def _ignored(self) -> None:
        """Records that the feed's configuration leaves out on purpose."""
        for _ in range(6 * self.many):
            day = self._some_day(0, 27)
            event = self._event(
                self.rng.choice(self._all()), self._common_class(), self._moment(day)
            )
            self._insert(day, Row(event, "ignored", "filtered_record_type"))

    def _malformed(self) -> None:
        for defect in DEFECTS:
            if defect == "negative_quantity" and self.carrier.name == "telfix":
                continue  # its field has no room for a sign
            day = self._some_day()
            event = self._event(
                self.rng.choice(self._all()), self._common_class(), self._moment(day)
            )
            self._insert(day, Row(event, "rejected", "malformed", defect))

    def _moment(self, day: date) -> datetime:
        return datetime.combine(day, time(0)) + timedelta(seconds=self.rng.randrange(86_400))

    def _all(self) -> list[Service]:
        return [service for service in self.fleet.services if service.carrier is self.carrier]

    def _with_story(self, story: str) -> Iterator[Service]:
        return (service for service in self._all() if story in service.story)


def ghost_service(carrier: Carrier, serial: int, fleet: Fleet) -> Service:
    """Return a SIM that no inventory knows."""
    iccid, imsi, msisdn, imei = numbers_of(carrier, serial)
    nobody = Account("", "", "customer", "UTC")
    like = fleet.services[0]
    return replace(
        like,
        service_id="",
        label="",
        account=nobody,
        carrier=carrier,
        profile=METER,
        iccid=iccid,
        imsi=imsi,
        msisdn=msisdn,
        imei=imei,
        states=[],
        offers=[],
        owned_from=ALWAYS,
        story=[],
        silent=None,
    )


def deliveries(fleet: Fleet, events: list[Event], rng: Random) -> dict[str, dict[date, list[Row]]]:
    """Return every carrier's rows by day."""
    by_carrier: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_carrier[event.service.carrier.name].append(event)
    return {
        carrier.name: Deliveries(fleet, carrier, by_carrier[carrier.name], rng).spoil()
        for carrier in CARRIERS
    }
