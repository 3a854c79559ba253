"""The documents in which operators exchange settlements, laid out as GSMA's public reference does.

Three JSON documents: a settlement of one's own usage, the usage discrepancy and the settlement
discrepancy between both sides. They keep what partners who run the reference compare against, also
where it is peculiar; our own tables (:mod:`.discrepancy`) do not:

* a month's repeated lines of one network pair and service: the detail shows the last of them, while
  totals and settlement add them up;
* a detail's usage is that of lines which spell the service as the document does (``SMS MO`` is
  settled as ``SMSMO`` and shown there without usage);
* details of lines that only one side has are left out;
* a shortfall is shown at services with usage only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from iotbill_pipelines.engine.roaming.agreement import Direction, UsageLine, service_name
from iotbill_pipelines.engine.roaming.discrepancy import percent_delta
from iotbill_pipelines.engine.roaming.settlement import ServiceSettlement, Settlement

_MOC = {
    "MOC Local": "local",
    "MOC Back Home": "backHome",
    "MOC International": "international",
    "MOC Premium": "premium",
    "MOC RoW": "ROW",
    "MOC EU": "EU",
    "MOC EEA": "EEA",
    "MOC Satellite": "satellite",
    "MOC Video Telephony": "videoTelephony",
    "MOC Special Destinations": "specialDestinations",
}
_SMS = {"SMSMO": "MO", "SMSMT": "MT"}
_DATA = {
    **{name: name for name in ("GPRS", "M2M", "NB-IOT", "LTE-M", "VoLTE", "ViLTE")},
    "IMS Signalling": "signalling",
}
_ACCESS = "Network Access"
_LISTED = {*_MOC, "MTC", *_SMS, *_DATA, _ACCESS}

_GROUPS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("MOC", "min", "min", tuple(_MOC)),
    ("MTC", "min", "min", ("MTC",)),
    ("SMS", "SMS", "#", tuple(_SMS)),
    ("Data", "MB", "MB", tuple(_DATA)),
)
"""Bearer, unit in settlements, unit in usage discrepancies, services."""

ENGINE_VERSION = "0.0.1"
"""Version of the reference calculation that these documents follow."""


def settlement_document(settlement: Settlement, currency_name: str = "EURO") -> dict[str, Any]:
    """Return a settlement as operators exchange it: deal value, shortfall and usage by service."""
    unlisted = {
        service.service
        for service in _dealt(settlement)
        if service.direction is not None and service.service not in _LISTED
    }
    return {
        "fromDate": None,
        "toDate": None,
        "calculationEngineVersion": ENGINE_VERSION,
        "inbound": _side(settlement, "inbound", currency_name),
        "outbound": _side(settlement, "outbound", currency_name),
        "unexpectedServiceNames": sorted(unlisted),
    }


def _dealt(settlement: Settlement) -> list[ServiceSettlement]:
    """Services of parties whose deal holds: the reference tells no others."""
    off = {result.party for result in settlement.commitments if not result.deal}
    return [service for service in settlement.services if service.party not in off]


def _side(settlement: Settlement, direction: Direction, currency_name: str) -> dict[str, Any]:
    sums = _sums(settlement, direction)

    def cell(name: str) -> dict[str, Decimal]:
        return sums.get(name) or dict.fromkeys(_FIGURES, Decimal(0))

    return {
        "tax": {"rate": ""},
        "currency": currency_name,
        "services": {
            "voice": {
                "MOC": {key: cell(name) for name, key in _MOC.items()},
                "MTC": cell("MTC"),
            },
            "SMS": {key: cell(name) for name, key in _SMS.items()},
            "data": [{"name": key, "value": cell(name)} for name, key in _DATA.items()],
            "access": {"networkAccess": cell(_ACCESS)},
        },
    }


_FIGURES = ("dealValue", "shortOfCommitment", "usage")


def _sums(settlement: Settlement, direction: Direction) -> dict[str, dict[str, Decimal]]:
    sums: dict[str, dict[str, Decimal]] = {}
    for service in _dealt(settlement):
        if service.direction == direction:
            cell = sums.setdefault(service.service, dict.fromkeys(_FIGURES, Decimal(0)))
            cell["dealValue"] += service.deal_value
            cell["shortOfCommitment"] += service.shortfall
            cell["usage"] += service.quantity
    return sums


def usage_discrepancy_document(own: Settlement, partner: Settlement) -> dict[str, Any]:
    """Return both sides' usage beside each other: by bearer, and by month, pair and service."""
    ours = {side: _usage_by_bearer(own, side) for side in ("inbound", "outbound")}
    theirs = {side: _usage_by_bearer(partner, side) for side in ("inbound", "outbound")}
    general = []
    for bearer, _, unit, _names in _GROUPS:
        row: dict[str, Any] = {"service": bearer, "unit": unit}
        for side, other in (("inbound", "outbound"), ("outbound", "inbound")):
            mine, partners = ours[side][bearer], theirs[other][bearer]
            row[f"{side}_own_usage"] = mine
            row[f"{side}_partner_usage"] = partners
            row[f"{side}_discrepancy"] = abs(mine - partners)
        general.append(row)
    return {
        "general_information": general,
        "inbound": _usage_details(own, "inbound", partner, "outbound"),
        "outbound": _usage_details(own, "outbound", partner, "inbound"),
    }


