"""The sample company: a landing folder as a month's real one would look, from a seed.

:func:`write_sample` writes what four carriers and our own inventory deliver for a month: daily
usage files, reference files, two vendor invoices. The same arguments give the same bytes. What is
wrong in the files is wrong on purpose and is listed in the :class:`SampleSummary`, so that a close
can be held against it.

- ``fleet``: customers, SIMs, states, contracts; ``traffic``: what devices do;
- ``deliveries``: which record comes on which day, and what goes wrong on the way;
- ``layouts``: how each carrier writes; ``invoices``: what each carrier bills;
- ``references``: our own inventory files; ``files``: writing the same bytes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.sample import invoices as bills
from iotbill_pipelines.operations.sample import layouts
from iotbill_pipelines.operations.sample.deliveries import Row, deliveries
from iotbill_pipelines.operations.sample.files import write_csv, write_text, write_xlsx
from iotbill_pipelines.operations.sample.fleet import CARRIERS, Fleet, build_fleet
from iotbill_pipelines.operations.sample.references import write_references
from iotbill_pipelines.operations.sample.traffic import Event, month_of_events

OUTCOMES = ("kept", "ignored", "duplicate", "rejected", "suspended")


@dataclass(frozen=True)
class Planted:
    """One thing that is wrong or unusual on purpose.

    ``line_no`` counts from 1, header included; 0 where the file as a whole or no single line is
    meant. ``amount`` is the variance in EUR that a vendor's deviation causes.
    """

    kind: str
    file: str
    line_no: int
    identifier: str
    detail: str
    service_id: str = ""
    amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class SampleFile:
    """A file written: its feed, its records, and what should become of them.

    Of copies in two files either may be the one that is kept, so outcomes are exact per feed and
    month, not per file.
    """

    name: str
    feed_id: str
    records: int
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class VendorTotal:
    """Cost by the vendor's terms, and as invoiced (None: no invoice has come), in EUR."""

    vendor: str
    expected: Decimal
    invoiced: Decimal | None


@dataclass(frozen=True)
class SampleSummary:
    """What was written and what was planted in it."""

    month: Month
    services: int
    seed: int
    files: tuple[SampleFile, ...]
    planted: tuple[Planted, ...]
    vendor_totals: tuple[VendorTotal, ...]
    expected_cost: Mapping[tuple[str, str, str], Decimal]
    """EUR by (vendor, service, vendor's charge code), each rounded once."""

    def outcomes(self, feed_id: str | None = None) -> dict[str, int]:
        """Sum the fates of the records of one feed, or of all."""
        total = Counter(dict.fromkeys(OUTCOMES, 0))
        for file in self.files:
            if feed_id in (None, file.feed_id):
                total.update(file.outcomes)
        return dict(total)

    def records(self, feed_id: str | None = None) -> int:
        """Count the usage records of one feed, or of all."""
        return sum(self.outcomes(feed_id).values())

    def of_kind(self, kind: str) -> list[Planted]:
        return [planted for planted in self.planted if planted.kind == kind]

    def kinds(self) -> dict[str, int]:
        """Count what was planted, by kind, in order of name."""
        return dict(sorted(Counter(planted.kind for planted in self.planted).items()))


def imagine(
    month: Month, services: int, seed: int
) -> tuple[Fleet, dict[str, dict[date, list[Row]]], Random]:
    """Return the company and what each carrier delivers by day, before anything is written."""
    if services < 40:
        raise ValueError(f"{services} services are too few; ask for 40 or more")
    rng = Random(f"{seed}/{month}/{services}")
    fleet = build_fleet(month, services, rng)
    return fleet, deliveries(fleet, month_of_events(fleet, rng), rng), rng


