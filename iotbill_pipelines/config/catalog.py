"""A folder of YAML files -> the :class:`~iotbill_pipelines.engine.terms.Catalog` they describe.

Each file holds some of the catalog's top-level keys (``products``, ``offers``, ``zone_sets``, ...).
Lists of several files are put together in the order of the file names; any other key may stand in
one file only. How files are cut has no meaning: the catalog's digest does not depend on it.
``tables`` names CSV files and workbooks with rates and zones (:mod:`config.rate_tables`); they mean
the same as if their rows stood in the YAML files.

Every error is a :class:`~iotbill_pipelines.config.documents.ConfigError` that names the file, the
line, the key and what to do, also for rules that span files.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from iotbill_pipelines.config.documents import (
    ConfigError,
    Document,
    KeyPath,
    Problem,
    read_yaml,
    to_config_error,
)
from iotbill_pipelines.config.rate_tables import Merged, Sheet, merge, read_sheets
from iotbill_pipelines.engine.terms import (
    Catalog,
    Charge,
    CoreState,
    Price,
    Terms,
    TermsError,
    compile_catalog,
)

_NAMES = {
    "states": ("state", "state"),
    "products": ("id", "product"),
    "zone_sets": ("id", "zone set"),
    "share_plans": ("id", "share plan"),
    "offers": ("id", "offer"),
}
"""List -> (key that identifies an element, what people call it)."""

_CURRENCY = re.compile(r"[A-Z]{3}")


class TableFile(Terms):
    """A CSV file or workbook beside the YAML files; of a workbook all sheets, or the one named."""

    file: str
    sheet: str | None = None


class CatalogFile(Catalog):
    """What the files of a catalog may hold."""

    tables: list[TableFile] = Field(
        [], description="CSV files and workbooks with rates and zones (docs/catalog.md)"
    )


_TABLES = TypeAdapter(list[TableFile])


@dataclass(frozen=True)
class CatalogSource:
    """A catalog as read: the terms, their canonical JSON, its SHA-256, and the files."""

    catalog: Catalog
    json: str
    digest: str
    files: tuple[Path, ...]


def read_catalog(
    folder: Path, more: Sequence[Path] = (), without: Collection[str] = ()
) -> CatalogSource:
    """Read, put together and check all ``*.yaml`` files of ``folder``, and the tables they name.

    The terms are compiled once here, so that a catalog which loads is a catalog that rates.
    ``more`` are tables that the files do not name yet, ``without`` names that are not to be read:
    what a catalog would be after an import.

    Raises ConfigError naming file, line, key and what to do.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ConfigError(
            str(folder), (), 1, "no *.yaml file here; a catalog needs products, states and offers"
        )
    sources = _Sources(folder, [read_yaml(file) for file in files])
    tables = sources.take_tables(more, without)
    try:
        catalog = Catalog.model_validate(sources.merged.data)
    except ValidationError as error:
        raise sources.translate(to_config_error(error, sources.merged, (), Catalog)) from None
    problems = [sources.problem(path, rule) for path, rule in _findings(catalog, sources)]
    if problems:
        raise _raised(problems)
    try:
        compile_catalog(catalog)
    except TermsError as error:
        raise _raised([sources.problem(error.path, error.rule)]) from None
    text = canonical_json(catalog)
    return CatalogSource(catalog, text, catalog_digest(text), (*files, *tables))


def catalog_of_json(text: str, name: str) -> Catalog:
    """Return the catalog that :func:`canonical_json` wrote, also by an earlier version of it.

    Keys that came later have their defaults. Raises ConfigError, with ``name`` for the file, for
    terms that this version no longer takes.
    """
    data = json.loads(text)
    try:
        catalog = Catalog.model_validate(data)
        compile_catalog(catalog)
    except ValidationError as error:
        raise to_config_error(error, Document(Path(name), data), (), Catalog) from None
    except TermsError as error:
        raise ConfigError(name, error.path, 1, error.rule) from None
    return catalog


def canonical_json(catalog: Catalog) -> str:
    """Return the catalog as JSON that is the same for the same terms.

    Elements of the top-level lists are ordered by id and decimals lose their trailing zeros. The
    order of charges, prices and tiers is kept: prices are tried from top to bottom.
    """
    data = catalog.model_dump(mode="python")
    for key, (name, _) in _NAMES.items():
        data[key].sort(key=lambda element, name=name: element[name])
    data["initial_states"].sort()
    return json.dumps(
        data, default=_plain, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )


def catalog_schema() -> str:
    """Return the JSON Schema of a catalog file, as published in docs/, for editors.

    A file holds some of the keys, so none is required at the top.
    """
    schema = CatalogFile.model_json_schema(by_alias=True, mode="validation")
    schema.pop("required", None)
    return json.dumps(schema, indent=2, sort_keys=True, default=str) + "\n"


