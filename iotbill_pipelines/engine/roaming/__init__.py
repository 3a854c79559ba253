"""Bilateral wholesale roaming: discount agreements settled over both operators' usage.

An :class:`Agreement` prices the usage that subscribers of one group of networks make on another's;
:func:`settle` applies it to one side's lines, :func:`compare` puts both sides beside each other,
:mod:`.exchange` writes what partners exchange. Pure values; nothing here reads files.
"""

from __future__ import annotations

from iotbill_pipelines.engine.roaming.agreement import (
    Agreement,
    AgreementError,
    AgreementPart,
    Commitment,
    Direction,
    Rate,
    ServiceGroup,
    ServicePrice,
    Tier,
    UsageLine,
)
from iotbill_pipelines.engine.roaming.discrepancy import Discrepancies, compare
from iotbill_pipelines.engine.roaming.settlement import Settlement, Unmet, settle

__all__ = [
    "Agreement",
    "AgreementError",
    "AgreementPart",
    "Commitment",
    "Direction",
    "Discrepancies",
    "Rate",
    "ServiceGroup",
    "ServicePrice",
    "Settlement",
    "Tier",
    "Unmet",
    "UsageLine",
    "compare",
    "settle",
]