def write_sample(out: Path, month: Month, services: int, seed: int) -> SampleSummary:
    """Write the landing folder of a month; ``out`` is created, files in it are replaced.

    ``services`` is the number of SIMs sold (at least 40, so that every story is told); two or
    more further services come from SIMs that change hands. 500 give some 52,000 usage records.

    Raises ValueError for fewer than 40 services.
    """
    fleet, rows, rng = imagine(month, services, seed)
    out.mkdir(parents=True, exist_ok=True)
    files: list[SampleFile] = []
    planted: list[Planted] = []
    for carrier in CARRIERS:
        days = rows[carrier.name]
        for sequence, (day, delivered) in enumerate(days.items(), 1):
            name, first_line = _write_day(out, carrier.name, day, sequence, delivered)
            counts = Counter(row.outcome for row in delivered)
            files.append(SampleFile(name, _FEEDS[carrier.name], len(delivered), counts))
            planted += _planted_rows(name, first_line, delivered)
    kept = [
        row.event
        for days in rows.values()
        for delivered in days.values()
        for row in delivered
        if row.outcome == "kept"
    ]
    expected = bills.expected_lines(fleet, kept)
    billed, deviations = bills.invoices(fleet, expected, rng)
    for vendor, lines in billed.items():
        name = _write_invoice(out, month, vendor, lines)
        files.append(SampleFile(name, f"{vendor}_{_INVOICE_NAME[vendor]}", len(lines)))
        planted += [
            Planted(f"vendor_{d.kind}", name, 0, d.iccid, f"{d.code}: {d.detail}", amount=d.amount)
            for d in deviations
            if d.vendor == vendor
        ]
    for name, feed, count in write_references(out, fleet):
        files.append(SampleFile(name, feed, count))
    planted += _stories(fleet)
    cost = bills.totals(expected)
    return SampleSummary(
        month,
        services,
        seed,
        tuple(files),
        tuple(planted),
        tuple(_vendor_total(carrier.name, cost, billed) for carrier in CARRIERS),
        cost,
    )


_FEEDS = {
    "emnify": "emnify_usage",
    "bics": "bics_usage",
    "telfix": "telfix_usage",
    "xl": "xl_usage",
}
_INVOICE_NAME = {"emnify": "invoice", "bics": "billing"}


def _write_day(
    out: Path, carrier: str, day: date, sequence: int, rows: list[Row]
) -> tuple[str, int]:
    """Write a carrier's file of a day; return its name and the line of its first record."""
    match carrier:
        case "emnify":
            # Every third day comes compressed, as it does when the carrier's bucket rolls over.
            name = f"emnify_{day}.ndjson" + (".gz" if day.day % 3 == 0 else "")
            write_text(out / name, map(layouts.emnify_line, rows))
            return name, 1
        case "bics":
            name = f"bics_usage_{day:%Y%m%d}.csv" + (".gz" if day.day % 5 == 0 else "")
            header = ",".join(layouts.BICS_USAGE_HEADER)
            write_text(out / name, [header, *map(layouts.bics_line, rows)])
            return name, 2
        case "telfix":
            name = f"telfix_{day:%Y%m%d}.dat"
            write_text(out / name, layouts.telfix_file(day, sequence, rows), newline="\r\n")
            return name, 2
        case _:
            name = f"xl_usage_{day}.xlsx"
            write_xlsx(out / name, layouts.XL_SHEET, layouts.XL_HEADER, map(layouts.xl_row, rows))
            return name, 2


def _write_invoice(out: Path, month: Month, vendor: str, lines: list[bills.InvoiceLine]) -> str:
    if vendor == "emnify":
        name = f"emnify_invoice_{month}.xlsx"
        write_xlsx(
            out / name,
            layouts.EMNIFY_INVOICE_SHEET,
            layouts.EMNIFY_INVOICE_HEADER,
            (layouts.emnify_invoice_row(month, line) for line in lines),
        )
    else:
        name = f"bics_billing_{month}.csv"
        write_csv(
            out / name,
            layouts.BICS_BILLING_HEADER,
            (layouts.bics_billing_row(line) for line in lines),
        )
    return name


def _planted_rows(name: str, first_line: int, rows: list[Row]) -> list[Planted]:
    return [
        Planted(
            row.kind,
            name,
            first_line + number,
            _identifier(row.event),
            row.defect or f"{row.outcome}: {row.event.usage_class} of {row.event.quantity}",
            row.event.service.service_id,
        )
        for number, row in enumerate(rows)
        if row.kind
    ]


def _identifier(event: Event) -> str:
    return event.service.msisdn if event.service.carrier.name == "telfix" else event.service.iccid


def _stories(fleet: Fleet) -> list[Planted]:
    """List the services that change inside the month; their records are in the reference files."""
    return [
        Planted(
            story,
            "services.csv",
            0,
            service.iccid,
            f"{service.account.account_id}, {service.carrier.name}",
            service.service_id,
        )
        for service in fleet.services
        for story in service.story
    ]


def _vendor_total(
    vendor: str,
    cost: Mapping[tuple[str, str, str], Decimal],
    billed: Mapping[str, list[bills.InvoiceLine]],
) -> VendorTotal:
    lines = billed.get(vendor)
    return VendorTotal(
        vendor,
        sum((amount for (name, _, _), amount in cost.items() if name == vendor), Decimal(0)),
        None if lines is None else sum((bills.cents(line.amount) for line in lines), Decimal(0)),
    )
