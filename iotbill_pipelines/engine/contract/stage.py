"""Contracts in the flow: their prices by day, their commitments and fees as charges (RULEBOOK §4).

:func:`define_prices` runs before records are rated and charges are made, :func:`settle` after all
other charges of the period are known. What they decide is decided by the functions of this package,
which also answer what-if.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.compute import Compute, conform, literal
from iotbill_pipelines.engine.contract.commitments import (
    CommitLine,
    CommitmentWindow,
    Excess,
    Presence,
    commitment_windows,
    evaluate,
    excess_of,
)
from iotbill_pipelines.engine.contract.coverage import Coverage
from iotbill_pipelines.engine.contract.documents import read_contracts
from iotbill_pipelines.engine.contract.forecast import project
from iotbill_pipelines.engine.contract.lifecycle import (
    term_at,
    termination_status,
    terms_of,
)
from iotbill_pipelines.engine.contract.prices import (
    PriceSegment,
    plain,
    precedence,
    price_segments,
    ramp_value,
    step_starts,
)
from iotbill_pipelines.engine.contract.reductions import DISCOUNT, reduce_charges
from iotbill_pipelines.engine.contract.termination import termination_fee
from iotbill_pipelines.engine.contract.terms import FLOW_KINDS, Commitment, Contract
from iotbill_pipelines.engine.money import (
    RATE_SCALE,
    of_minor,
    round_half_up,
    to_minor,
)
from iotbill_pipelines.engine.schemas import (
    CATALOG,
    CHARGE_COMPONENT,
    CHARGE_FINDING,
    COMMITMENT_STATUS,
    DESIRED_CHARGE,
)
from iotbill_pipelines.engine.statements import statement
from iotbill_pipelines.engine.terms import UNIT_SIZES

LEVELS = {"customer": "retail", "reseller": "wholesale", "vendor": "vendor"}
"""Kind of account -> level of the charges that its contracts make."""

SHORTFALL, COMMIT_OVERAGE = "shortfall", "commit_overage"
TERMINATION_FEE = "termination_fee"

KINDS = (DISCOUNT, SHORTFALL, COMMIT_OVERAGE, TERMINATION_FEE)
"""Kinds of charges that contracts add to those of the catalog."""

_CONTRACT_RATE = pa.schema(
    [
        ("account_id", pa.string()),
        ("service_id", pa.string()),
        ("replaced_price_id", pa.string()),
        ("price_id", pa.string()),
        ("from_date", pa.date32()),
        ("to_date", pa.date32()),
    ]
)
_SCOPE = pa.schema([("account_id", pa.string()), ("service_id", pa.string())])
_UNIT = Decimal(10) ** RATE_SCALE
_LINE = ("usage_period", "account_id", "service_id", "charge_id")


def known_contracts(compute: Compute) -> tuple[Contract, ...]:
    """Read the contracts of the relations. Raises ContractError."""
    rows = compute.fetch("contract").to_pylist()
    if not rows:
        return ()
    return read_contracts(
        rows,
        compute.fetch("contract_terms").to_pylist(),
        compute.fetch("contract_suspension").to_pylist(),
    )


# ----------------------------------------------------------------------------------- prices


def define_prices(compute: Compute, start: date, end: date) -> None:
    """Define ``contract_price``: what stands in for catalog prices on the days ``[start, end)``.

    Adds the contracts' prices to ``price`` and ``price_tier`` with priority 0: they are never tried
    by themselves. Needs the day intervals of guiding.
    """
    drop = "select * from {} where price_id not in (select price_id from price where priority = 0)"
    priced = [contract for contract in known_contracts(compute) if _prices_anything(contract, end)]
    rates: list[dict[str, object]] = []
    added: dict[str, tuple[dict[str, object], dict[str, object]]] = {}
    if priced:
        if compute.fetch("select count(*) as n from price where priority = 0")["n"][0].as_py():
            compute.define("price_tier", drop.format("price_tier"), keep=True)
            compute.define("price", drop.format("price"), keep=True)
        wanted = {p.charge_id for contract in priced for p in _all_prices(contract, end)}
        catalog = _catalog_prices(compute, wanted)
        for scope, contracts in _scopes(priced, Coverage.of(compute)):
            for charge_id in sorted(wanted & {p.charge_id for c in contracts
                                              for p in _all_prices(c, end)}):  # fmt: skip
                for row in catalog[charge_id]:
                    rates += _rates(scope, contracts, row, (start, end), added)
        _append(compute, "price", [price for price, _ in added.values()])
        _append(compute, "price_tier", [tier for _, tier in added.values()])
    compute.load("contract_rate", pa.Table.from_pylist(rates, schema=_CONTRACT_RATE))
    compute.define("contract_price", statement("contract", "contract_price"), keep=True)


def _all_prices(contract: Contract, end: date) -> Iterator[Any]:
    for term in terms_of(contract, end):
        yield from term.terms.prices


def _prices_anything(contract: Contract, end: date) -> bool:
    return next(_all_prices(contract, end), None) is not None


def _catalog_prices(compute: Compute, charges: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Prices of charges; ``asked_state`` is the state, null for core-active ones."""
    active = set(
        compute.fetch("select state from state where core_state = 'active'")["state"].to_pylist()
    )
    found: dict[str, list[dict[str, Any]]] = {charge: [] for charge in charges}
    for row in compute.fetch("select * from price order by price_id").to_pylist():
        if row["charge_id"] in found and row["priority"] > 0:
            asked = None if row["state"] in active else row["state"]
            found[row["charge_id"]].append(row | {"asked_state": asked})
    return found


