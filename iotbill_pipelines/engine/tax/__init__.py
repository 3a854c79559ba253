"""Taxes of invoices and credit notes, from tables (RULEBOOK §8).

:class:`TaxEngine` is the interface, :class:`TableTaxEngine` the engine that ships. A VAT id is
validated elsewhere; the engine is told the outcome.
"""

from iotbill_pipelines.engine.tax.documents import (
    Assessment,
    Customer,
    Seller,
    TaxableLine,
    TaxDocument,
    TaxedLine,
    TaxItem,
    TaxTotal,
    UntaxedLine,
    control_totals,
)
from iotbill_pipelines.engine.tax.engine import TableTaxEngine, TaxEngine, credit_note
from iotbill_pipelines.engine.tax.terms import (
    ExemptionCertificate,
    Jurisdiction,
    ReverseCharge,
    Sourcing,
    TaxPolicy,
    TaxRate,
    TaxTable,
)

__all__ = [
    "Assessment",
    "Customer",
    "ExemptionCertificate",
    "Jurisdiction",
    "ReverseCharge",
    "Seller",
    "Sourcing",
    "TableTaxEngine",
    "TaxDocument",
    "TaxEngine",
    "TaxItem",
    "TaxPolicy",
    "TaxRate",
    "TaxTable",
    "TaxTotal",
    "TaxableLine",
    "TaxedLine",
    "UntaxedLine",
    "control_totals",
    "credit_note",
]
