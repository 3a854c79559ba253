"""Partners' commissions: earned, clawed back, paid out (RULEBOOK §7; CM-01 to CM-07)."""

from iotbill_pipelines.engine.commission.clawback import (
    Clawback,
    ClawbackTerms,
    claw_back,
    served_days,
    served_full_months,
)
from iotbill_pipelines.engine.commission.earning import (
    CommissionLine,
    Earned,
    EarnedLine,
    earn,
)
from iotbill_pipelines.engine.commission.payout import Payout, settle_payouts
from iotbill_pipelines.engine.commission.statement import (
    CommissionEntry,
    EarningLine,
    SoldService,
    commissions,
)
from iotbill_pipelines.engine.commission.terms import (
    AgeTier,
    Brought,
    CommissionPlan,
    CommissionTerms,
    CommissionTier,
    Partner,
    PartnerPlan,
    PayoutTerms,
    Upfront,
    check_commissions,
    plan_of,
)

__all__ = [
    "AgeTier",
    "Brought",
    "Clawback",
    "ClawbackTerms",
    "CommissionEntry",
    "CommissionLine",
    "CommissionPlan",
    "CommissionTerms",
    "CommissionTier",
    "Earned",
    "EarnedLine",
    "EarningLine",
    "Partner",
    "PartnerPlan",
    "Payout",
    "PayoutTerms",
    "SoldService",
    "Upfront",
    "check_commissions",
    "claw_back",
    "commissions",
    "earn",
    "plan_of",
    "served_days",
    "served_full_months",
    "settle_payouts",
]
