"""Vendors: how a carrier's invoice is judged and how a claim is written for it.

One YAML file a vendor in ``configs/vendors``; :func:`read_vendors` reads the folder. Prices are not
here: they are offers of level ``vendor`` in the catalog. See RULEBOOK §10 for tolerances and the
columns of a dispute.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from iotbill_pipelines.config.documents import ConfigError, parse, read_yaml
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import to_minor
from iotbill_pipelines.engine.reconcile import AccountCharge, FxRate, PlanTerm, VendorTerms
from iotbill_pipelines.engine.terms import Money, Rate, Terms

DisputeField = Literal[
    "reference",
    "vendor",
    "invoice",
    "line",
    "sim",
    "period",
    "charge_code",
    "currency",
    "billed",
    "expected",
    "difference",
    "cause",
    "evidence",
    "deadline",
    "status",
    "credit_reference",
]

DISPUTE_TITLES: dict[DisputeField, str] = {
    "reference": "Our reference",
    "vendor": "Vendor",
    "invoice": "Invoice",
    "line": "Invoice line",
    "sim": "SIM",
    "period": "Service period",
    "charge_code": "Charge code",
    "currency": "Currency",
    "billed": "Billed",
    "expected": "Expected",
    "difference": "Difference",
    "cause": "Cause",
    "evidence": "Evidence",
    "deadline": "Claim by",
    "status": "Status",
    "credit_reference": "Your credit note",
}
"""Columns that a dispute sheet may have, and their titles unless the vendor wants others."""

_NEEDED = ("invoice", "sim", "charge_code", "billed", "expected", "difference", "cause")


class DisputeColumn(Terms):
    field: DisputeField
    title: str = Field(min_length=1, max_length=40)


class DisputeLayout(Terms):
    """The dispute sheet as this vendor's billing desk wants it.

    ``deadline_days`` count from the last day of the invoiced period; some carriers credit only a
    few months back.
    """

    deadline_days: int = Field(ge=1, le=3650)
    columns: tuple[DisputeColumn, ...] = tuple(
        DisputeColumn(field=name, title=title)
        for name, title in DISPUTE_TITLES.items()
        if name not in ("vendor", "currency")
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """Let ``- sim`` stand for the field with its usual title, ``- sim: ICCID`` for another."""
        if not isinstance(value, list):
            return value
        columns: list[Any] = []
        titles: dict[str, str] = dict(DISPUTE_TITLES.items())
        for item in value:
            if isinstance(item, str):
                columns.append({"field": item, "title": titles.get(item, item)})
            elif isinstance(item, dict) and len(item) == 1 and "field" not in item:
                ((name, title),) = item.items()
                columns.append({"field": name, "title": title})
            else:
                columns.append(item)
        return columns

    @field_validator("columns")
    @classmethod
    def _complete(cls, columns: tuple[DisputeColumn, ...]) -> tuple[DisputeColumn, ...]:
        fields = [column.field for column in columns]
        missing = [name for name in _NEEDED if name not in fields]
        if missing:
            raise ValueError(
                f"columns must contain {', '.join(missing)}: a claim without it cannot be judged"
            )
        for name in fields:
            if fields.count(name) > 1:
                raise ValueError(f"column {name} is listed twice; keep one of them")
        return columns


class Tolerance(Terms):
    """A line passes within ``max(absolute, percent of expected)``; what passed may add up to
    ``invoice`` per invoice (VR-07)."""

    absolute: Money = Decimal(0)
    percent: Annotated[Rate, Field(ge=0, le=100, decimal_places=4)] = Decimal(0)
    invoice: Money = Decimal(0)


class Contact(Terms):
    """Whom the workbook is mailed to."""

    name: str
    email: str | None = None


class Fee(Terms):
    """A monthly fee for the account as a whole."""

    charge_code: str
    amount: Money
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None


class Conversion(Terms):
    """Agreed conversion: one unit of ``currency`` is ``rate`` units of the vendor's currency."""

    currency: str = Field(pattern="^[A-Z]{3}$")
    rate: Rate = Field(gt=0)


class Plan(Terms):
    """A rate plan as the vendor calls it, and the catalog's offer (of level vendor) that it is.

    A vendor that begins a new version of a plan has a row for each; without ``version`` any
    version is meant.
    """

    plan: str = Field(min_length=1)
    version: str | None = Field(default=None, min_length=1)
    offer: str = Field(min_length=1)
    valid_from: date = date(1970, 1, 1)
    valid_to: date | None = None


