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
from iotbill_pipelines.engine.commission.terms import (
    AgeTier,
    CommissionPlan,
    CommissionTier,
    PayoutTerms,
    plan_of,
)

__all__ = [
    "AgeTier",
    "Clawback",
    "ClawbackTerms",
    "CommissionLine",
    "CommissionPlan",
    "CommissionTier",
    "Earned",
    "EarnedLine",
    "Payout",
    "PayoutTerms",
    "claw_back",
    "earn",
    "plan_of",
    "served_days",
    "served_full_months",
    "settle_payouts",
]
