"""YAML with line numbers, and configuration errors that say where and what to do.

Every configuration file goes through here: :func:`read_yaml` keeps the line of every key and
:func:`parse` turns pydantic's findings into a :class:`ConfigError` naming file, line and key path.

Scalars are read so that nothing changes silently: a decimal becomes :class:`decimal.Decimal`
(never a binary fraction), ``07`` stays the text ``07`` (an MNC, not an octal number), only
``true`` and ``false`` are booleans (``NO`` is Norway), and a key written twice is an error.
"""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration file."""

    file: str
    key: KeyPath
    line: int
    rule: str

    def __str__(self) -> str:
        key = format_key(self.key)
        return f"{self.file}:{self.line}: {key + ': ' if key else ''}{self.rule}"


class ConfigError(ValueError):
    """Configuration that cannot be used; ``problems`` lists everything that was found.

    ``file``, ``key``, ``line`` and ``rule`` are those of the first problem.
    """

    def __init__(
        self, file: str, key: KeyPath, line: int, rule: str, more: Iterable[Problem] = ()
    ) -> None:
        self.problems = (Problem(file, key, line, rule), *more)
        self.file, self.key, self.line, self.rule = file, key, line, rule
        super().__init__("\n".join(map(str, self.problems)))


def format_key(path: KeyPath) -> str:
    """Write a key path as ``fields.quantity.pick[0].from``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its data, and the line of every key and element (from 1)."""

    path: Path
    data: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """Return the line of a key path, or of its nearest parent that the file has."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def error(self, path: KeyPath, rule: str) -> ConfigError:
        """Make the error for a rule that this document breaks at ``path``."""
        return ConfigError(str(self.path), path, self.line(path), rule)

    def locate(self, loc: Iterable[str | int], *, absent: bool = True) -> KeyPath:
        """Drop from a pydantic location what is not in the file (names of union members).

        With ``absent`` a last key that a mapping lacks is kept: it is the one to add.
        """
        path: list[str | int] = []
        here: Any = self.data
        parts = list(loc)
        for number, part in enumerate(parts):
            inside = (isinstance(here, dict) and part in here) or (
                isinstance(here, list) and isinstance(part, int) and part < len(here)
            )
            if inside:
                here = here[part]
                path.append(part)
            elif (
                absent
                and number == len(parts) - 1
                and isinstance(here, dict)
                and isinstance(part, str)
            ):
                path.append(part)  # a missing key: name it
        return tuple(path)


MOST_VALUES = 1_000_000
"""Values that a document may stand for, counting those behind anchors as often as they are used."""

MOST_LEVELS = 100
"""How deep they may be nested."""

_NESTING = re.compile(r"[\[{]|[-?][ \t]+(?=[-?])")
"""What opens a level without a line of its own."""

_TOO_DEEP = f"nested more than {MOST_LEVELS} deep, or an anchor that holds itself; write it flat"


class _Loader(yaml.CSafeLoader):
    """SafeLoader without YAML 1.1's surprises (see the module's docstring)."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+$|^[-+]?(?:0|[1-9][0-9]*)\.$", "-+.0123456789"),
    ("timestamp", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _decimal(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)


def read_yaml(path: Path) -> Document:
    """Read one YAML document. Raises ConfigError for bad syntax, a repeated key, no file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            str(path), (), 1, f"not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(str(path), (), 1, f"cannot be read: {error.strerror}") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Document:
    """Read YAML text; ``path`` is only named in errors."""
    pickled, lines = _parsed(text, path)
    return Document(path, pickle.loads(pickled), lines)