class Vendor(Terms):
    """A carrier that bills us.

    ``vendor`` is its account's id, ``identifier`` the type it prints on invoices, ``quantities``
    whether it prints usage as ``used`` or as ``rated``, after increments.
    """

    vendor: str = Field(min_length=1)
    name: str = Field(min_length=1)
    currency: str = Field(pattern="^[A-Z]{3}$")
    invoice_feed: str = Field(min_length=1)
    customer_number: str | None = None
    contact: Contact
    identifier: str = "iccid"
    quantities: Literal["rated", "used"] = "rated"
    invoice_files: Literal["replace", "add"] = "replace"
    """A second file with an invoice number that is known: the invoice again, or a part of it."""
    invoice_lines: Literal["charges", "events"] = "charges"
    """What a line is: a charge, or one event of many, as in TAP; events are added up per SIM."""
    tolerance: Tolerance = Tolerance()
    dispute: DisputeLayout
    tax_codes: tuple[str, ...] = ()
    account_fees: tuple[Fee, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    plans: tuple[Plan, ...] = ()
    """Its rate plans by id and version; none: it calls them by the ids of our offers, or lines are
    compared without regard to plans."""

    @field_validator("plans")
    @classmethod
    def _one_plan_a_day(cls, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
        for place, plan in enumerate(plans):
            if plan.valid_to is not None and plan.valid_to <= plan.valid_from:
                raise ValueError(
                    f"plan {plan.plan} of offer {plan.offer} ends on {plan.valid_to}, not after it "
                    f"begins on {plan.valid_from}; valid_to is the first day without it"
                )
            for other in plans[:place]:
                if (
                    plan.offer == other.offer
                    and (other.valid_to is None or plan.valid_from < other.valid_to)
                    and (plan.valid_to is None or other.valid_from < plan.valid_to)
                ):
                    since = max(plan.valid_from, other.valid_from)
                    raise ValueError(
                        f"offer {plan.offer} is two plans on {since}; give the earlier one a "
                        "valid_to, the first day on which the later one holds"
                    )
        return plans

    @model_validator(mode="after")
    def _whole_minor_units(self) -> Vendor:
        amounts = {
            "tolerance.absolute": self.tolerance.absolute,
            "tolerance.invoice": self.tolerance.invoice,
            **{f"account_fees {fee.charge_code}": fee.amount for fee in self.account_fees},
        }
        for name, amount in amounts.items():
            try:
                to_minor(amount, self.currency)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if amount < 0:
                raise ValueError(f"{name}: {amount} is negative; tolerances and fees are not")
        return self

    def terms(self) -> VendorTerms:
        """Return what :func:`engine.reconcile.reconcile` needs to know."""
        return VendorTerms(
            vendor_id=self.vendor,
            currency=self.currency,
            tolerance_minor=to_minor(self.tolerance.absolute, self.currency),
            tolerance_ppm=int(self.tolerance.percent * 10_000),
            limit_minor=to_minor(self.tolerance.invoice, self.currency),
            uid_type=self.identifier,
            quantities=self.quantities,
            lines=self.invoice_lines,
            tax_codes=self.tax_codes,
            account_charges=tuple(
                AccountCharge(
                    fee.charge_code,
                    self.currency,
                    to_minor(fee.amount, self.currency),
                    fee.valid_from,
                    fee.valid_to,
                )
                for fee in self.account_fees
            ),
            fx_rates=tuple(
                FxRate(self.currency, conversion.currency, conversion.rate)
                for conversion in self.conversions
            ),
            plans=tuple(
                PlanTerm(plan.plan, plan.offer, plan.version, plan.valid_from, plan.valid_to)
                for plan in self.plans
            ),
        )

    def deadline(self, period: Month) -> date:
        """Return the last day on which a claim about ``period`` is taken."""
        return period.last_day + timedelta(days=self.dispute.deadline_days)


def read_vendors(folder: Path) -> dict[str, Vendor]:
    """Read every vendor of ``folder`` by id; an absent or empty folder gives none.

    Raises ConfigError naming file, line and key, also when two files are about one vendor.
    """
    vendors: dict[str, Vendor] = {}
    for path in sorted(folder.glob("*.yaml")):
        document = read_yaml(path)
        vendor = parse(Vendor, document)
        if vendor.vendor in vendors:
            raise ConfigError(
                str(path),
                ("vendor",),
                document.line(("vendor",)),
                f"vendor {vendor.vendor!r} is in another file too; keep one of them",
            )
        vendors[vendor.vendor] = vendor
    return vendors
