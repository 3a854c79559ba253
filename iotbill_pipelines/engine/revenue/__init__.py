"""When revenue and prepaid cost are recognised (RULEBOOK §9; RV-01 to RV-06).

What is billed and what is earned are two calendars. A schedule says how much of an amount belongs
to each month; its cumulative sum is rounded, never the month, so the months always add up to the
amount and a schedule computed again books nothing new.
"""

from iotbill_pipelines.engine.revenue.bundles import (
    Allocation,
    Bundle,
    BundleMonth,
    BundleSchedule,
    Obligation,
    allocate,
    recognise_bundle,
)
from iotbill_pipelines.engine.revenue.prepaid import PrepaidBundle, amortise
from iotbill_pipelines.engine.revenue.recognise import (
    RevenueEntry,
    RevenueLine,
    ServiceLife,
    recognise,
    schedule_of,
)
from iotbill_pipelines.engine.revenue.roll_forward import (
    DeferredItem,
    RollForward,
    roll_forward,
)
from iotbill_pipelines.engine.revenue.schedules import (
    Recognition,
    Schedule,
    daily_straight_line,
    defer_activation_fee,
    monthly_straight_line,
)
from iotbill_pipelines.engine.revenue.terms import (
    BundleObligation,
    BundleRule,
    DeferralRule,
    PrepaidQuota,
    RevenueTerms,
    check_revenue,
)

__all__ = [
    "Allocation",
    "Bundle",
    "BundleMonth",
    "BundleObligation",
    "BundleRule",
    "BundleSchedule",
    "DeferralRule",
    "DeferredItem",
    "Obligation",
    "PrepaidBundle",
    "PrepaidQuota",
    "Recognition",
    "RevenueEntry",
    "RevenueLine",
    "RevenueTerms",
    "RollForward",
    "Schedule",
    "ServiceLife",
    "allocate",
    "amortise",
    "check_revenue",
    "daily_straight_line",
    "defer_activation_fee",
    "monthly_straight_line",
    "recognise",
    "recognise_bundle",
    "roll_forward",
    "schedule_of",
]