_Distances = dict[Contract, int]
"""Contracts that may price something, and how far above the account they are."""


def _scopes(
    contracts: Sequence[Contract], coverage: Coverage
) -> Iterator[tuple[tuple[str, str], _Distances]]:
    """Yield (account, service or '') with its contracts: accounts, and services with their own."""
    of_account: dict[str, _Distances] = defaultdict(dict)
    of_service: dict[tuple[str, str], _Distances] = defaultdict(dict)
    for contract in sorted(contracts, key=precedence):
        if contract.service_id is not None:
            of_service[contract.account_id, contract.service_id][contract] = 0
            continue
        for account_id in coverage.accounts(contract):
            of_account[account_id][contract] = coverage.distance(contract, account_id) or 0
    for account_id in sorted(of_account):
        yield (account_id, ""), of_account[account_id]
    for account_id, service_id in sorted(of_service):
        both = {**of_service[account_id, service_id], **of_account[account_id]}
        yield (account_id, service_id), both


def _rates(
    scope: tuple[str, str],
    contracts: _Distances,
    replaced: Mapping[str, Any],
    span: tuple[date, date],
    added: dict[str, tuple[dict[str, object], dict[str, object]]],
) -> list[dict[str, object]]:
    segments = price_segments(
        replaced["charge_id"], *span, contracts=list(contracts),
        zone=replaced["zone"], state=replaced["asked_state"],
        distances={contract.id: steps for contract, steps in contracts.items()},
    )  # fmt: skip
    rows: list[dict[str, object]] = []
    for segment in segments:
        price_id = None
        if segment.rate is not None:
            price, tier = _price_rows(segment, replaced)
            price_id = str(price["price_id"])
            added[price_id] = price, tier
        if rows and rows[-1]["price_id"] == price_id:
            rows[-1]["to_date"] = segment.end
            continue
        rows.append(
            {
                "account_id": scope[0],
                "service_id": scope[1],
                "replaced_price_id": replaced["price_id"],
                "price_id": price_id,
                "from_date": segment.start,
                "to_date": segment.end,
            }
        )
    return rows if any(row["price_id"] for row in rows) else []


