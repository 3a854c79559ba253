"""Roaming settlements from files: a discount agreement and one or both operators' usage reports.

Needs no workspace. What comes out: settled services, what is to be credited, and with the partner's
report every discrepancy; as tables, a workbook, or the JSON documents that partners exchange.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from iotbill_pipelines.config.roaming import has_usage, read_agreement, read_usage
from iotbill_pipelines.engine.roaming import (
    Agreement,
    Discrepancies,
    Settlement,
    Unmet,
    compare,
    settle,
)
from iotbill_pipelines.engine.roaming.discrepancy import UsageDifference, ValueDifference
from iotbill_pipelines.engine.roaming.exchange import (
    plain,
    settlement_discrepancy_document,
    settlement_document,
    usage_discrepancy_document,
)
from iotbill_pipelines.engine.roaming.settlement import ServiceSettlement
from iotbill_pipelines.operations.stages import Finding
from iotbill_pipelines.storage.documents import ColumnFormat, Sheet, write_bytes, write_workbook


@dataclass(frozen=True)
class RoamingReport:
    """A settled agreement: our side, and the partner's with the discrepancies if it was given."""

    agreement: Agreement
    own: Settlement
    partner: Settlement | None
    discrepancies: Discrepancies | None
    findings: tuple[Finding, ...]


def settle_files(
    contract: Path,
    own_usage: Path | None,
    partner_usage: Path | None,
    *,
    unmet: Unmet = "shortfall",
    rates: Mapping[tuple[str, str], Decimal] | None = None,
) -> RoamingReport:
    """Settle a contract over usage reports; without ``own_usage`` the contract's file holds it.

    Raises ConfigError for files that cannot be read, AgreementError for usage that does not fit.
    """
    if own_usage is None and not has_usage(contract):
        raise ValueError(f"{contract}: holds no usage; name our usage report with --home-usage")
    agreement = read_agreement(contract)
    own = settle(agreement, read_usage(own_usage or contract), unmet=unmet, rates=rates)
    partner = None
    if partner_usage is not None:
        partner = settle(agreement, read_usage(partner_usage), unmet=unmet, rates=rates)
    return RoamingReport(
        agreement,
        own,
        partner,
        compare(own, partner) if partner is not None else None,
        tuple(_findings(agreement, own, partner)),
    )


def _findings(
    agreement: Agreement, own: Settlement, partner: Settlement | None
) -> Iterable[Finding]:
    for side, settlement in (("our", own), ("the partner's", partner)):
        if settlement is None:
            continue
        if settlement.unpriced:
            first = settlement.unpriced[0]
            yield Finding(
                "roaming",
                "warn",
                f"{len(settlement.unpriced)} lines of {side} usage are priced by nothing, first "
                f"{first.service} of {first.home} on {first.visitor}",
                f"{sum((line.charges for line in settlement.unpriced), Decimal(0)):f} as charged",
                "add the service or the TADIG codes to the agreement, or settle them as charged",
            )
        if settlement.outside_term:
            yield Finding(
                "roaming",
                "warn",
                f"{settlement.outside_term} lines of {side} usage are of months outside the "
                f"agreement's term {agreement.start} to {agreement.end}; they are settled",
                "",
                "check that this is the right agreement",
            )
        for result in settlement.commitments:
            if result.reached < result.value:
                yield Finding(
                    "roaming",
                    "warn",
                    f"by {side} usage {result.party}'s commitment of {result.value:f} is missed: "
                    f"{result.reached:f} reached",
                    f"{result.currency} {result.owed:f} owed"
                    if result.deal
                    else "no deal: what was charged stands",
                    "invoice or accrue the shortfall",
                )


def write_exchange(report: RoamingReport, folder: Path) -> list[Path]:
    """Write the JSON documents that partners exchange (see :mod:`engine.roaming.exchange`)."""
    documents = {"settlement_own.json": settlement_document(report.own)}
    if report.partner is not None:
        documents |= {
            "settlement_partner.json": settlement_document(report.partner),
            "usage_discrepancy.json": usage_discrepancy_document(report.own, report.partner),
            "settlement_discrepancy.json": settlement_discrepancy_document(
                report.own, report.partner
            ),
        }
    written = []
    for name, document in documents.items():
        # the format's numbers are JSON numbers; floats only here, after the last computation
        text = json.dumps(plain(document, _json_number), indent=2)
        write_bytes(folder / name, text.encode() + b"\n")
        written.append(folder / name)
    return written


