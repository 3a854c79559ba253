"""What the devices of the sample company do in a month: events, before any carrier writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from random import Random

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.sample.fleet import Fleet, Service


@dataclass(frozen=True)
class Network:
    """A visited network, as each carrier names it and its price zone."""

    mcc: str
    mnc: str
    operator: str
    country: str
    emnify_ratezone: str
    bics_ratezone: str


NETWORKS = (
    Network("262", "01", "Telekom Deutschland", "Germany", "Area 1", "Zone 1"),
    Network("262", "02", "Vodafone Germany", "Germany", "Area 1", "Zone 1"),
    Network("204", "08", "KPN", "Netherlands", "Area 1", "Zone 1"),
    Network("208", "10", "SFR", "France", "Area 1", "Zone 1"),
    Network("232", "01", "A1 Telekom", "Austria", "Area 1", "Zone 1"),
    Network("222", "10", "Vodafone Italy", "Italy", "Area 1", "Zone 1"),
    Network("228", "01", "Swisscom", "Switzerland", "Area 2", "Zone 2"),
    Network("310", "260", "T-Mobile USA", "United States", "Area 2", "Zone 3"),
    Network("208", "01", "Orange France", "France", "Area 1 premium", "Zone 1"),
    Network("234", "15", "Vodafone UK", "United Kingdom", "Area 2", "Zone 2"),
    Network("242", "01", "Telenor", "Norway", "Area 3", "Zone 4"),
)
_ROAMED = (1, 2, 3, 4, 5, 6, 8, 9, 10)


@dataclass(frozen=True)
class Event:
    """One usage event; ``quantity`` in bytes, messages or seconds. Times are UTC, naive."""

    service: Service
    usage_class: str
    start: datetime
    end: datetime
    quantity: int
    up: int
    network: Network
    session: str
    outbound: bool
    peer: str
    id: int


def window(month: Month) -> tuple[datetime, datetime]:
    """Return the UTC span whose events are delivered: every billing zone's whole month."""
    start = datetime.combine(month.start, time(0))
    end = datetime.combine(month.end, time(0))
    return start - timedelta(hours=3), end + timedelta(hours=6)


def month_of_events(fleet: Fleet, rng: Random) -> list[Event]:
    """Draw all natural events of the month, in order of time; ids rise with it."""
    start, end = window(fleet.month)
    drawn = [
        event
        for service in fleet.services
        for event in _service_events(service, start, end, rng)
        if start <= event[1] < end
    ]
    drawn.sort(key=lambda event: (event[1], event[0].service_id, event[2]))
    base = 7_000_000_000 + (fleet.month.year * 12 + fleet.month.month) * 1_000_000
    events = []
    taken: set[tuple[str, str, datetime]] = set()
    for number, (service, moment, usage_class) in enumerate(drawn):
        if (service.iccid, usage_class, moment) in taken:
            continue  # carriers that have no record id tell events apart by their second
        taken.add((service.iccid, usage_class, moment))
        events.append(make_event(service, usage_class, moment, base + number * 3, rng))
    return events


def _service_events(
    service: Service, start: datetime, end: datetime, rng: Random
) -> Iterator[tuple[Service, datetime, str]]:
    """Yield (service, second, usage class) while the service is in use and not silent."""
    first, last = max(start, service.uses_from), min(end, service.uses_to)
    if first >= last:
        return
    profile, carrier = service.profile, service.carrier.name
    span = int((last - first).total_seconds())
    hundredth_days = span * 100 // 86_400
    wanted = {
        "data": 0
        if carrier == "telfix"
        else profile.records_per_100_days * hundredth_days // 10**4,
        "sms": profile.sms_per_month * hundredth_days // 3_100,
        "voice": profile.calls_per_month * hundredth_days // 3_100,
    }
    # Meters report together: the same minute of every hour slot, a few seconds apart.
    slot = rng.randrange(0, 86_400, 900)
    for usage_class, count in wanted.items():
        spread = count // 3
        for _ in range(count + rng.randrange(-spread, spread + 1)):
            moment = first + timedelta(seconds=rng.randrange(span))
            if usage_class == "data" and profile.name == "meter":
                midnight = moment.replace(hour=0, minute=0, second=0)
                moment = midnight + timedelta(seconds=slot + rng.randrange(40))
            silent = service.silent
            if first <= moment < last and not (silent and silent[0] <= moment < silent[1]):
                yield service, moment, usage_class


def make_event(
    service: Service, usage_class: str, moment: datetime, event_id: int, rng: Random
) -> Event:
    """Draw size, duration, network and parties of one event."""
    abroad = service.roams and rng.randrange(100) < 30
    network = NETWORKS[rng.choice(_ROAMED) if abroad else service.home_network]
    session = f"{rng.getrandbits(64):016x}"
    peer = f"4930{rng.randrange(10**6, 10**7):07d}"
    outbound = rng.randrange(100) < 70
    match usage_class:
        case "data":
            quantity = _skewed(service.profile.typical_bytes, rng)
            seconds = 5 + quantity // 20_000 + rng.randrange(600)
            up = quantity * rng.randrange(35, 96) // 100
        case "voice":
            quantity = seconds = rng.choice((0, 4, 18, 30, 31, 47, 65, 118, 240)) + rng.randrange(9)
            up = 0
        case _:
            quantity, seconds, up = 1, 0, int(outbound)
    return Event(
        service,
        usage_class,
        moment,
        moment + timedelta(seconds=seconds),
        quantity,
        up,
        network,
        session,
        outbound,
        peer,
        event_id,
    )


def _skewed(typical: int, rng: Random) -> int:
    """Draw a size: mostly around ``typical``, one in thirty several times as large."""
    size = typical * rng.randrange(30, 170) * rng.randrange(60, 140) // 10_000
    return max(100, size * rng.randrange(3, 12) if rng.randrange(30) == 0 else size)