@lru_cache(maxsize=256)
def _parsed(text: str, path: Path) -> tuple[bytes, Mapping[KeyPath, int]]:
    """The data of a text, pickled, and its lines: a close reads each of its files ten times, and
    whoever reads gets data of his own, in a fraction of the time that parsing takes."""
    loader = _Loader(text)
    try:
        _check_nesting(text, str(path))
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {(): 1}
        if node is None:
            return pickle.dumps(None), lines
        _check_size(node, str(path))
        _collect(node, (), lines, str(path))
        return pickle.dumps(loader.construct_document(node)), MappingProxyType(lines)
    except ConfigError:
        raise
    except yaml.YAMLError as fault:
        error = _explained(text, fault)
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or str(error)
        hint = "; indent with blanks" if "\\t" in said or "tab" in said else ""
        line = mark.line + 1 if mark else 1
        raise ConfigError(str(path), (), line, f"not valid YAML: {said}{hint}") from None
    except ValueError as error:
        raise ConfigError(str(path), (), 1, f"not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _explained(text: str, fault: yaml.YAMLError) -> yaml.YAMLError:
    """The same fault in the words of the slower parser, which says what it expected."""
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as explained:
        return explained
    return fault


def _check_nesting(text: str, file: str) -> None:
    """Refuse text nested so deep that the compiled parser, which recurses, would end here."""
    if len(text) < 10_000_000 and len(_NESTING.findall(text)) < 1000:
        return
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            mark = event.start_mark
            raise ConfigError(file, (), mark.line + 1 if mark else 1, _TOO_DEEP)


def _check_size(root: yaml.Node, file: str) -> None:
    """Refuse a document whose anchors stand for more, or deeper, than anybody writes."""
    known: dict[int, tuple[int, int]] = {}  # values and levels of what a node stands for

    def measure(node: yaml.Node, level: int) -> tuple[int, int]:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        line = node.start_mark.line + 1
        if level > MOST_LEVELS:
            raise ConfigError(file, (), line, _TOO_DEEP)
        values, levels = 1, 1
        for child in children:
            found = known.get(id(child)) or measure(child, level + 1)
            values, levels = values + found[0], max(levels, found[1] + 1)
        if values > MOST_VALUES:
            rule = f"stands for more than {MOST_VALUES:,} values; write fewer, with fewer anchors"
            raise ConfigError(file, (), line, rule)
        if level + levels > MOST_LEVELS:
            raise ConfigError(file, (), line, _TOO_DEEP)
        known[id(node)] = values, levels
        return values, levels

    measure(root, 0)


def _collect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key == "<<":
                continue
            if key in seen:
                raise ConfigError(
                    file,
                    (*path, key),
                    line,
                    f"written twice (first on line {seen[key]}); keep one of them",
                )
            seen[key] = line
            lines[(*path, key)] = line
            _collect(value_node, (*path, key), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[(*path, number)] = item.start_mark.line + 1
            _collect(item, (*path, number), lines, file)


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], document: Document, data: Any = None, at: KeyPath = ()) -> M:
    """Validate a document, or a part of it that stands at ``at``, as ``model``.

    Raises ConfigError with every problem, in the order of the file's lines.
    """
    value = document.data if data is None else data
    if not isinstance(value, dict):
        raise document.error(at, "expected a mapping of keys to values")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise to_config_error(error, document, at, model) from None


def to_config_error(
    error: ValidationError,
    document: Document,
    at: KeyPath = (),
    model: type[BaseModel] | None = None,
) -> ConfigError:
    """Translate pydantic's errors: file, line, key path, and what to do."""
    problems: dict[tuple[KeyPath, str], Problem] = {}
    for detail in error.errors():
        inner = getattr((detail.get("ctx") or {}).get("error"), "path", ())
        named = bool(inner) or detail["type"] == "missing"
        path = document.locate((*at, *detail["loc"], *inner), absent=named)
        rule = _rule(detail, model)
        problems.setdefault(
            (path, rule), Problem(str(document.path), path, document.line(path), rule)
        )
    first, *rest = sorted(problems.values(), key=lambda problem: problem.line)
    return ConfigError(first.file, first.key, first.line, first.rule, rest)


def _rule(detail: ErrorDetails, model: type[BaseModel] | None) -> str:  # noqa: PLR0911 - one answer per kind of error
    kind, context = detail["type"], detail.get("ctx") or {}
    given = detail.get("input")
    match kind:
        case "missing":
            return "required key is missing; add it"
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            close = difflib.get_close_matches(name, _field_names(model), n=1)
            return "unknown key; " + (f"did you mean {close[0]!r}?" if close else "remove it")
        case "literal_error" | "enum":
            return f"{given!r} is not allowed; use {context.get('expected')}"
        case "union_tag_invalid":
            return f"{context.get('tag')!r} is not allowed; use {context.get('expected_tags')}"
        case "union_tag_not_found":
            return f"the key {context.get('discriminator')} is missing; it says which kind this is"
        case "string_type":
            return f"expected text, not {given!r}; put it in quotes"
        case "value_error" | "assertion_error":
            raised = context.get("error", detail["msg"])
            return str(getattr(raised, "rule", raised))
        case _:
            return f"{detail['msg'][0].lower()}{detail['msg'][1:]} (found {_short(given)})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _field_names(model: type[BaseModel] | None) -> list[str]:
    """Return the keys that a model and the models inside it know, for suggestions."""
    names: set[str] = set()
    seen: set[int] = set()
    queue: list[Any] = [model] if model else []
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type) and issubclass(item, BaseModel):
            for name, info in item.model_fields.items():
                names.add(info.alias or name)
                queue.append(info.annotation)
        else:
            queue.extend(getattr(item, "__args__", ()))
    return sorted(names)
