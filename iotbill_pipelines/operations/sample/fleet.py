"""The customers, SIMs, states and contracts of the sample company, and what its carriers are.

Everything follows from (month, number of services, seed). Integers only: no amount and no size
passes through a binary fraction, so every machine draws the same company.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from zoneinfo import ZoneInfo

from iotbill_pipelines.engine.calendars import Month

ENTITY = "NL01"

ALWAYS = datetime.fromisoformat("1970-01-01")
FOREVER = datetime.fromisoformat("9999-01-01")
"""UTC; bounds of a service that has none in the month."""


@dataclass(frozen=True)
class Account:
    """A customer or a carrier, as a row of accounts.csv."""

    account_id: str
    name: str
    kind: str
    billing_zone: str
    parent: str = ""
    group: str = ""


@dataclass(frozen=True)
class Carrier:
    """A carrier: its account, its number ranges, and the offers of its SIMs.

    ``offers`` are (retail offer, weight) for services whose account has no fleet contract.
    """

    account: Account
    vendor_offer: str
    iccid_prefix: str
    imsi_prefix: str
    msisdn_prefix: str
    weight: int
    offers: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        return self.account.account_id


CARRIERS = (
    Carrier(
        Account("emnify", "emnify GmbH", "vendor", "UTC"),
        vendor_offer="emnify_standard",
        iccid_prefix="8988303",
        imsi_prefix="295050",
        msisdn_prefix="4236639",
        weight=45,
        offers=(("payg", 40), ("iot_data", 45), ("sms_volume", 15)),
    ),
    Carrier(
        Account("bics", "BICS SA", "vendor", "UTC"),
        vendor_offer="bics_things",
        iccid_prefix="8932042",
        imsi_prefix="20601",
        msisdn_prefix="32468",
        weight=33,
        offers=(("payg", 50), ("iot_data", 40), ("sms_volume", 10)),
    ),
    Carrier(
        Account("telfix", "telfix Telecom B.V.", "vendor", "Europe/Berlin"),
        vendor_offer="telfix_voice",
        iccid_prefix="8931970",
        imsi_prefix="20409",
        msisdn_prefix="31970",
        weight=10,
        offers=(("voice_alarm", 1),),
    ),
    Carrier(
        Account("xl", "XL Connectivity Ltd", "vendor", "UTC"),
        vendor_offer="xl_flat",
        iccid_prefix="8997235",
        imsi_prefix="42507",
        msisdn_prefix="9723300",
        weight=12,
        offers=(("iot_data", 60), ("voice_alarm", 40)),
    ),
)

_CUSTOMERS = (
    "Nordlicht Energie,Alpenmess Service,Kanalwerk Delta,Blaue Flotte Logistik,Hofgut Sensorik,"
    "Liftwart Notruf,Ostsee Pegel,Rheintal Wasser,Kaltkette Frisch,Parkraum Sued,"
    "Wiesengrund Agrar,Stadtlicht Steuerung,Silberpfeil Verleih,Turmkran Telemetrie,"
    "Heidekraut Imkerei,Bahnsteig Info,"
    "Morgenrot Solar,Kiesgrube Waagen,Hafenmeister Bojen,Glashaus Klima,Windpark Nordkette,"
    "Zaehlpunkt Ablesung,Eulenspiegel Alarm,Feldscheune Silo,Gletscher Messnetz"
).split(",")
_AMERICAN_CUSTOMERS = ("Harbor Point Meters", "Lakeshore Reefer Tracking")


@dataclass(frozen=True)
class Profile:
    """How a device behaves: data records a day, bytes of one record, and messages per month."""

    name: str
    records_per_100_days: int
    typical_bytes: int
    sms_per_month: int
    calls_per_month: int = 0


METER = Profile("meter", 150, 4_200, 2)
TRACKER = Profile("tracker", 520, 125_000, 3)
GATEWAY = Profile("gateway", 1_100, 1_450_000, 1)
MESSENGER = Profile("messenger", 40, 3_000, 75)
ALARM = Profile("alarm", 30, 9_000, 22, 31)


@dataclass
class Service:
    """One SIM at one customer. ``uses_from`` and ``uses_to`` bound its natural traffic (UTC)."""

    service_id: str
    label: str
    account: Account
    carrier: Carrier
    profile: Profile
    iccid: str
    imsi: str
    msisdn: str
    imei: str
    home_network: int
    roams: bool
    states: list[tuple[datetime, str]]
    offers: list[tuple[date, date | None, str]]
    uses_from: datetime
    uses_to: datetime
    owned_from: datetime
    owned_to: datetime | None = None
    silent: tuple[datetime, datetime] | None = None
    story: list[str] = field(default_factory=list)

    def state_segments(self, start: date, end: date) -> list[tuple[date, date, str]]:
        """Return (first day, day after, state) within ``[start, end)``; a day has its last."""
        by_day = {moment.date(): state for moment, state in sorted(self.states)}
        segments = []
        days = sorted(by_day)
        for number, day in enumerate(days):
            after = days[number + 1] if number + 1 < len(days) else end
            first, last = max(day, start), min(after, end)
            if first < last:
                segments.append((first, last, by_day[day]))
        return segments


@dataclass(frozen=True)
class Fleet:
    month: Month
    accounts: list[Account]
    services: list[Service]


def luhn_digit(digits: str) -> str:
    """Return the check digit that makes ``digits`` + it pass the Luhn test."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def numbers_of(carrier: Carrier, serial: int) -> tuple[str, str, str, str]:
    """Return the (ICCID, IMSI, MSISDN, IMEI) of the carrier's SIM number ``serial``."""
    body = carrier.iccid_prefix + f"{serial:0{19 - len(carrier.iccid_prefix)}d}"
    imsi = carrier.imsi_prefix + f"{serial:0{15 - len(carrier.imsi_prefix)}d}"
    width = 13 - len(carrier.msisdn_prefix)
    imei = "86773005" + f"{serial % 10**6:06d}"
    return (
        body + luhn_digit(body),
        imsi,
        carrier.msisdn_prefix + f"{serial % 10**width:0{width}d}",
        imei + luhn_digit(imei),
    )


