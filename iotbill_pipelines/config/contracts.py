"""``configs/contracts`` -> templates, and contracts written down there (docs/contracts.md).

Each ``*.yaml`` file holds ``templates``, ``contracts`` or both; lists of several files are put
together. A contract names a template, whose terms are copied when it is first seen, and says under
``terms`` what was agreed instead; without a template its ``terms`` are all of it. Contracts may as
well come in by a feed (target ``contract``), naming templates from here.

Errors name file, line and key. ``python -m iotbill_pipelines.config.contracts`` writes the JSON
Schema for editors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from iotbill_pipelines.config.documents import (
    ConfigError,
    Document,
    KeyPath,
    Problem,
    parse,
    read_yaml,
    to_config_error,
)
from iotbill_pipelines.engine.contract import ContractTemplate, ContractTerms, Suspension
from iotbill_pipelines.engine.contract.checks import check_terms
from iotbill_pipelines.engine.contract.documents import (
    ContractError,
    read_contracts,
    terms_json,
)
from iotbill_pipelines.engine.terms import Catalog, Terms


class ContractDocument(Terms):
    """A signed contract as written down; ``terms`` are the keys that differ from the template."""

    id: str
    account: str
    service: str | None = None
    template: str | None = None
    account_contract: str | None = None
    start: date
    end: date | None = None
    terminated_on: date | None = None
    termination_status: str | None = None
    suspensions: tuple[Suspension, ...] = ()
    terms: dict[str, Any] = Field({}, description="keys of a template's terms")


class ContractFile(Terms):
    """A file of configs/contracts."""

    model_config = ConfigDict(json_schema_extra={"title": "Contracts"})

    templates: tuple[ContractTemplate, ...] = ()
    contracts: tuple[ContractDocument, ...] = ()


@dataclass(frozen=True)
class ContractBook:
    """All templates by id, and the rows of ``contract`` and ``contract_suspension``."""

    templates: Mapping[str, ContractTemplate] = field(default_factory=dict)
    contracts: Sequence[dict[str, Any]] = ()
    suspensions: Sequence[dict[str, Any]] = ()


def read_contract_book(folder: Path, catalog: Catalog) -> ContractBook:
    """Read and check all ``*.yaml`` files of a folder; no folder is a book without contracts.

    Raises ConfigError naming file, line, key and what to do, also for what the catalog lacks.
    """
    return book_of(
        [(document, (), parse(ContractFile, document)) for document in _documents(folder)], catalog
    )


def book_of(
    files: Sequence[tuple[Document, KeyPath, ContractFile]], catalog: Catalog
) -> ContractBook:
    """Put files together, each with the document and key it stands at. Raises ConfigError."""
    problems: list[Problem] = []
    templates: dict[str, ContractTemplate] = {}
    for document, top, file in files:
        for number, template in enumerate(file.templates):
            at: KeyPath = (*top, "templates", number)
            if template.id in templates:
                problems.append(_problem(document, (*at, "id"), f"{template.id!r} is there twice"))
            templates[template.id] = template
            problems += [
                _problem(document, (*at, "terms", *inner), rule)
                for inner, rule in check_terms(template.terms, catalog)
            ]
    rows: list[dict[str, Any]] = []
    suspensions: list[dict[str, Any]] = []
    places: dict[str, tuple[Document, KeyPath]] = {}
    for document, top, file in files:
        for number, contract in enumerate(file.contracts):
            at = (*top, "contracts", number)
            if contract.id in places:
                problems.append(_problem(document, (*at, "id"), f"{contract.id!r} is there twice"))
                continue
            places[contract.id] = document, at
            row, found = _row(document, at, contract, templates, catalog)
            rows.append(row)
            problems += found
            suspensions += [
                {"contract_id": contract.id, "start_date": pause.start, "end_date": pause.end}
                for pause in contract.suspensions
            ]
    if not problems:
        book = ContractBook(templates, rows, suspensions)
        try:
            read_contracts(rows, template_copies(rows, templates), suspensions)
        except ContractError as error:
            document, at = places[error.contract_id]
            problems.append(_problem(document, at, error.rule))
        else:
            return book
    first, *more = sorted(problems, key=lambda problem: (problem.file, problem.line))
    raise ConfigError(first.file, first.key, first.line, first.rule, more)


def template_copies(
    rows: Sequence[Mapping[str, Any]], templates: Mapping[str, ContractTemplate]
) -> list[dict[str, str]]:
    """Return the rows of ``contract_terms`` for contracts that are signed now.

    Raises ContractError for a template that is not known.
    """
    copies = []
    for row in rows:
        name = row["template_id"]
        if name is None:
            continue
        if name not in templates:
            raise ContractError(
                row["contract_id"],
                f"names template {name!r}; configs/contracts knows "
                f"{', '.join(sorted(templates)) or 'none'}; add it there, or correct the contract",
            )
        copies.append(
            {
                "contract_id": row["contract_id"],
                "template_id": name,
                "terms": terms_json(templates[name].terms),
            }
        )
    return copies


def contract_schema() -> str:
    """Return the JSON Schema of a file of configs/contracts, as published in docs/."""
    schema = ContractFile.model_json_schema(mode="validation")
    return json.dumps(schema, indent=2, sort_keys=True, default=str) + "\n"


def _documents(folder: Path) -> Iterator[Document]:
    for path in sorted(folder.glob("*.yaml")):
        document = read_yaml(path)
        if document.data is not None:
            yield document


def _row(
    document: Document,
    at: KeyPath,
    contract: ContractDocument,
    templates: Mapping[str, ContractTemplate],
    catalog: Catalog,
) -> tuple[dict[str, Any], list[Problem]]:
    problems: list[Problem] = []
    own: str | None = None
    base: dict[str, Any] = {}
    if contract.template is not None and contract.template not in templates:
        known = ", ".join(sorted(templates)) or "none"
        problems.append(
            _problem(
                document, (*at, "template"),
                f"unknown template {contract.template!r}; known: {known}",
            )
        )  # fmt: skip
    elif contract.template is not None:
        base = templates[contract.template].terms.model_dump()
    elif not contract.terms:
        problems.append(
            _problem(document, (*at, "template"), "name a template, or give all terms here")
        )
    if not problems and contract.terms:
        try:
            terms = ContractTerms.model_validate({**base, **contract.terms})
        except ValidationError as error:
            found = to_config_error(error, document, (*at, "terms"), ContractTerms)
            problems += found.problems
        else:
            dumped = terms.model_dump(mode="json")
            own = json.dumps(
                {key: dumped[key] for key in contract.terms}, sort_keys=True, separators=(",", ":")
            )
            problems += [
                _problem(document, (*at, "terms", *inner), rule)
                for inner, rule in check_terms(
                    terms, catalog, line_item=contract.service is not None
                )
                if inner[0] in contract.terms
            ]
    row = {
        "contract_id": contract.id,
        "account_id": contract.account,
        "service_id": contract.service,
        "template_id": contract.template,
        "account_contract_id": contract.account_contract,
        "start_date": contract.start,
        "end_date": contract.end,
        "terminated_on": contract.terminated_on,
        "termination_status": contract.termination_status,
        "own_terms": own,
    }
    return row, problems


def _problem(document: Document, path: KeyPath, rule: str) -> Problem:
    return Problem(str(document.path), path, document.line(path), rule)


if __name__ == "__main__":
    sys.stdout.write(contract_schema())
