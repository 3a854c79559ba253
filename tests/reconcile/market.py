"""A small carrier world for reconciliation tests: SIMs, terms, expected cost, invoice lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.engine.assurance import audit_sims
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.reconcile import VendorTerms, reconcile
from iotbill_pipelines.engine.schemas import (
    CARRIER_SIM,
    CATALOG,
    DESIRED_CHARGE,
    REFERENCE,
    SUSPENDED_RECORD,
    USAGE_AGGREGATE,
    VENDOR_INVOICE_LINE,
    Table,
)

PERIOD = Month(2026, 3)
EPOCH = datetime(2020, 1, 1)  # noqa: DTZ001 - reference times are UTC, naive


def iccid(sim: str) -> str:
    """A 19-digit ICCID for SIM "S<number>"."""
    return "8949" + sim.removeprefix("S").rjust(15, "0")


@dataclass
class Market:
    """Rows of every relation that reconcile() reads, with vendor ``carrier`` and its offer."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    terms: list[VendorTerms] = field(
        default_factory=lambda: [VendorTerms("carrier", "EUR", tolerance_minor=0)]
    )

    def add(self, table: str, **row: Any) -> None:
        self.rows.setdefault(table, []).append(row)

    def charge(
        self,
        code: str,
        kind: str,
        rate: str | None,
        *,
        unit_size: int = 1,
        basis: str = "actual",
        allowance: int = 0,
        offer: str = "deal",
        billable: str = "days",
        charge_id: str | None = None,
    ) -> None:
        """A charge of the vendor's offer; rate None = two prices, so no single own rate."""
        charge_id = charge_id or code.lower()
        self.add(
            "charge",
            charge_id=charge_id,
            offer_id=offer,
            product_id="p",
            kind=kind,
            external_code=code,
            unit_size=unit_size,
            increment_initial=1,
            increment_subsequent=1,
            increment_point="record",
            allowance_quantity=allowance,
            pooled=False,
            billing="arrears",
            basis=basis,
            billable=billable,
        )
        for number, one in enumerate([rate] if rate is not None else ["0.5", "0.7"], 1):
            price_id = f"{charge_id}#{number}"
            self.add(
                "price",
                price_id=price_id,
                charge_id=charge_id,
                priority=number,
                valid_from=date(1970, 1, 1),
                model="flat",
            )
            self.add(
                "price_tier",
                price_id=price_id,
                tier_no=1,
                lower_quantity=0,
                rate_e12=Decimal(one).scaleb(12).quantize(Decimal(1)),
                flat_e12=Decimal(0),
            )

    def sim(
        self,
        sim: str,
        *,
        states: Sequence[tuple[str, str]] = (("2025-01-01", "active"),),
        vendor: str | None = "carrier",
        uid_type: str = "iccid",
        uid_value: str | None = None,
        valid_from: datetime = EPOCH,
        valid_to: datetime | None = None,
        service: str | None = None,
        offer: str = "deal",
    ) -> None:
        service = service or f"svc-{sim}"
        self.add(
            "service_identifier",
            uid_type=uid_type,
            uid_value=uid_value or iccid(sim),
            service_id=service,
            valid_from=valid_from,
            valid_to=valid_to,
        )
        for day, state in states:
            self.add(
                "service_state",
                service_id=service,
                changed_at=datetime.fromisoformat(day),
                state=state,
            )
        if vendor:
            self.add(
                "service_offer",
                service_id=service,
                level="vendor",
                payer_account_id=vendor,
                offer_id=offer,
                valid_from=date(2020, 1, 1),
            )

    def expect(
        self,
        sim: str,
        code: str,
        amount_minor: int,
        *,
        quantity: int = 31,
        kind: str = "recurring",
        period: str = str(PERIOD),
        price_ids: str | None = None,
        service: str | None = None,
        window: tuple[str, str] | None = None,
        charge_id: str | None = None,
    ) -> None:
        charge_id = charge_id or code.lower()
        self.add(
            "desired_charge",
            usage_period=period,
            billing_period=str(PERIOD),
            level="vendor",
            entity_id="NL01",
            account_id="carrier",
            service_id=service or f"svc-{sim}",
            charge_id=charge_id,
            product_id="p",
            kind=kind,
            linear=True,
            records=1,
            quantity=quantity,
            currency="EUR",
            amount_minor=amount_minor,
            price_ids=price_ids or f"{charge_id}#1",
            window_start=date.fromisoformat(window[0]) if window else None,
            window_end=date.fromisoformat(window[1]) if window else None,
        )

    def bill(
        self,
        sim: str | None,
        code: str,
        amount: str,
        *,
        quantity: int | None = None,
        price: str | None = None,
        start: str | None = None,
        end: str | None = None,
        invoice: str = "INV-1",
        period: str = str(PERIOD),
        uid: str | None = None,
        uid_type: str = "iccid",
        vendor: str = "carrier",
        currency: str = "EUR",
        plan: str | None = None,
        version: str | None = None,
        tax: str | None = None,
        foreign: tuple[str, str, str] | None = None,
    ) -> None:
        lines = self.rows.setdefault("vendor_invoice_line", [])
        value = uid or (iccid(sim) if sim else None)
        lines.append(
            {
                "file_key": 7,
                "line_no": len(lines) + 1,
                "feed_id": "carrier_invoice",
                "vendor_id": vendor,
                "invoice_no": invoice,
                "billing_period": period,
                "uid_type": uid_type if value else None,
                "uid_value": value,
                "plan_id": plan,
                "plan_version": version,
                "charge_code": code,
                "service_start": date.fromisoformat(start) if start else None,
                "service_end": date.fromisoformat(end) if end else None,
                "quantity": quantity,
                "unit_price": Decimal(price) if price else None,
                "currency": currency,
                "amount": Decimal(amount),
                "tax_amount": Decimal(tax) if tax else None,
                "foreign_currency": foreign[0] if foreign else None,
                "foreign_amount": Decimal(foreign[1]) if foreign else None,
                "fx_rate": Decimal(foreign[2]) if foreign else None,
            }
        )

    def carrier_has(
        self, sim: str, core_state: str, *, on: str = "2026-03-31", last_seen: str | None = None
    ) -> None:
        """A line of the carrier's own list of SIMs."""
        self.add(
            "carrier_sim",
            file_key=9,
            line_no=len(self.rows.get("carrier_sim", [])) + 1,
            feed_id="carrier_sims",
            vendor_id="carrier",
            as_of=date.fromisoformat(on),
            uid_type="iccid",
            uid_value=iccid(sim),
            state=core_state.title(),
            core_state=core_state,
            last_seen=date.fromisoformat(last_seen) if last_seen else None,
        )

    def tables(self) -> dict[str, pa.Table]:
        rows = {
            "state": [
                {"state": core, "core_state": core}
                for core in ("prospect", "active", "suspended", "cancelled")
            ],
            "offer": [
                {
                    "offer_id": "deal",
                    "name": "Deal",
                    "level": "vendor",
                    "currency": "EUR",
                }
            ],
            **self.rows,
        }
        names: dict[str, Table] = {
            **{
                name: REFERENCE[name]
                for name in ("account", "service_identifier", "service_state", "service_offer")
            },
            **{
                name: CATALOG[name]
                for name in (
                    "state",
                    "offer",
                    "share_participant",
                    "share_bucket",
                    "charge",
                    "price",
                    "price_tier",
                )
            },
            "desired_charge": DESIRED_CHARGE,
            "usage_aggregate": USAGE_AGGREGATE,
            "vendor_invoice_line": VENDOR_INVOICE_LINE,
            "carrier_sim": CARRIER_SIM,
        }
        return {
            name: pa.Table.from_pylist(rows.get(name, []), schema=_loose(schema))
            for name, schema in names.items()
        }

    def audit(
        self,
        suspended: Sequence[dict[str, Any]] = (),
    ) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
        """What each SIM earned and cost, and the findings of the state-to-feed audit by kind."""
        services = {row["service_id"] for row in self.rows.get("service_identifier", [])}
        listed = [{"service_id": s, "account_id": "customer"} for s in sorted(services)]
        with DuckDbCompute(threads=1) as compute:
            for name, table in self.tables().items():
                compute.load(name, table)
            for schema, rows in (
                (REFERENCE["service"], listed),
                (SUSPENDED_RECORD, suspended),
            ):
                compute.load(schema.name, pa.Table.from_pylist(list(rows), schema=_loose(schema)))
            audit_sims(compute, PERIOD)
            found: dict[str, list[dict[str, Any]]] = {}
            order = "order by finding, uid_value, service_id, amount_minor"
            for row in compute.fetch(f"select * from sim_audit {order}").to_pylist():
                found.setdefault(row["finding"], []).append(row)
            sums = compute.fetch("select * from sim_money order by service_id").to_pylist()
            return sums, found

    def reconcile(self, period: Month = PERIOD) -> Outcome:
        with DuckDbCompute(threads=1) as compute:
            for name, table in self.tables().items():
                compute.load(name, table)
            reconcile(compute, period, self.terms)
            return Outcome(
                compute.fetch("reconciliation_line").to_pylist(),
                compute.fetch("reconciliation_cause").to_pylist(),
                compute.fetch("reconciliation_total").to_pylist(),
                compute.fetch("dispute_item").to_pylist(),
            )


