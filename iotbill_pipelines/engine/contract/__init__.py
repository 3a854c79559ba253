"""Contracts: prices, commitments, terms and their ends (RULEBOOK §4).

Frozen terms and facts in, frozen results with their arithmetic out; nothing is stored, and asking
again gives the same answer. Penalties, fees and prices are desired amounts: what to book is the
difference to what is booked.

- :mod:`.terms` what a contract says; :mod:`.signing` copying a template, co-termination;
- :mod:`.lifecycle` terms, renewals, suspensions; :mod:`.prices` who prices a charge on which days;
- :mod:`.discounts` and, as charges, :mod:`.reductions`;
- :mod:`.commitments` windows, shortfalls, penalties; :mod:`.forecast`;
- :mod:`.termination` fees and what-if; :mod:`.renewals` the renewal desk.
"""

from iotbill_pipelines.engine.contract.commitments import (
    CommitLine,
    CommitmentWindow,
    Excess,
    Excluded,
    Presence,
    Shortfall,
    commitment_windows,
    committed_amount,
    evaluate,
    excess_of,
    true_up_adjustment,
)
from iotbill_pipelines.engine.contract.discounts import (
    DiscountableLine,
    DiscountedLine,
    discount_lines,
)
from iotbill_pipelines.engine.contract.forecast import project
from iotbill_pipelines.engine.contract.lifecycle import (
    ContractTerm,
    extended_end,
    term_at,
    termination_status,
    terms_of,
)
from iotbill_pipelines.engine.contract.prices import (
    DatedRate,
    PeriodPrice,
    PricedSegment,
    PriceSegment,
    price_period,
    price_segments,
    ramp_value,
)
from iotbill_pipelines.engine.contract.renewals import (
    AccountHistory,
    Flag,
    FlagPolicy,
    RenewalRow,
    alert_dates,
    renewal_pipeline,
    usage_flags,
)
from iotbill_pipelines.engine.contract.signing import co_terminated_share, sign
from iotbill_pipelines.engine.contract.termination import TerminationFee, termination_fee, whatif
from iotbill_pipelines.engine.contract.terms import (
    Commitment,
    Contract,
    ContractPrice,
    ContractTemplate,
    ContractTerms,
    Discount,
    EarlyTermination,
    EligibilityPolicy,
    Penalty,
    PenaltyTier,
    RampStep,
    Renewal,
    Season,
    SeasonalRate,
    Suspension,
    TerminationStatus,
)

__all__ = [
    "AccountHistory",
    "CommitLine",
    "Commitment",
    "CommitmentWindow",
    "Contract",
    "ContractPrice",
    "ContractTemplate",
    "ContractTerm",
    "ContractTerms",
    "DatedRate",
    "Discount",
    "DiscountableLine",
    "DiscountedLine",
    "EarlyTermination",
    "EligibilityPolicy",
    "Excess",
    "Excluded",
    "Flag",
    "FlagPolicy",
    "Penalty",
    "PenaltyTier",
    "PeriodPrice",
    "Presence",
    "PriceSegment",
    "PricedSegment",
    "RampStep",
    "Renewal",
    "RenewalRow",
    "Season",
    "SeasonalRate",
    "Shortfall",
    "Suspension",
    "TerminationFee",
    "TerminationStatus",
    "alert_dates",
    "co_terminated_share",
    "commitment_windows",
    "committed_amount",
    "discount_lines",
    "evaluate",
    "excess_of",
    "extended_end",
    "price_period",
    "price_segments",
    "project",
    "ramp_value",
    "renewal_pipeline",
    "sign",
    "term_at",
    "termination_fee",
    "termination_status",
    "terms_of",
    "true_up_adjustment",
    "usage_flags",
    "whatif",
]