def _usage_by_bearer(settlement: Settlement, direction: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for line in settlement.lines:
        if line.direction == direction:
            for bearer, unit, _, _names in _GROUPS:
                mobile_terminated = service_name(line.service) == "MTC"
                if line.unit == unit and (unit != "min" or (bearer == "MTC") == mobile_terminated):
                    sums[bearer] += line.quantity
    return sums


def _usage_details(
    own: Settlement, side: Direction, partner: Settlement, other: Direction
) -> list[dict[str, Any]]:
    mine, partners = _last_lines(own.lines, side), _last_lines(partner.lines, other)
    return [
        {
            "HTMN": line.home,
            "VPMN": line.visitor,
            "yearMonth": line.month,
            "service": line.service,
            "own_usage": line.quantity,
            "partner_usage": partners[key].quantity,
            "delta_usage_abs": abs(line.quantity - partners[key].quantity),
            "delta_usage_percent": percent_delta(line.quantity, partners[key].quantity),
        }
        for key, line in mine.items()
        if key in partners
    ]


def _last_lines(
    lines: Sequence[UsageLine], direction: Direction
) -> dict[tuple[str, str, str, str], UsageLine]:
    return {
        (line.home, line.visitor, line.service, line.month): line
        for line in lines
        if line.direction == direction
    }


def settlement_discrepancy_document(own: Settlement, partner: Settlement) -> dict[str, Any]:
    """Return both sides' settlements beside each other, and what each owes and is owed.

    ``homePerspective`` is what we are owed (our inbound, their outbound), ``partnerPerspective``
    what they are (their inbound, our outbound).
    """
    home = _perspective(own, partner)
    return {
        "homePerspective": home,
        "partnerPerspective": (partners := _perspective(partner, own)),
        "settlementReport": {
            "homeCharges": _total(partners, "partner_calculation"),
            "homeDeltaCommitment": _shortfall(own),
            "homeRevenue": _total(home, "own_calculation"),
            "partnerCharges": _total(home, "partner_calculation"),
            "partnerDeltaCommitment": _shortfall(partner),
            "partnerRevenue": _total(partners, "own_calculation"),
        },
    }


def _total(perspective: Mapping[str, Any], figure: str) -> Decimal:
    return sum((row[figure] for row in perspective["general_information"]), Decimal(0))


def _shortfall(settlement: Settlement) -> Decimal:
    return sum(
        (cell["shortOfCommitment"] for cell in _sums(settlement, "inbound").values()), Decimal(0)
    )


def _perspective(receiver: Settlement, payer: Settlement) -> dict[str, Any]:
    received, paid = _sums(receiver, "inbound"), _sums(payer, "outbound")
    received_usage = _usage_by_bearer(receiver, "inbound")
    paid_usage = _usage_by_bearer(payer, "outbound")
    general, details = [], []
    for bearer, unit, _, names in _GROUPS:
        general.append(
            _row(
                bearer,
                unit,
                _sum_of(received, names),
                _sum_of(paid, names),
                received_usage[bearer],
                paid_usage[bearer],
            )
        )
        for name in names:
            row = _row(
                name,
                unit,
                _sum_of(received, [name]),
                _sum_of(paid, [name]),
                _spelled(receiver.lines, "inbound", name),
                _spelled(payer.lines, "outbound", name),
            )
            if any(row[key] for key in _COMPARED):
                details.append(row)
    return {"general_information": general, "details": details}


_COMPARED = ("own_calculation", "partner_calculation", "own_usage", "partner_usage")


def _sum_of(sums: Mapping[str, Mapping[str, Decimal]], names: Sequence[str]) -> Decimal:
    return sum((sums[name]["dealValue"] for name in names if name in sums), Decimal(0))


def _spelled(lines: Sequence[UsageLine], direction: Direction, name: str) -> Decimal:
    return sum(
        (line.quantity for line in lines if line.direction == direction and line.service == name),
        Decimal(0),
    )


def _row(
    service: str,
    unit: str,
    own: Decimal,
    partner: Decimal,
    own_usage: Decimal,
    partner_usage: Decimal,
) -> dict[str, Any]:
    return {
        "service": service,
        "unit": unit,
        "own_calculation": own,
        "partner_calculation": partner,
        "delta_calculation_percent": percent_delta(own, partner),
        "own_usage": own_usage,
        "partner_usage": partner_usage,
        "delta_usage_abs": abs(own_usage - partner_usage),
        "delta_usage_percent": percent_delta(own_usage, partner_usage),
    }


def plain(document: Any, number: Callable[[Decimal], Any]) -> Any:
    """Return a document with every Decimal turned by ``number``, for a writer of JSON."""
    if isinstance(document, dict):
        return {key: plain(value, number) for key, value in document.items()}
    if isinstance(document, list):
        return [plain(value, number) for value in document]
    return number(document) if isinstance(document, Decimal) else document