def catalog_digest(text: str) -> str:
    """Return the SHA-256 of canonical JSON, in hex: the catalog's version."""
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize() + 0, "f")
    return str(value)


class _Sources:
    """The files of a catalog seen as one document, and the way back to file and line."""

    def __init__(self, folder: Path, documents: list[Document]) -> None:
        self.folder = folder
        self.origins: dict[tuple[str, int], tuple[Document, int]] = {}
        self.documents: dict[str, Document] = {}
        data: dict[str, Any] = {}
        for document in documents:
            for key, value in self._top(document):
                known = self.documents.get(key)
                if known is None:
                    self.documents[key] = document
                    data[key] = list(value) if isinstance(value, list) else value
                elif isinstance(value, list) and isinstance(data[key], list):
                    data[key] += value
                else:
                    raise document.error(
                        (key,),
                        f"already defined in {known.path.name} line {known.line((key,))}; "
                        "keep it in one file (only lists may be spread over several)",
                    )
                if isinstance(value, list):
                    offset = len(data[key]) - len(value)
                    for index in range(len(value)):
                        self.origins[key, offset + index] = document, index
        self.merged = Document(folder, data)
        self.tables = Merged()

    def take_tables(self, more: Sequence[Path], without: Collection[str]) -> list[Path]:
        """Put the rows of the files under ``tables``, and of more, into the data; return these.

        Raises ConfigError with every cell that is wrong.
        """
        data = self.merged.data
        listed = data.pop("tables", [])
        try:
            tables = _TABLES.validate_python(listed)
        except ValidationError as error:
            document = Document(self.folder, {"tables": listed})
            raise self.translate(to_config_error(error, document, ("tables",), None)) from None
        tables = [table for table in tables if table.file not in without]
        sheets: list[Sheet] = [sheet for file in more for sheet in read_sheets(file)]
        for number, table in enumerate(tables):
            found = read_sheets(self.folder / table.file)
            if table.sheet is not None:
                names = [sheet.name or "" for sheet in found]
                found = [sheet for sheet in found if sheet.name == table.sheet]
                if not found:
                    path: KeyPath = ("tables", number, "sheet")
                    raise _raised([self.problem(path, f"no sheet {table.sheet!r}; it has {names}")])
            sheets += found
        self.tables = merge(data, sheets)
        if self.tables.problems:
            raise _raised(self.tables.problems)
        return sorted({self.folder / table.file for table in tables})

    @staticmethod
    def _top(document: Document) -> Iterator[tuple[str, Any]]:
        if document.data is None:
            return
        if not isinstance(document.data, Mapping):
            raise document.error(
                (), "expected top-level keys such as products: or offers:, found something else"
            )
        for key, value in document.data.items():
            if key in CatalogFile.model_fields:
                if value is None:
                    raise document.error((key,), "has no value; fill it in or remove the key")
            elif key in {name for model in (Charge, Price) for name in model.model_fields}:
                raise document.error(
                    (key,), f"{key!r} belongs inside an offer; indent it under offers:"
                )
            yield str(key), value

    def problem(self, path: KeyPath, rule: str) -> Problem:
        """Place a path of the whole catalog in the file, or cell of a table, that holds it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.tables.cells:
                cells = self.tables.cells[path[:length]]
                named = [cells[str(part)] for part in path[length:] if str(part) in cells]
                return (named or list(cells.values()))[-1 if named else 0].problem(rule)
        path = self._without_tables(path)
        match path:
            case (str(key), int(index), *rest) if (key, index) in self.origins:
                document, local = self.origins[key, index]
                inside: KeyPath = (key, local, *rest)
                return Problem(str(document.path), inside, document.line(inside), rule)
            case (str(key), *_) if key in self.documents:
                document = self.documents[key]
                return Problem(str(document.path), path, document.line(path), rule)
        return Problem(str(self.folder), path, 1, rule)

    def _without_tables(self, path: KeyPath) -> KeyPath:
        """A price's place among those that YAML gives its charge."""
        if "prices" in path:
            at = path.index("prices")
            match path[at + 1 :]:
                case (int(number), *rest):
                    own = number - self.tables.rows.get(path[:at], 0)
                    return (*path[: at + 1], own, *rest)
        return path

    def translate(self, error: ConfigError) -> ConfigError:
        return _raised([self.problem(problem.key, problem.rule) for problem in error.problems])

    def place(self, path: KeyPath) -> str:
        """Say where a path stands, for the other half of a message."""
        problem = self.problem(path, "")
        return f"{Path(problem.file).name} line {problem.line}"


def _raised(problems: list[Problem]) -> ConfigError:
    first, *more = sorted(problems, key=lambda problem: (problem.file, problem.line))
    return ConfigError(first.file, first.key, first.line, first.rule, more)


