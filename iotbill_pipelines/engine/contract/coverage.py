"""Which accounts a contract holds for: its own, or with ``covers: tree`` all below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from iotbill_pipelines.engine.compute import Compute
from iotbill_pipelines.engine.contract.terms import Contract


@dataclass(frozen=True)
class Coverage:
    """Accounts by the account that they report to. Circles end where they close."""

    parents: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, compute: Compute) -> Coverage:
        """Read the relation ``account``."""
        rows = compute.fetch("select account_id, parent_account_id from account").to_pylist()
        return cls({row["account_id"]: row["parent_account_id"] for row in rows})

    def distance(self, contract: Contract, account_id: str) -> int | None:
        """Return how many steps the contract's account is above an account that it covers; 0 for
        itself, None for one that it does not cover."""
        if contract.account_id == account_id:
            return 0
        if contract.signed_terms.covers == "account":
            return None
        seen, above, steps = {account_id}, self.parents.get(account_id), 1
        while above is not None and above not in seen:
            if above == contract.account_id:
                return steps
            seen.add(above)
            above, steps = self.parents.get(above), steps + 1
        return None

    def accounts(self, contract: Contract) -> list[str]:
        """Return the accounts that a contract covers, in order of their ids."""
        if contract.signed_terms.covers == "account":
            return [contract.account_id]
        found = {a for a in self.parents if self.distance(contract, a) is not None}
        return sorted({contract.account_id, *found})

    def covering(
        self, contracts: Iterable[Contract], account_id: str
    ) -> Iterator[tuple[Contract, int]]:
        """Yield the contracts that hold for an account, each with how far above it is."""
        for contract in contracts:
            steps = self.distance(contract, account_id)
            if steps is not None:
                yield contract, steps
