"""Vendor reconciliation: our expected cost against the carrier's invoice (RULEBOOK §10).

Expected cost comes from the same rating as revenue, under the vendor's terms. It is compared with
the invoice per vendor, SIM, charge code, usage period and currency, and every difference is split
into causes by first match:

1. whole lines: ``duplicate``, ``wrong_period``, ``unknown_sim``, ``billed_inactive`` (and ``tax``
   for charge codes that are tax);
2. what nobody billed: ``unbilled_sim``;
3. the compared rest: ``proration`` (days), ``usage`` (difference of quantity x our rate), ``rate``
   (their quantity x difference of price), ``fx``, ``tax``, ``rounding``, ``unexplained``.

The parts add up to the variance in whole minor units; ``unexplained`` is what is left, never a
plug inside another cause. Whole-line causes are never netted with the rest.

The statements are in ``sql/``, one relation a file, in order.
"""

from iotbill_pipelines.engine.reconcile.documents import current_documents
from iotbill_pipelines.engine.reconcile.stage import CAUSES, RESULTS, reconcile
from iotbill_pipelines.engine.reconcile.vendor_terms import (
    AccountCharge,
    FxRate,
    PlanTerm,
    VendorTerms,
)

__all__ = [
    "CAUSES",
    "RESULTS",
    "AccountCharge",
    "FxRate",
    "PlanTerm",
    "VendorTerms",
    "current_documents",
    "reconcile",
]