def _json_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


SETTLED_COLUMNS = (
    *("direction", "discounts of", "service", "home", "visited", "usage", "unit", "currency"),
    *("deal value", "amount", "charged", "taxes", "charged in", "to credit", "shortfall"),
)


def settled_row(service: ServiceSettlement) -> tuple[str | Decimal | None, ...]:
    """A service as :data:`SETTLED_COLUMNS` tell it."""
    return (
        service.direction or "no usage",
        service.party,
        service.service,
        " ".join(service.homes),
        " ".join(service.visitors),
        service.quantity,
        service.unit,
        service.currency,
        service.deal_value,
        service.amount,
        service.charged,
        service.taxes,
        service.charged_currency,
        service.to_credit,
        service.shortfall,
    )


VALUE_COLUMNS = (
    *("direction", "service", "currency", "our value", "partner's value", "difference", "percent"),
    *("our usage", "partner's usage"),
)


def value_row(value: ValueDifference) -> tuple[str | Decimal, ...]:
    """A settlement discrepancy as :data:`VALUE_COLUMNS` tell it."""
    return (
        value.direction,
        value.name,
        value.currency,
        value.own_value,
        value.partner_value,
        value.difference,
        value.percent,
        value.own_quantity,
        value.partner_quantity,
    )


USAGE_COLUMNS = (
    *("direction", "month", "home", "visited", "service", "unit", "our usage", "our lines"),
    *("partner's usage", "partner's lines", "difference", "percent"),
)


def usage_row(usage: UsageDifference) -> tuple[str | Decimal | int, ...]:
    """A usage discrepancy as :data:`USAGE_COLUMNS` tell it."""
    return (
        usage.direction,
        usage.month,
        usage.home,
        usage.visitor,
        usage.service,
        usage.unit,
        usage.own_quantity,
        usage.own_lines,
        usage.partner_quantity,
        usage.partner_lines,
        usage.difference,
        usage.percent,
    )


_RATES = {
    *("usage", "deal value", "shortfall", "our value", "partner's value", "our usage"),
    *("partner's usage", "difference", "percent"),
}
_MONEY = {"amount", "charged", "taxes", "to credit"}


def write_settlement(report: RoamingReport, path: Path, created: datetime) -> None:
    """Write the settlement, and the discrepancies if there are any, as a workbook."""
    sheets = [
        Sheet(
            "Settlement",
            _columns(SETTLED_COLUMNS),
            [settled_row(service) for service in report.own.services],
            notes=(
                f"{report.agreement.name}: our usage, settled",
                "deal value: exact; amount: rounded once per party and direction; "
                "to credit: charged by TAP minus amount",
            ),
        )
    ]
    if report.discrepancies is not None:
        sheets += [
            Sheet(
                "Values",
                _columns(VALUE_COLUMNS),
                [value_row(v) for v in (*report.discrepancies.bearers, *_services(report))],
                notes=("Both sides' settlements; ours minus the partner's, percent of ours",),
            ),
            Sheet(
                "Usage",
                _columns(USAGE_COLUMNS),
                [usage_row(u) for u in report.discrepancies.usage],
                notes=("Both sides' usage; lines of one month, pair and service are added up",),
            ),
        ]
    if report.findings:
        sheets.append(
            Sheet(
                "Findings",
                [ColumnFormat("what"), ColumnFormat("amount"), ColumnFormat("what to do")],
                [(f.message, f.figure, f.what_to_do) for f in report.findings],
            )
        )
    write_workbook(path, sheets, created)


def _services(report: RoamingReport) -> tuple[ValueDifference, ...]:
    return report.discrepancies.services if report.discrepancies else ()


def _columns(titles: Iterable[str]) -> list[ColumnFormat]:
    return [
        ColumnFormat(
            title[:1].upper() + title[1:],
            "rate" if title in _RATES else "money" if title in _MONEY else "text",
        )
        for title in titles
    ]
