"""``configs/tax`` -> :class:`TaxTerms`: jurisdictions, rates, customers' facts (RULEBOOK §8).

``tax.yaml`` holds everything; tables that are long may stand beside it as CSV: ``rates*.csv``,
``customers*.csv`` and ``services*.csv``, with the keys of the YAML lists as columns and several
jurisdictions in a cell separated by blanks.
"""

from __future__ import annotations

from pathlib import Path

from stdnum.eu import vat

from iotbill_pipelines.config.documents import ConfigError, Problem, parse, read_yaml
from iotbill_pipelines.config.tables import read_table
from iotbill_pipelines.engine.tax import (
    TaxCustomer,
    TaxedService,
    TaxRate,
    TaxTerms,
    check_tax,
)

_PLACES = ("jurisdictions", "primary_use", "ship_to")


def read_tax(configs: Path) -> TaxTerms:
    """Read the ``tax`` folder of a configuration folder; no folder means no taxes.

    Raises ConfigError naming file, line, key and rule: unknown jurisdictions, rates that overlap,
    VAT ids that cannot exist.
    """
    folder = configs / "tax"
    if not folder.is_dir():
        return TaxTerms(mode="none")
    document = read_yaml(folder / "tax.yaml")
    terms = parse(TaxTerms, document)
    rates, customers, services = (sorted(folder.glob(f"{n}*.csv")) for n in _TABLES)
    terms = terms.model_copy(
        update={
            "rates": (
                *terms.rates,
                *(
                    row
                    for file in rates
                    for row in read_table(file, TaxRate, columns=list(TaxRate.model_fields))
                ),
            ),
            "customers": (
                *terms.customers,
                *(
                    row
                    for file in customers
                    for row in read_table(
                        file, TaxCustomer, columns=list(TaxCustomer.model_fields), lists=_PLACES
                    )
                ),
            ),
            "services": (
                *terms.services,
                *(
                    row
                    for file in services
                    for row in read_table(
                        file, TaxedService, columns=list(TaxedService.model_fields), lists=_PLACES
                    )
                ),
            ),
        }
    )
    problems = []
    for error in check_tax(terms):
        path = document.locate(error.path)
        problems.append(
            Problem(
                str(document.path),
                path,
                document.line(path),
                f"{_address(error.path)}{error.rule}" if path != error.path else error.rule,
            )
        )
    problems += [
        Problem(
            str(document.path),
            ("customers",),
            document.line(("customers",)),
            f"{customer.account}: {customer.vat_id!r} is no VAT id of an EU country; correct it, "
            "or leave vat_id_validated_on out",
        )
        for customer in terms.customers
        if customer.vat_id_validated_on is not None and not vat.is_valid(customer.vat_id)
    ]
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
    return terms


_TABLES = ("rates", "customers", "services")


def _address(path: tuple[str | int, ...]) -> str:
    return f"{' '.join(map(str, path))}: "