def _price_rows(
    segment: PriceSegment, replaced: Mapping[str, Any]
) -> tuple[dict[str, object], dict[str, object]]:
    """A flat price at the contract's rate, with the surcharges that the replaced price has."""
    assert segment.rate is not None
    exact = (Fraction(segment.rate) + Fraction(replaced["surcharge_e12"]) / 10**RATE_SCALE) * (
        Fraction(replaced["surcharge_factor_e12"]) / 10**RATE_SCALE
    )
    price_id = f"{segment.contract_id}:{replaced['price_id']}@{plain(segment.rate)}"
    price = {name: replaced[name] for name in CATALOG["price"].column_names} | {
        "price_id": price_id, "priority": 0, "valid_from": date.min, "valid_to": None,
        "model": "flat", "edge": "inclusive", "package_rounding": "up", "counted": "period",
        "count_group": price_id, "at_zero": False, "connect_e12": Decimal(0),
        "least_e12": None, "most_e12": None, "rounding_mode": None, "rounding_digits": None,
    }  # fmt: skip
    tier = {
        "price_id": price_id, "tier_no": 1, "lower_quantity": 0, "upper_quantity": None,
        "block_quantity": 0, "flat_e12": Decimal(0),
        "rate_e12": (round_half_up(exact, RATE_SCALE) * _UNIT).quantize(Decimal(1)),
    }  # fmt: skip
    return price, tier


