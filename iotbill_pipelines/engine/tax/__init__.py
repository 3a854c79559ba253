"""Taxes of invoices and credit notes, from tables (RULEBOOK §8).

:class:`TaxEngine` is the interface, :class:`TableTaxEngine` the engine that ships. A VAT id is
validated elsewhere; the engine is told the outcome.
"""

from iotbill_pipelines.engine.tax.adjust import TaxedParts, TaxPart, assess_difference
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
from iotbill_pipelines.engine.tax.reassess import (
    IssuedDocument,
    Pricing,
    TaxCorrection,
    reassess,
)
from iotbill_pipelines.engine.tax.terms import (
    ExemptionCertificate,
    Jurisdiction,
    ReverseCharge,
    Sourcing,
    TaxCustomer,
    TaxedService,
    TaxPolicy,
    TaxRate,
    TaxSeller,
    TaxTable,
    TaxTerms,
    check_tax,
)

__all__ = [
    "Assessment",
    "Customer",
    "ExemptionCertificate",
    "IssuedDocument",
    "Jurisdiction",
    "Pricing",
    "ReverseCharge",
    "Seller",
    "Sourcing",
    "TableTaxEngine",
    "TaxCorrection",
    "TaxCustomer",
    "TaxDocument",
    "TaxEngine",
    "TaxItem",
    "TaxPart",
    "TaxPolicy",
    "TaxRate",
    "TaxSeller",
    "TaxTable",
    "TaxTerms",
    "TaxTotal",
    "TaxableLine",
    "TaxedLine",
    "TaxedParts",
    "TaxedService",
    "UntaxedLine",
    "assess_difference",
    "check_tax",
    "control_totals",
    "credit_note",
    "reassess",
]
