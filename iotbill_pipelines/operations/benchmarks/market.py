"""A seeded business of any size: raw usage files of a real layout, and who owns what at what price.

The files have the BICS usage layout of ``configs/feeds/bics_usage.yaml``. One row in a hundred is
there twice, one in two hundred cannot be used (a day that does not exist, a negative volume, no
SIM) and one in a thousand is of a SIM that nobody owns. SIMs have one to three owners in the month.
Customers' offers price by zone, by time of day, by tiers and by pools; the carrier's price by zone.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import literal
from iotbill_pipelines.engine.schemas import REFERENCE
from iotbill_pipelines.operations.sample.fleet import luhn_digit

PERIOD = Month(2026, 10)
VENDOR = "bics"
_ZONE = ZoneInfo("Europe/Berlin")
ROWS_PER_FILE = 1_000_000

_OFFERS = ("payg", "iot_data", "fleet", "day_and_night")

CORRECTED_SHARE = 100
"""One account in this many is on the offer whose price is corrected."""

SPECIAL = "{rate: 0.041}"
DEARER = "{rate: 0.042}"
DEARER_LATER = "{rate: 0.041, valid_to: 2026-10-16}, {rate: 0.043, valid_from: 2026-10-16}"
"""Prices of the special offer: as closed, corrected, and corrected from a day on, so that records
of the month must be rated anew to tell which price they have."""

_CATALOG = """
time_windows:
  - {id: night, days: [mon, tue, wed, thu, fri, sat, sun], starts: "20:00", ends: "06:00"}
offers:
  - id: day_and_night
    name: Day and Night
    currency: EUR
    zone_set: retail_zones
    charges:
      - id: day_and_night_data
        product: data
        kind: usage
        per: MB
        prices:
          - {rate: 0.030, zone: eu, time: night}
          - {rate: 0.052, zone: eu}
          - {rate: 0.100, time: night}
          - {rate: 0.200}
      - {id: day_and_night_sms, product: sms, kind: usage, prices: [{rate: 0.05}]}
  - id: special
    name: Special
    currency: EUR
    charges:
      - {id: special_data, product: data, kind: usage, per: MB, prices: [SPECIAL]}
      - {id: special_sms, product: sms, kind: usage, prices: [{rate: 0.04}]}
"""


_OUTWARD = ("alerts.yaml", "lake.yaml", "sources")


@dataclass(frozen=True)
class Size:
    """How much business: raw rows, SIMs and customer accounts, and the seed of the chances."""

    rows: int
    sims: int = 200_000
    accounts: int = 2_000
    seed: int = 1


def write_configs(configs: Path, target: Path, special: str = SPECIAL) -> Path:
    """Copy a configuration and add the market's offers, one with prices of your choice.

    What leads to other places than the benchmark's stays behind: sources, the lake, whom to tell.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        configs, target, ignore=lambda at, _names: _OUTWARD if Path(at) == configs else ()
    )
    added = target / "catalog" / "benchmark.yaml"
    added.write_text(_CATALOG.replace("SPECIAL", special), "utf-8")
    return target


def iccid(sim: int) -> str:
    """Return the ICCID of a SIM number, with its check digit."""
    body = f"8932042{sim:012d}"
    return body + luhn_digit(body)


def account_id_of(account: int) -> str:
    """Return the id of a customer's number; of every CORRECTED_SHARE-th the offer is special."""
    return f"B{account:05d}"


