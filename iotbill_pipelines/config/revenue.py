"""``configs/revenue.yaml`` and ``configs/commissions.yaml`` -> typed terms (RULEBOOK §§7, 9)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from iotbill_pipelines.config.documents import ConfigError, Document, Problem, parse, read_yaml
from iotbill_pipelines.engine.commission import CommissionTerms, check_commissions
from iotbill_pipelines.engine.revenue import RevenueTerms, check_revenue
from iotbill_pipelines.engine.terms import TermsError


def read_revenue(configs: Path) -> RevenueTerms:
    """Read ``revenue.yaml``; without it everything is recognised as it is booked.

    Raises ConfigError naming file, line, key and rule.
    """
    path = configs / "revenue.yaml"
    if not path.exists():
        return RevenueTerms()
    document = read_yaml(path)
    terms = parse(RevenueTerms, document)
    _refuse(document, check_revenue(terms))
    return terms


def read_commissions(configs: Path) -> CommissionTerms:
    """Read ``commissions.yaml``; without it nobody earns.

    Raises ConfigError naming file, line, key and rule.
    """
    path = configs / "commissions.yaml"
    if not path.exists():
        return CommissionTerms()
    document = read_yaml(path)
    terms = parse(CommissionTerms, document)
    _refuse(document, check_commissions(terms))
    return terms


def _refuse(document: Document, errors: Iterable[TermsError]) -> None:
    problems = []
    for error in errors:
        path = document.locate(error.path)
        problems.append(Problem(str(document.path), path, document.line(path), error.rule))
    if problems:
        first, *rest = problems
        raise ConfigError(first.file, first.key, first.line, first.rule, rest)
