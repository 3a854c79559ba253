"""The sample company's own files: accounts, services, identifiers, states, contracts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from iotbill_pipelines.operations.sample.files import write_csv, write_xlsx
from iotbill_pipelines.operations.sample.fleet import ENTITY, Fleet, Service

ACCOUNTS_HEADER = (
    "account_id,name,kind,parent_account_id,entity_id,billing_zone,currency,customer_group"
).split(",")
SERVICES_HEADER = "service_id,account_id,label".split(",")
IDENTIFIERS_HEADER = "uid_type,uid_value,service_id,valid_from,valid_to".split(",")
STATES_HEADER = "service_id,changed_at,state".split(",")
CONTRACTS_HEADER = "service_id,level,payer_account_id,offer_id,valid_from,valid_to".split(",")


def write_references(out: Path, fleet: Fleet) -> Iterator[tuple[str, str, int]]:
    """Write the five reference files; yield (name, feed, rows)."""
    accounts = [
        (a.account_id, a.name, a.kind, a.parent, ENTITY, a.billing_zone, "EUR", a.group)
        for a in fleet.accounts
    ]
    write_csv(out / "accounts.csv", ACCOUNTS_HEADER, accounts)
    yield "accounts.csv", "accounts", len(accounts)

    services = [(s.service_id, s.account.account_id, s.label) for s in fleet.services]
    write_csv(out / "services.csv", SERVICES_HEADER, services)
    yield "services.csv", "services", len(services)

    identifiers = [row for service in fleet.services for row in identifier_rows(service)]
    write_xlsx(out / "inventory.xlsx", "identifiers", IDENTIFIERS_HEADER, identifiers)
    yield "inventory.xlsx", "inventory", len(identifiers)

    states = [
        (service.service_id, _moment(moment), state)
        for service in fleet.services
        for moment, state in service.states
    ]
    write_csv(out / "states.csv", STATES_HEADER, states)
    yield "states.csv", "states", len(states)

    contracts = [row for service in fleet.services for row in contract_rows(service)]
    write_xlsx(out / "contracts.xlsx", "contracts", CONTRACTS_HEADER, contracts)
    yield "contracts.xlsx", "contracts", len(contracts)


def identifier_rows(service: Service) -> list[tuple[str, ...]]:
    """ICCID, IMSI and MSISDN of a service, and from when to when it had them (UTC)."""
    start = _moment(service.owned_from)
    end = "" if service.owned_to is None else _moment(service.owned_to)
    return [
        ("iccid", service.iccid, service.service_id, start, end),
        ("imsi", service.imsi, service.service_id, start, end),
        ("msisdn", service.msisdn, service.service_id, start, end),
    ]


def contract_rows(service: Service) -> list[tuple[str, ...]]:
    """The retail offers of a service over time, and the carrier's offer beneath them."""
    retail = [
        (service.service_id, "retail", service.account.account_id, offer, _day(start), _day(end))
        for start, end, offer in service.offers
    ]
    vendor = service.carrier.account.account_id
    start = _day(service.offers[0][0])
    return [
        *retail,
        (service.service_id, "vendor", vendor, service.carrier.vendor_offer, start, ""),
    ]


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