def write_usage(folder: Path, size: Size, rows_per_file: int = ROWS_PER_FILE) -> list[Path]:
    """Write the month's raw files, about 110 bytes a row; the same size gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("bics_usage_*.csv"):
        old.unlink()
    numbers = [iccid(sim) for sim in range(size.sims + size.sims // 1000 + 1)]
    sims = pa.table({"sim": pa.array(range(len(numbers)), pa.int64()), "iccid": numbers})
    written = []
    with duckdb.connect(":memory:") as connection:
        connection.register("sims", sims)
        connection.execute("create table sim as select * from sims")
        for first in range(0, size.rows, rows_per_file):
            path = folder / f"bics_usage_{PERIOD}_{first // rows_per_file:04d}.csv"
            last = min(first + rows_per_file, size.rows)
            rows = _ROWS.format(first=first, last=last, seed=size.seed, sims=size.sims)
            connection.execute(f"copy ({rows}) to {literal(str(path))} (format csv, header)")
            written.append(path)
    return written


# The event of row n is that of row n-1 where n ends in 99: a copy. Every attribute is a digit
# group of one number that the event and the seed make.
_ROWS = """
with event as (
  select n, case when n % 100 = 99 then n - 1 else n end as e from range({first}, {last}) as r(n)
),
chance as (
  select n, e, hash(e * 1000003 + {seed}) as a, hash(e * 7 + 3 + {seed} * 1000003) as b from event
),
drawn as (
  select n, case when e % 1000 = 500 then {sims} + a % ({sims} // 1000 + 1)
    else a % {sims} end as sim,
    make_timestamp(1790812800000000 + cast(b % 2678400 as bigint) * 1000000) as moment,
    (a >> 20) % 20 = 0 as is_sms,
    1 + cast((a >> 25) % 1000 * ((b >> 30) % 1000) as bigint) as volume,
    1 + (a >> 40) % 10 as place, (b >> 45) % 4 as access
  from chance
)
select null as "timestampAccount",
  case when n % 200 = 57 and n % 600 = 57 then '2026-10-32 10:00:00'
    else strftime(moment, '%Y-%m-%d %H:%M:%S') end as "timestamp",
  case when is_sms then 'SMS' else 'DATA' end as "serviceTypeName",
  case when is_sms then 'MO' end as "subServiceType",
  null as "parentAccountId", null as "accountId", null as "endpointId", null as "imsi",
  case when n % 200 = 57 and n % 600 = 257 then '' else iccid end as "iccid",
  null as "msisdn", null as "imei", null as "planId", null as "addonPlanId",
  null as "dynamicBenefitId", 'Operator ' || place as "visitedOperatorName",
  'Zone ' || case when place < 7 then 1 when place < 9 then 2 else 3 end as "rateZoneName",
  case when n % 200 = 57 and n % 600 = 457 then -1 else 1 end as "count",
  case when is_sms then null when n % 200 = 57 and n % 600 = 457 then -volume else volume end
    as "volumeTotal",
  case when not is_sms then volume - volume // 3 end as "volumeDownlink",
  case when not is_sms then volume // 3 end as "volumeUplink",
  'iot' as "apn", ['LTE', 'NB', 'M1', '3G'][1 + cast(access as integer)] as "ratType",
  null as "revenue", 'EUR' as "revenueCurrency"
from drawn join sim using (sim) order by n
"""


def reference_tables(size: Size) -> dict[str, pa.Table]:
    """Return accounts, services, SIMs and their owners, states and offers, as reference tables.

    ICCIDs stand without their check digit, as feeds bring them in.
    """
    chance = random.Random(size.seed)
    columns: dict[str, dict[str, list[object]]] = {
        name: {column.name: [] for column in REFERENCE[name].columns}
        for name in ("account", "service", "service_identifier", "service_state", "service_offer")
    }

    def add(table: str, **values: object) -> None:
        for name, column in columns[table].items():
            column.append(values.get(name))

    add("account", account_id=VENDOR, name="BICS SA", kind="vendor", entity_id="NL01",
        billing_zone=_ZONE.key, currency="EUR")  # fmt: skip
    for account in range(size.accounts):
        add("account", account_id=account_id_of(account), name=f"Customer {account}",
            kind="customer", entity_id="NL01", billing_zone=_ZONE.key, currency="EUR")  # fmt: skip
    since = datetime.combine(PERIOD.start - timedelta(days=400), datetime.min.time())
    for sim in range(size.sims):
        for owner, (start, end) in enumerate(_ownership(chance, since)):
            service = f"B{sim:07d}-{owner}"
            account = chance.randrange(size.accounts)
            account_id = account_id_of(account)
            offer_id = _OFFERS[(sim + owner) % len(_OFFERS)]
            if account % CORRECTED_SHARE == 0:
                offer_id = "special"
            add("service", service_id=service, account_id=account_id)
            add("service_identifier", uid_type="iccid", uid_value=iccid(sim)[:-1],
                service_id=service, valid_from=start, valid_to=end)  # fmt: skip
            add("service_state", service_id=service, changed_at=_local(start), state="active")
            for level, payer, offer in (
                ("retail", account_id, offer_id),
                ("vendor", VENDOR, "bics_things"),
            ):
                add("service_offer", service_id=service, level=level, payer_account_id=payer,
                    offer_id=offer, valid_from=_local(start).date())  # fmt: skip
            if end is not None:
                add("service_state", service_id=service, changed_at=_local(end), state="cancelled")
    return {
        name: pa.table(
            [pa.array(made[field.name], field.type) for field in REFERENCE[name].arrow_schema],
            names=REFERENCE[name].arrow_schema.names,
        )
        for name, made in columns.items()
    }


def _ownership(
    chance: random.Random, since: datetime
) -> Iterator[tuple[datetime, datetime | None]]:
    owners = chance.choices((1, 2, 3), (80, 15, 5))[0]
    moves = sorted(chance.sample(range(2, 29), owners - 1))
    bounds = [since]
    for day in moves:  # at midnight of the payer's zone: states are of billing days
        local = datetime(PERIOD.start.year, PERIOD.start.month, 1 + day, tzinfo=_ZONE)
        bounds.append(local.astimezone(UTC).replace(tzinfo=None))
    return zip(bounds, [*bounds[1:], None], strict=True)


def _local(instant: datetime) -> datetime:
    """The payer's clock, which states and contracts are dated by."""
    return instant.replace(tzinfo=UTC).astimezone(_ZONE).replace(tzinfo=None)