def _findings(catalog: Catalog, sources: _Sources) -> Iterator[tuple[KeyPath, str]]:
    """Yield what reads well but cannot be meant: names twice, prices that never apply."""
    yield from _names_twice(catalog, sources)
    cores = {definition.state: definition.core for definition in catalog.states}
    for number, offer in enumerate(catalog.offers):
        at: KeyPath = ("offers", number)
        yield from _currency((*at, "currency"), offer.currency)
        for index, charge in enumerate(offer.charges):
            here: KeyPath = (*at, "charges", index)
            if charge.kind == "overage":
                yield (
                    (*here, "kind"),
                    "overage is priced by a share plan; move this charge to share_plans: overage:",
                )
            if offer.level == "vendor" and charge.external_code is None:
                yield (
                    (*here, "external_code"),
                    "a vendor's charge needs the code that its invoice prints, or no invoice line "
                    "can ever be held against it; add external_code",
                )
            yield from _unreachable(here, charge, cores)
    for number, plan in enumerate(catalog.share_plans):
        yield from _currency(("share_plans", number, "currency"), plan.currency)
        for path, overage in plan.overages():
            yield from _unreachable(("share_plans", number, *path), overage, cores)


def _names_twice(catalog: Catalog, sources: _Sources) -> Iterator[tuple[KeyPath, str]]:
    seen: dict[tuple[str, str], KeyPath] = {}

    def check(kind: str, name: str, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        first = seen.setdefault((kind, name), path)
        if first is not path:
            yield (
                path,
                f"{kind} {name!r} is already defined in {sources.place(first)}; "
                "give this one another name or remove it",
            )

    for key, (name, kind) in _NAMES.items():
        for number, element in enumerate(getattr(catalog, key)):
            yield from check(kind, getattr(element, name), (key, number, name))
    for number, offer in enumerate(catalog.offers):
        for index, charge in enumerate(offer.charges):
            yield from check("charge", charge.id, ("offers", number, "charges", index, "id"))
    for number, plan in enumerate(catalog.share_plans):
        for path, overage in plan.overages():
            yield from check("charge", overage.id, ("share_plans", number, *path, "id"))


def _currency(path: KeyPath, currency: str) -> Iterator[tuple[KeyPath, str]]:
    if not _CURRENCY.fullmatch(currency):
        yield path, f"{currency!r} is not a currency code; write three capitals, such as EUR"


def _unreachable(
    path: KeyPath, charge: Charge, cores: Mapping[str, CoreState]
) -> Iterator[tuple[KeyPath, str]]:
    alike: dict[tuple[str | None, ...], list[tuple[int, Price]]] = {}
    for number, price in enumerate(charge.prices):
        own = (price.zone, price.time, price.when)
        # what comes first and may cover this one says each of the three alike, or leaves it open
        kinds = product(*({each, None} for each in own))
        before = sorted(
            (item for kind in kinds for item in alike.get(kind, [])), key=lambda item: item[0]
        )
        for earlier, other in before:
            if _covers(other, price, cores):
                yield (
                    (*path, "prices", number),
                    f"never applies: price {earlier + 1} of {charge.id!r} comes first and fits "
                    "everything that this one fits; put the special price above the general one, "
                    "or give them separate dates",
                )
                break
            if other.state == price.state and _overlap(other, price) and own == (
                other.zone, other.time, other.when
            ):  # fmt: skip
                yield (
                    (*path, "prices", number),
                    f"overlaps price {earlier + 1} of {charge.id!r}, for the same usage, from "
                    f"{max(other.valid_from, price.valid_from)} on; end the earlier one where the "
                    "later one begins",
                )
                break
        alike.setdefault(own, []).append((number, price))


def _overlap(first: Price, later: Price) -> bool:
    """Whether both hold on some days and each on others; a promotion above a price is no such."""
    begins, ends = first.valid_from, first.valid_to or date.max
    other_begins, other_ends = later.valid_from, later.valid_to or date.max
    return max(begins, other_begins) < min(ends, other_ends) and (begins, ends) != (
        max(begins, other_begins),
        min(ends, other_ends),
    )


def _covers(first: Price, later: Price, cores: Mapping[str, CoreState]) -> bool:
    for mine, other in (
        (first.zone, later.zone),
        (first.time, later.time),
        (first.when, later.when),
    ):
        if mine is not None and mine != other:
            return False
    if first.state != later.state and not (
        first.state is None and later.state and cores.get(later.state) is CoreState.ACTIVE
    ):
        return False
    if first.valid_from > later.valid_from:
        return False
    return first.valid_to is None or (
        later.valid_to is not None and later.valid_to <= first.valid_to
    )


if __name__ == "__main__":
    sys.stdout.write(catalog_schema())