def build_fleet(month: Month, services: int, rng: Random) -> Fleet:
    """Draw the company: about one account per 25 services, two of them in New York."""
    count = max(6, services // 25)
    accounts = [
        Account(
            f"C{number + 1:04d}",
            _customer_name(number),
            "customer",
            "Europe/Berlin",
            group="fleet" if number % 4 == 1 else "standard",
        )
        for number in range(count - 2)
    ]
    # A group of companies: the third account reports to the second.
    accounts[2] = Account(
        accounts[2].account_id,
        accounts[2].name,
        "customer",
        "Europe/Berlin",
        parent=accounts[1].account_id,
        group="standard",
    )
    accounts += [
        Account(
            f"C{count - 1 + number:04d}", name, "customer", "America/New_York", group="standard"
        )
        for number, name in enumerate(_AMERICAN_CUSTOMERS)
    ]
    draw = [carrier for carrier in CARRIERS for _ in range(carrier.weight)]
    fleet = [
        _service(month, number, accounts[number % count], rng.choice(draw), rng)
        for number in range(services)
    ]
    # What a spreadsheet would take for a formula is only a name; nothing may ever run it.
    fleet[0].label = '=HYPERLINK("http://example.invalid","meter 1")'
    fleet[0].story.append("formula_text")
    _tell_stories(month, fleet, accounts, rng)
    return Fleet(month, accounts + [carrier.account for carrier in CARRIERS], fleet)


def _customer_name(number: int) -> str:
    turn, index = divmod(number, len(_CUSTOMERS))
    return f"{_CUSTOMERS[index]} GmbH" if turn == 0 else f"{_CUSTOMERS[index]} {turn + 1} GmbH"


def _service(month: Month, number: int, account: Account, carrier: Carrier, rng: Random) -> Service:
    serial = number * 7 + 10_000 + rng.randrange(7)
    iccid, imsi, msisdn, imei = numbers_of(carrier, serial)
    fleet_account = account.group == "fleet" and carrier.name in ("emnify", "bics")
    offer = "fleet" if fleet_account else _weighted(carrier.offers, rng)
    profile = _profile(offer, rng)
    shelf = (month - rng.randrange(5, 20)).start + timedelta(days=rng.randrange(28))
    activated = shelf + timedelta(days=rng.randrange(20, 90))
    american = account.billing_zone == "America/New_York"
    return Service(
        service_id=f"S{number + 1:06d}",
        label=f"{profile.name} {number + 1}",
        account=account,
        carrier=carrier,
        profile=profile,
        iccid=iccid,
        imsi=imsi,
        msisdn=msisdn,
        imei=imei,
        home_network=7 if american else rng.choice((0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 6)),
        roams=rng.randrange(100) < 30,
        states=[
            (datetime.combine(shelf, time(9, 0)), "inventory"),
            (datetime.combine(activated, time(rng.randrange(7, 18), rng.randrange(60))), "active"),
        ],
        offers=[(shelf, None, offer)],
        uses_from=ALWAYS,
        uses_to=FOREVER,
        owned_from=datetime.combine(shelf, time(0)),
    )


def _weighted(choices: tuple[tuple[str, int], ...], rng: Random) -> str:
    return rng.choice([name for name, weight in choices for _ in range(weight)])


def _profile(offer: str, rng: Random) -> Profile:
    match offer:
        case "voice_alarm":
            return ALARM
        case "sms_volume":
            return MESSENGER
        case "fleet":
            return rng.choice((TRACKER, TRACKER, TRACKER, METER))
        case "payg":
            return rng.choice((METER, METER, METER, TRACKER))
        case _:
            return rng.choice((METER, METER, TRACKER, TRACKER, TRACKER, GATEWAY))


def utc_midnight(day: date, zone: str) -> datetime:
    """Return the UTC instant (naive) at which ``day`` begins in ``zone``."""
    local = datetime.combine(day, time(0), ZoneInfo(zone))
    return local.astimezone(UTC).replace(tzinfo=None)


def _tell_stories(month: Month, fleet: list[Service], accounts: list[Account], rng: Random) -> None:
    """Give some services a life inside the month; each service has at most one story."""
    berlin = [a for a in accounts if a.billing_zone == "Europe/Berlin"]
    moved: list[Service] = []
    # Each forty services share out the stories among themselves, each in an order of its own, so
    # that no story sticks to one customer.
    turns = [turn for _ in range(0, len(fleet), 40) for turn in rng.sample(range(40), 40)]
    for turn, service in zip(turns, list(fleet), strict=False):
        if service.story:
            continue
        day = month.start + timedelta(days=rng.randrange(6, 22))
        midnight = utc_midnight(day, service.account.billing_zone)
        on_fleet = service.offers[0][2] == "fleet"
        if turn in (7, 23):
            _activate(service, day, midnight, rng)
        elif turn == 11:
            service.states.append((datetime.combine(day, time(16, 30)), "cancelled"))
            service.uses_to = midnight
            service.story.append("cancelled")
        elif turn == 31:
            _end_before(service, month, rng)
        elif turn == 17:
            _suspend(service, day, midnight)
        elif turn == 29 and not on_fleet and service.carrier.name in ("emnify", "bics"):
            other = "iot_data" if service.offers[0][2] != "iot_data" else "payg"
            service.offers = [
                (service.offers[0][0], day, service.offers[0][2]),
                (day, None, other),
            ]
            service.story.append("plan_change")
        elif (
            turn in (3, 34)
            and service.carrier.name == "bics"
            and service.account in berlin
            and len(moved) < max(1, len(fleet) // 250)
        ):
            buyer = next(a for a in reversed(berlin) if a is not service.account)
            moved.append(_hand_over(service, buyer, day, midnight, len(fleet) + len(moved)))
    fleet += moved


def _activate(service: Service, day: date, midnight: datetime, rng: Random) -> None:
    service.states = [
        (datetime.combine(day - timedelta(days=60), time(9, 0)), "inventory"),
        (datetime.combine(day, time(rng.randrange(7, 18), rng.randrange(60))), "active"),
    ]
    service.uses_from = midnight + timedelta(days=1)
    service.story.append("activated")


def _end_before(service: Service, month: Month, rng: Random) -> None:
    """Cancel the SIM in the month before: it must not be billed any more."""
    day = (month - 1).start + timedelta(days=rng.randrange(5, 20))
    service.states.append((datetime.combine(day, time(12, 0)), "cancelled"))
    service.uses_to = utc_midnight(day, service.account.billing_zone)
    service.story.append("ended_before")


def _suspend(service: Service, day: date, midnight: datetime) -> None:
    service.states.append((datetime.combine(day, time(11, 15)), "suspended"))
    end = day + timedelta(days=6)
    silent_to = midnight + timedelta(days=400)
    # BICS prorates by days, so coming back is plain there; where any day costs the whole month
    # (emnify) the service stays suspended.
    if service.carrier.name != "emnify":
        service.states.append((datetime.combine(end, time(8, 5)), "active"))
        silent_to = midnight + timedelta(days=7)
        service.story.append("reactivated")
    service.silent = (midnight, silent_to)
    service.story.append("suspended")


def _hand_over(
    service: Service, buyer: Account, day: date, midnight: datetime, number: int
) -> Service:
    """Move the SIM to another customer at local midnight: a new service, the same card."""
    service.states.append((datetime.combine(day, time(0)), "cancelled"))
    service.uses_to = service.owned_to = midnight
    service.story.append("owner_change_from")
    return Service(
        service_id=f"S{number + 1:06d}",
        label=f"{service.profile.name} {number + 1}, taken over",
        account=buyer,
        carrier=service.carrier,
        profile=service.profile,
        iccid=service.iccid,
        imsi=service.imsi,
        msisdn=service.msisdn,
        imei=service.imei,
        home_network=service.home_network,
        roams=service.roams,
        states=[(datetime.combine(day, time(0)), "active")],
        offers=[(day, None, "payg")],
        uses_from=midnight,
        uses_to=FOREVER,
        owned_from=midnight,
        story=["owner_change_to"],
    )
