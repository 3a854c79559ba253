"""Contracts from the tables of :data:`engine.schemas.REFERENCE` (RULEBOOK §4).

What a contract says is the copy of its template made at signing, with the customer's own terms on
top; both are JSON in the tables, so that a snapshot holds all of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from iotbill_pipelines.engine.contract.signing import sign
from iotbill_pipelines.engine.contract.terms import (
    Contract,
    ContractTemplate,
    ContractTerms,
    Suspension,
)

Row = Mapping[str, Any]


class ContractError(ValueError):
    """A contract that cannot be read; ``contract_id`` and ``rule`` say which and why."""

    def __init__(self, contract_id: str, rule: str) -> None:
        super().__init__(f"contract {contract_id}: {rule}")
        self.contract_id = contract_id
        self.rule = rule


def read_contracts(
    contracts: Iterable[Row], terms: Iterable[Row], suspensions: Iterable[Row]
) -> tuple[Contract, ...]:
    """Return the contracts of the rows of ``contract``, ``contract_terms`` and
    ``contract_suspension``, by id.

    A contract without an end lasts its term; one that names an account contract ends with it
    (CT-10). Raises ContractError for a contract without terms, or whose terms do not hold.
    """
    copies = {row["contract_id"]: row for row in terms}
    paused: dict[str, list[Suspension]] = defaultdict(list)
    for row in suspensions:
        try:
            found = Suspension(start=row["start_date"], end=row["end_date"])
        except ValidationError as error:
            raise ContractError(row["contract_id"], _first(error)) from None
        paused[row["contract_id"]].append(found)
    rows = {row["contract_id"]: row for row in contracts}
    signed: dict[str, Contract] = {}
    # account contracts first: what is added to them later ends with them
    for contract_id, row in sorted(
        rows.items(), key=lambda item: (item[1]["account_contract_id"] is not None, item[0])
    ):
        signed[contract_id] = _signed(row, copies.get(contract_id), paused[contract_id], signed)
    return tuple(signed[contract_id] for contract_id in sorted(signed))


def _signed(
    row: Row, copy: Row | None, paused: list[Suspension], known: Mapping[str, Contract]
) -> Contract:
    contract_id, above = row["contract_id"], row["account_contract_id"]
    if above is not None and above not in known:
        raise ContractError(
            contract_id,
            f"ends with account contract {above!r}, which is not known or itself ends with "
            "another; send that contract, or give end_date instead",
        )
    try:
        terms = effective_terms(None if copy is None else copy["terms"], row["own_terms"])
        contract = sign(
            ContractTemplate(id=row["template_id"] or contract_id, name="", terms=terms),
            contract_id=contract_id,
            account_id=row["account_id"],
            service_id=row["service_id"],
            start=row["start_date"],
            account_contract=None if above is None else known[above],
        )
        changes: dict[str, Any] = {
            "template_id": row["template_id"],
            "suspensions": tuple(sorted(paused, key=lambda each: each.start)),
            "terminated_on": row["terminated_on"],
            "termination_status": row["termination_status"],
        }
        if row["end_date"] is not None:
            changes["end"] = row["end_date"]
        return Contract.model_validate({**_fields(contract), **changes})
    except ValidationError as error:
        raise ContractError(contract_id, _first(error)) from None
    except ValueError as error:
        raise ContractError(contract_id, str(error)) from None


def _fields(contract: Contract) -> dict[str, Any]:
    return {name: getattr(contract, name) for name in Contract.model_fields}


@lru_cache(maxsize=4096)
def effective_terms(copied: str | None, own: str | None) -> ContractTerms:
    """Return the terms of a contract: the template's copy with the customer's keys in its place.

    Raises ValueError where there are neither, ValidationError where together they do not hold.
    """
    if copied is None and own is None:
        raise ValueError(
            "has no terms; name a template of configs/contracts, or give the contract its own terms"
        )
    return ContractTerms.model_validate_json(
        json.dumps({**json.loads(copied or "{}"), **json.loads(own or "{}")})
    )


def terms_json(terms: ContractTerms) -> str:
    """Return terms as the text that is kept: the same for the same terms, defaults left out."""
    return json.dumps(
        terms.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":")
    )


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place + ': ' if place else ''}{problem['msg'].removeprefix('Value error, ')}"