def _append(compute: Compute, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    schema = CATALOG[name].arrow_schema
    known = compute.fetch(f"select {CATALOG[name].column_list} from {name}").cast(schema)
    more = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    compute.load(name, pa.concat_tables([known, more]))


# ------------------------------------------------------------------------------------- states

_END = pa.schema(
    [
        ("account_id", pa.string()),
        ("service_id", pa.string()),
        ("ended_on", pa.date32()),
        ("changed_at", pa.timestamp("us")),
        ("state", pa.string()),
    ]
)


def end_services(compute: Compute) -> None:
    """Let services take the state that the termination status of their contract names.

    Redefines ``service_state``, which says the same when asked again. A service that has a contract
    of its own then keeps its state. Runs before days are told apart.
    """
    known = known_contracts(compute)
    ended = [
        (contract, contract.terminated_on, status.state)
        for contract in known
        if (status := termination_status(contract)) is not None
        and status.state is not None
        and contract.terminated_on is not None
    ]
    if not ended:
        return
    coverage = Coverage.of(compute)
    offers = compute.fetch(
        "select distinct service_id, payer_account_id as account_id from service_offer"
    ).to_pylist()
    rows = []
    for contract, day, state in ended:
        accounts = {*coverage.accounts(contract)}
        kept = {
            other.service_id
            for other in known
            if contract.service_id is None and other.service_id and term_at(other, day) is not None
        }
        rows += [
            {
                **offer,
                "ended_on": day,
                "changed_at": datetime.combine(day, time()),
                "state": state,
            }
            for offer in offers
            if offer["account_id"] in accounts
            and contract.service_id in (None, offer["service_id"])
            and offer["service_id"] not in kept
        ]
    compute.load("contract_end", pa.Table.from_pylist(rows, schema=_END))
    compute.define("service_state", statement("contract", "contract_state"), keep=True)


# ------------------------------------------------------------------------ commitments and fees


@dataclass(frozen=True)
class _Account:
    account_id: str
    entity_id: str
    level: str


def settle(compute: Compute, period: Month) -> None:
    """Add discounts, shortfalls, overage and early termination fees of ``period`` to its charges.

    Redefines ``desired_charge``, ``charge_component`` and ``charge_finding``; defines
    ``commitment_status``. A window is charged in the month of its last day under contract, a fee in
    that of the contract's last day. Needs ``earlier_charge``: the desired charges of earlier
    periods that windows reach into, as they were settled; late usage there moves the shortfall
    (CT-07).
    """
    contracts = known_contracts(compute)
    charges: list[dict[str, object]] = []
    components: list[dict[str, object]] = []
    findings: list[dict[str, object]] = []
    status: list[dict[str, object]] = []
    accounts = _accounts(compute) if contracts else {}
    if contracts:
        _discount(compute, contracts, accounts, period)
    open_windows = {
        contract.id: list(windows_in(contract, period))
        for contract in contracts
        if contract.account_id in accounts
    }
    evidence = _Evidence(
        compute, [contract for contract in contracts if open_windows.get(contract.id)], period
    )
    for contract in contracts:
        account = accounts.get(contract.account_id)
        if account is None:
            findings.append(
                _finding(
                    period, "contract_without_account", contract,
                    f"is of account {contract.account_id}, which is not known; send the account, "
                    "or correct the contract",
                )
            )  # fmt: skip
            continue
        for commitment, window in open_windows[contract.id]:
            row = _status(contract, commitment, window, account, evidence, period)
            status.append(row)
            if row["closes"]:
                quantity = _shortfall_quantity(commitment, row)
                _add(charges, components, SHORTFALL, row, account, quantity)
                over = excess_of(
                    commitment, window, evidence.lines(contract, account.level, window)
                )
                if over is not None:
                    _add_excess(charges, components, row, commitment, over, account)
        fee = _fee(contract, period)
        if fee is not None:
            _add(charges, components, TERMINATION_FEE, fee, account, 0)
        findings += _unlike_status(compute, contract, period)
    findings += evidence.findings
    _append_results(compute, charges, components, findings)
    compute.load(
        "commitment_status", pa.Table.from_pylist(status, schema=COMMITMENT_STATUS.arrow_schema)
    )


def _discount(
    compute: Compute,
    contracts: Sequence[Contract],
    accounts: Mapping[str, _Account],
    period: Month,
) -> None:
    """Put discounts beside the charges before commitments are measured over both."""
    levels = {account.account_id: account.level for account in accounts.values()}
    charges, components, foreign = reduce_charges(compute, contracts, levels, period)
    named = {contract.id: contract for contract in contracts}
    findings = [
        _finding(
            period, "discount_currency", named[contract_id],
            f"has discounts in {named[contract_id].signed_terms.currency}, but its account is "
            f"charged in {', '.join(sorted(others))} too, which they do not reduce; agree on a "
            "contract for each currency",
        )
        for contract_id, others in sorted(foreign.items())
    ]  # fmt: skip
    _append_results(compute, charges, components, findings)


def _append_results(
    compute: Compute,
    charges: Sequence[Mapping[str, object]],
    components: Sequence[Mapping[str, object]],
    findings: Sequence[Mapping[str, object]],
) -> None:
    for schema, rows in (
        (DESIRED_CHARGE, charges),
        (CHARGE_COMPONENT, components),
        (CHARGE_FINDING, findings),
    ):
        if rows:
            more = f"contract_{schema.name}"
            listed = [dict(row) for row in rows]
            compute.load(more, pa.Table.from_pylist(listed, schema=schema.arrow_schema))
            both = f"select * from {schema.name} union all select * from {more}"
            compute.define(schema.name, conform(both, schema), keep=True)


def windows_in(contract: Contract, period: Month) -> Iterator[tuple[Commitment, CommitmentWindow]]:
    """Yield the commitments' windows that have a day under contract in the period."""
    ids = {c.id for term in terms_of(contract, period.end) for c in term.terms.commitments}
    for commitment_id in sorted(ids):
        for window in commitment_windows(contract, commitment_id, period.end):
            if window.covered_until > period.start:
                commitment = next(c for c in window.term.terms.commitments if c.id == commitment_id)
                yield commitment, window


def first_month(contracts: Iterable[Contract], period: Month) -> Month:
    """The first month whose charges count in a window that ``period`` lies in; else ``period``."""
    starts = [
        window.covered_from if not commitment.eligibility.include_prior_periods else contract.start
        for contract in contracts
        for commitment, window in windows_in(contract, period)
    ]
    return min([period, *map(Month.of, starts)])


def charge_id_of(contract_id: str, part: str, start: date | None = None) -> str:
    """The id of a contract's own charge: its commitment's window, or its termination fee."""
    return "/".join([contract_id, part, *([] if start is None else [str(start)])])


def _accounts(compute: Compute) -> dict[str, _Account]:
    rows = compute.fetch("select account_id, entity_id, kind from account").to_pylist()
    return {
        row["account_id"]: _Account(row["account_id"], row["entity_id"], LEVELS[row["kind"]])
        for row in rows
        if row["kind"] in LEVELS
    }


class _Evidence:
    """Charges and services of the accounts whose commitments are measured."""

    def __init__(self, compute: Compute, contracts: Sequence[Contract], period: Month) -> None:
        self.period = period
        self.findings: list[dict[str, object]] = []
        self._lines: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._presences: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._products: dict[str, list[str]] = defaultdict(list)
        self._told: dict[str, set[str]] = defaultdict(set)
        if not contracts:
            return
        self._coverage = Coverage.of(compute)
        scopes = {
            (account, contract.service_id or "")
            for contract in contracts
            for account in self._coverage.accounts(contract)
        }
        rows = [
            {"account_id": account, "service_id": service} for account, service in sorted(scopes)
        ]
        compute.load("committed_scope", pa.Table.from_pylist(rows, schema=_SCOPE))
        terms = {
            row["charge_id"]: row
            for row in compute.fetch(
                "select charge_id, offer_id, usage_class from charge"
            ).to_pylist()
        }
        for row in compute.fetch(statement("contract", "commitment_line")).to_pylist():
            if row["kind"] == DISCOUNT:  # a discount counts as the charge that it reduces
                row["charge_id"] = row["charge_id"].split("/", 2)[2]
            known = terms.get(row["charge_id"], {})
            row |= {name: known.get(name) for name in ("offer_id", "usage_class")}
            self._lines[row["level"], row["account_id"]].append(row)
        if not any(
            commitment.kind not in ("invoice_amount", "usage_class")
            for contract in contracts
            for commitment, _ in windows_in(contract, period)
        ):
            return
        for row in compute.fetch(statement("contract", "commitment_presence")).to_pylist():
            self._presences[row["level"], row["account_id"]].append(row)
        for row in compute.fetch(
            "select distinct offer_id, product_id from charge where offer_id is not null"
        ).to_pylist():
            self._products[row["offer_id"]].append(row["product_id"])

    def lines(self, contract: Contract, level: str, window: CommitmentWindow) -> list[CommitLine]:
        """The contract's charges, each on the last day of its usage period under contract."""
        currency = window.term.terms.currency
        found, foreign = [], set()
        for row in self._of(contract, self._lines, level):
            if contract.service_id not in (None, row["service_id"]):
                continue
            if row["currency"] != currency:
                foreign.add(row["currency"])
                continue
            month = Month.parse(row["usage_period"])
            day = month.last_day
            if month.start < contract_end(window) <= day:
                day = contract_end(window) - timedelta(days=1)
            found.append(
                CommitLine(
                    key=" ".join(str(row[name]) for name in _LINE),
                    charge_id=row["charge_id"],
                    day=day,
                    currency=currency,
                    amount=of_minor(row["amount_minor"], currency),
                    discount=of_minor(-row["amount_minor"], currency)
                    if row["kind"] == DISCOUNT
                    else Decimal(0),
                    quantity=int(row["quantity"]),
                    usage_class=row["usage_class"],
                    service_id=row["service_id"] or None,
                    offer_id=row["offer_id"],
                    product_id=row["product_id"],
                    commit_eligible=row["commit_eligible"],
                    hardware=row["hardware"],
                )
            )
        for other in sorted(foreign - self._told[contract.id]):
            self._told[contract.id].add(other)
            self.findings.append(
                _finding(
                    self.period, "commitment_currency", contract,
                    f"is in {currency}, but its account is charged in {other} too, which does not "
                    "count; agree on the commitment in one currency, or on a contract for each",
                )
            )  # fmt: skip
        return found

    def _of(
        self,
        contract: Contract,
        found: Mapping[tuple[str, str], list[dict[str, Any]]],
        level: str,
    ) -> Iterator[dict[str, Any]]:
        for account in self._coverage.accounts(contract):
            yield from found.get((level, account), [])

    def presences(self, contract: Contract, level: str, commitment: Commitment) -> list[Presence]:
        """Services that are there to be counted: active, and suspended ones unless connections."""
        return [
            Presence(row["service_id"], row["from_date"], row["to_date"], row["offer_id"], product)
            for row in self._of(contract, self._presences, level)
            if contract.service_id in (None, row["service_id"])
            if row["core_state"] == "active" or commitment.kind != "connections"
            for product in self._sold(row["offer_id"], commitment)
        ]

    def _sold(self, offer_id: str, commitment: Commitment) -> Sequence[str | None]:
        if commitment.products or commitment.kind == "package_service":
            return self._products[offer_id]
        return (None,)


def contract_end(window: CommitmentWindow) -> date:
    """The first day that no term of the contract covers, as far as the window's term tells."""
    return date.max if window.term.renews else window.term.covered_until


def _status(
    contract: Contract,
    commitment: Commitment,
    window: CommitmentWindow,
    account: _Account,
    evidence: _Evidence,
    period: Month,
) -> dict[str, object]:
    lines = evidence.lines(contract, account.level, window)
    presences = evidence.presences(contract, account.level, commitment)
    closes = window.covered_until <= period.end
    found = evaluate(contract, commitment, window, lines, presences)
    as_of = min(period.end, window.covered_until)
    ahead = found if closes else project(contract, commitment, window, found, as_of)
    if not closes and commitment.kind not in FLOW_KINDS:
        # of a level, what counts so far is what counts on the period's last day
        counted = evaluate(contract, commitment, _cut(window, as_of), lines, presences)
        found = counted
    currency, left_out = found.currency, found.excluded
    amounts = commitment.amounts
    anchor = window.term.ramp_anchor
    last_day = as_of - timedelta(days=1)
    coming = next(
        (
            (starts, step.value)
            for starts, step in step_starts(amounts, anchor)
            if last_day < starts < window.term.covered_until
        ),
        (None, None),
    )
    return {
        "usage_period": str(period),
        "contract_id": contract.id,
        "commitment_id": commitment.id,
        "window_start": window.covered_from,
        "charge_id": charge_id_of(contract.id, commitment.id, window.covered_from),
        "level": account.level,
        "account_id": account.account_id,
        "service_id": contract.service_id or "",
        "product_id": commitment.penalty.product_id,
        "kind": commitment.kind,
        "unit": _unit(commitment, currency),
        "currency": currency,
        "window_end": window.covered_until,
        "closes": closes,
        "committed": _rate(found.committed),
        "measured": _rate(found.measured),
        "missing": _rate(found.missing),
        "penalty_minor": to_minor(found.penalty, currency) if closes else 0,
        "projected": _rate(ahead.measured),
        "projected_missing": _rate(ahead.missing),
        "projected_minor": to_minor(ahead.penalty, currency),
        "step_value": _rate(Fraction(ramp_value(amounts, anchor, last_day))),
        "next_step_on": coming[0],
        "next_step_value": None if coming[1] is None else _rate(Fraction(coming[1])),
        "excluded_lines": sum(each.lines for each in found.excluded),
        "excluded_amount": _rate(sum((Fraction(each.amount) for each in left_out), Fraction())),
        "detail": "; ".join(
            [*found.explanation, *(f"{e.lines} charges {e.reason}: {e.amount}" for e in left_out)]
        ),
    }  # fmt: skip


def _cut(window: CommitmentWindow, day: date) -> CommitmentWindow:
    """The window as far as it has passed on a day."""
    return CommitmentWindow(
        window.start, window.end, window.covered_from, day,
        window.counts_from, min(window.counts_until, day), window.term,
    )  # fmt: skip


def _unit(commitment: Commitment, currency: str) -> str:
    if commitment.kind not in FLOW_KINDS:
        return "services"
    return currency if commitment.unit == "amount" else commitment.per


def _rate(value: Fraction) -> Decimal:
    return round_half_up(value, RATE_SCALE)


def _shortfall_quantity(commitment: Commitment, row: Mapping[str, Any]) -> int:
    """What is missing, in class units or services; money has no quantity."""
    if commitment.unit == "amount":
        return 0
    return int(row["missing"] * UNIT_SIZES[commitment.per])


def _fee(contract: Contract, period: Month) -> dict[str, Any] | None:
    ended = contract.terminated_on
    if ended is None or Month.of(ended - timedelta(days=1)) != period:
        return None
    fee = termination_fee(contract, ended, status=contract.termination_status)
    if fee.product_id is None:
        return None
    return {
        "usage_period": str(period),
        "charge_id": charge_id_of(contract.id, TERMINATION_FEE),
        "service_id": contract.service_id or "",
        "product_id": fee.product_id,
        "currency": fee.currency,
        "penalty_minor": to_minor(fee.amount, fee.currency),
        "detail": "; ".join([f"ended on {fee.ends_on}, term to {fee.term_end}", *fee.explanation]),
    }


def _add_excess(
    charges: list[dict[str, object]],
    components: list[dict[str, object]],
    row: Mapping[str, Any],
    commitment: Commitment,
    over: Excess,
    account: _Account,
) -> None:
    """What exceeds a commitment, as a charge beside that of its shortfall."""
    factor, currency = plain(commitment.overage_factor or Decimal(1)), row["currency"]
    told = [f"{name}: {_rate(amount)} exceeds, + {part}" for name, amount, part in over.parts]
    excess = {
        **row,
        "charge_id": f"{row['charge_id']}/overage",
        "penalty_minor": to_minor(over.amount, currency),
        "detail": "; ".join([f"beyond the commitment at {factor} times the price", *told]),
    }
    _add(charges, components, COMMIT_OVERAGE, excess, account, 0)


def _add(
    charges: list[dict[str, object]],
    components: list[dict[str, object]],
    kind: str,
    row: Mapping[str, Any],
    account: _Account,
    quantity: int,
) -> None:
    """One charge with one component, which says how it comes about."""
    shared = {
        "usage_period": row["usage_period"],
        "level": account.level,
        "account_id": account.account_id,
        "service_id": row["service_id"],
        "charge_id": row["charge_id"],
        "kind": kind,
        "records": 0,
        "quantity": quantity,
        "amount_minor": row["penalty_minor"],
    }
    charges.append(
        shared
        | {
            "billing_period": row["usage_period"],
            "entity_id": account.entity_id,
            "product_id": row["product_id"],
            "linear": True,
            "currency": row["currency"],
            "price_ids": "",
        }
    )
    components.append(shared | {"component_id": kind, "detail": row["detail"]})


def _unlike_status(
    compute: Compute, contract: Contract, period: Month
) -> Iterator[dict[str, object]]:
    """A contract that ended in the period, whose services are not in the state its status says."""
    ended, status = contract.terminated_on, termination_status(contract)
    if ended is None or status is None or not period.start <= ended < period.end:
        return
    if status.state is not None:
        return  # they took it by themselves
    services = compute.fetch(
        "select count(distinct i.service_id) as services, min(i.service_id) as example"
        " from service_offer_interval as i"
        " join service_state_interval as t on t.service_id = i.service_id"
        f" where i.account_id = {literal(contract.account_id)}"
        + (f" and i.service_id = {literal(contract.service_id)}" if contract.service_id else "")
        + f" and t.from_date <= date '{ended}' and t.to_date > date '{ended}'"
        f" and i.to_date > date '{ended}' and t.core_state <> '{status.core_state.value}'"
        " and t.core_state <> 'cancelled'"
    ).to_pylist()[0]
    if services["services"]:
        yield _finding(
            period, "contract_service_state", contract,
            f"ended on {ended} as {status.status}, which means {status.core_state.value}, but "
            f"{services['services']} of its services are in another state then (for example "
            f"{services['example']}); send their states, or correct the contract",
        )  # fmt: skip


def _finding(period: Month, code: str, contract: Contract, rule: str) -> dict[str, object]:
    return {
        "usage_period": str(period),
        "code": code,
        "service_id": contract.service_id,
        "subject": contract.id,
        "message": f"contract {contract.id} {rule}",
    }


__all__ = [
    "DISCOUNT",
    "KINDS",
    "LEVELS",
    "SHORTFALL",
    "TERMINATION_FEE",
    "charge_id_of",
    "define_prices",
    "end_services",
    "first_month",
    "known_contracts",
    "settle",
    "windows_in",
]