def _loose(schema: Table) -> pa.Schema:
    return pa.schema([pa.field(c.name, c.arrow) for c in schema.columns])


@dataclass
class Outcome:
    lines: list[dict[str, Any]]
    causes: list[dict[str, Any]]
    totals: list[dict[str, Any]]
    disputes: list[dict[str, Any]]

    def by_cause(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for cause in self.causes:
            found[cause["cause"]] = found.get(cause["cause"], 0) + cause["amount_minor"]
        return found

    def line(self, sim: str | None, code: str) -> dict[str, Any]:
        value = iccid(sim) if sim else None
        (line,) = (
            line
            for line in self.lines
            if line["charge_code"] == code and line["uid_value"] == value
        )
        return line

    @property
    def variance_minor(self) -> int:
        return sum(line["variance_minor"] for line in self.lines)

    def check_sums(self) -> None:
        """Parts add up: causes to each line, lines to each total."""
        for line in self.lines:
            parts = [c["amount_minor"] for c in self.causes if c["line_key"] == line["line_key"]]
            assert sum(parts) == line["variance_minor"], line
        keys = [line["line_key"] for line in self.lines]
        assert len(keys) == len(set(keys))
        assert {c["line_key"] for c in self.causes} <= set(keys)
        invoiced = [total for total in self.totals if total["flag"] != "accrued"]
        assert sum(t["variance_minor"] for t in invoiced) == self.variance_minor
        for claim in self.disputes:
            assert claim["billed_minor"] - claim["expected_minor"] == claim["difference_minor"] > 0
        claims = [claim["dispute_key"] for claim in self.disputes]
        assert len(claims) == len(set(claims))
