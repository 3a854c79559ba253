"""Signing a contract: the template is copied, lines added later end together (RULEBOOK §4)."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

from iotbill_pipelines.engine.calendars import add_months
from iotbill_pipelines.engine.contract.lifecycle import term_at
from iotbill_pipelines.engine.contract.terms import Contract, ContractTemplate, ContractTerms


def sign(
    template: ContractTemplate,
    *,
    contract_id: str,
    account_id: str,
    start: date,
    service_id: str | None = None,
    negotiated: ContractTerms | None = None,
    account_contract: Contract | None = None,
) -> Contract:
    """Return a contract with its own copy of the template's terms.

    ``negotiated`` replaces the template's terms where the customer got others. A line item of
    ``account_contract`` ends with the account contract's term in force at ``start``, however long
    its own would be (co-termination, CT-10).

    Raises ValueError when the account contract is not in force at ``start``, or is in another
    currency or of another account.
    """
    terms = (negotiated or template.terms).model_copy(deep=True)
    end = add_months(start, terms.term_months)
    if account_contract is not None:
        if account_contract.account_id != account_id:
            raise ValueError(
                f"contract {contract_id}: account contract {account_contract.id} belongs to "
                f"account {account_contract.account_id}, not {account_id}"
            )
        if account_contract.signed_terms.currency != terms.currency:
            raise ValueError(
                f"contract {contract_id}: {terms.currency} differs from account contract "
                f"{account_contract.id}'s {account_contract.signed_terms.currency}"
            )
        term = term_at(account_contract, start)
        if term is None:
            raise ValueError(
                f"contract {contract_id}: account contract {account_contract.id} is not in force "
                f"on {start}; sign it on its own or renew the account contract first"
            )
        end = term.covered_until
    return Contract(
        id=contract_id,
        account_id=account_id,
        service_id=service_id,
        account_contract_id=None if account_contract is None else account_contract.id,
        template_id=template.id,
        start=start,
        end=end,
        signed_terms=terms,
    )


def co_terminated_share(account_contract: Contract, line_start: date) -> Fraction:
    """Return the days a line added on ``line_start`` has left, over the days of the term (CT-10).

    What is charged once per term costs that share of itself. 0 when the contract is not in force.
    """
    term = term_at(account_contract, line_start)
    if term is None:
        return Fraction(0)
    return Fraction((term.end - line_start).days, (term.end - term.start).days)
