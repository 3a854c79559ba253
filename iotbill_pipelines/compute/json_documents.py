"""Records inside JSON and YAML documents: found by path, arrays exploded, numbers as written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from iotbill_pipelines.compute.parts import UnreadableError

_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STEP = re.compile(r'"([^"]*)"|(\*)|([^.\[\]"]+)|\[([0-9]+)\]|\[\*\]')
_EVERY = object()


class _Literal:
    """A JSON number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_DECODER = json.JSONDecoder(parse_float=_Literal, parse_int=_Literal)


def path_steps(path: str) -> tuple[object, ...]:
    """Take ``a."b.c"[0].*`` apart: keys as texts, positions as numbers, and every-of markers."""
    steps: list[object] = []
    for match in _STEP.finditer(path):
        quoted, _, key, position = match.groups()
        if quoted is not None or key is not None:
            steps.append(quoted if key is None else key)
        elif position is not None:
            steps.append(int(position))
        else:
            steps.append(_EVERY)
    return tuple(steps)


def documents(text: str) -> Iterator[object]:
    """Yield the documents of a text that may have comments. Raises UnreadableError."""
    bare = _COMMENTS.sub(lambda match: match[1] or " ", text)
    position = 0
    while True:
        while position < len(bare) and bare[position].isspace():
            position += 1
        if position == len(bare):
            return
        try:
            document, position = _DECODER.raw_decode(bare, position)
        except (ValueError, RecursionError) as error:
            line = bare.count("\n", 0, getattr(error, "pos", position)) + 1
            raise UnreadableError(
                "invalid_json", f"is not JSON at line {line}: {error}; it may be cut off"
            ) from None
        yield document


def yaml_documents(text: str) -> Iterator[object]:
    """Yield the documents of a YAML text, all values as texts. Raises UnreadableError.

    Aliases are refused: a few lines of them can stand for a document of any size.
    """
    try:
        for event in yaml.parse(text, Loader=yaml.CBaseLoader):
            if isinstance(event, yaml.AliasEvent):
                raise UnreadableError(
                    "invalid_yaml", f"refers to another place in it, *{event.anchor}"
                )
        yield from yaml.load_all(text, Loader=yaml.CBaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise UnreadableError("invalid_yaml", f"is not YAML: {said}; it may be cut off") from None


@dataclass(frozen=True)
class Shape:
    """How records lie in what is found: arrays to ``explode``, one in another, then ``parallel``
    arrays whose elements at one place belong together. ``counted`` writes into each record its
    place in the last of them, as ``$piece``.
    """

    explode: Sequence[str] = ()
    parallel: Sequence[str] = ()
    counted: bool = False


def records(document: object, paths: Sequence[str], shape: Shape) -> Iterator[str]:
    """Yield the records of a document as JSON text. Raises UnreadableError where there are none,
    or where parallel arrays differ in length.
    """
    for path in paths:
        for found in _at(document, path_steps(path), path):
            for item in found if isinstance(found, list) else [found]:
                yield from pieces(item, shape)


def pieces(item: object, shape: Shape) -> Iterator[str]:
    """Yield one JSON text per element of the arrays of ``shape``."""
    found: Iterator[tuple[int, object]] = iter([(0, item)])
    for path in shape.explode:
        found = _each_exploded(found, path_steps(path))
    if shape.parallel:
        found = _each_abreast(found, [path_steps(path) for path in shape.parallel])
    for number, piece in found:
        if shape.counted and isinstance(piece, dict):
            yield dump({**piece, "$piece": str(number)})
        else:
            yield dump(piece)


def line_pieces(line: str, shape: Shape) -> list[str]:
    """Explode a line; one that is no JSON is left as it is, for the reader to reject."""
    try:
        return list(pieces(_DECODER.decode(line), shape))
    except (ValueError, RecursionError):
        return [line]


def _each_exploded(
    items: Iterator[tuple[int, object]], steps: tuple[object, ...]
) -> Iterator[tuple[int, object]]:
    for _, item in items:
        yield from enumerate(_exploded(item, steps))


def _each_abreast(
    items: Iterator[tuple[int, object]], paths: Sequence[tuple[object, ...]]
) -> Iterator[tuple[int, object]]:
    for _, item in items:
        arrays = [_array_at(item, path) for path in paths]
        lengths = {len(array) for array in arrays if array is not None}
        if len(lengths) > 1:
            told = ", ".join(
                f"{'.'.join(map(str, path))} {len(array)}"
                for path, array in zip(paths, arrays, strict=True) if array is not None
            )  # fmt: skip
            raise UnreadableError(
                "unequal_arrays", f"has arrays that should be of one length: {told} elements"
            )
        # as of an empty array that is exploded, something without values stays to be told
        for number in range(max(lengths, default=0) or 1):
            made = item
            for path, array in zip(paths, arrays, strict=True):
                if array is not None:
                    made = _with_value(made, path, array[number] if array else None)
            yield number, made


def _array_at(item: object, path: tuple[object, ...]) -> list[object] | None:
    for step in path:
        if not isinstance(item, dict) or step not in item:
            return None
        item = item[step]
    return item if isinstance(item, list) else None


def _with_value(item: object, path: tuple[object, ...], value: object) -> object:
    """Return a copy of ``item`` with another value at a path that it has."""
    if not path:
        return value
    assert isinstance(item, dict)
    return {**item, path[0]: _with_value(item[path[0]], path[1:], value)}


def context(document: object, paths: Sequence[str]) -> str:
    """Return a JSON text with only what stands at ``paths``, for control totals and fields."""
    kept: dict[str, Any] = {}
    for path in paths:
        value, target = document, kept
        steps = path_steps(path)
        for number, step in enumerate(steps):
            if not isinstance(value, dict) or step not in value:
                break
            value = value[step]
            if number == len(steps) - 1:
                target[str(step)] = value
            else:
                target = target.setdefault(str(step), {})
    return dump(kept)


def _at(here: object, steps: tuple[object, ...], path: str) -> Iterator[object]:
    if not steps:
        yield here
        return
    step, rest = steps[0], steps[1:]
    if step is _EVERY and isinstance(here, dict | list):
        for inner in here.values() if isinstance(here, dict) else here:
            yield from _at(inner, rest, path)
    elif isinstance(here, dict) and step in here:
        yield from _at(here[step], rest, path)
    elif isinstance(here, list) and isinstance(step, int):
        for inner in here[step : step + 1]:
            yield from _at(inner, rest, path)
    else:
        raise UnreadableError(
            "invalid_json", f"has nothing at {path!r}, where its records should be"
        )


def _exploded(item: object, steps: tuple[object, ...]) -> Iterator[object]:
    """Put each element of an array in the array's place, in a copy of what holds it."""
    if not steps:
        if isinstance(item, list) and item:
            yield from item
        elif not isinstance(item, list):
            yield item
        else:
            yield None
        return
    step, rest = steps[0], steps[1:]
    if step is _EVERY and isinstance(item, dict | list):
        yield from _every(item, rest)
    elif isinstance(item, dict) and isinstance(step, str) and step in item:
        for inner in _exploded(item[step], rest):
            yield {**item, step: inner}
    else:
        yield item


def _every(item: dict[str, object] | list[object], rest: tuple[object, ...]) -> Iterator[object]:
    """Yield what every key or element holds; one that a key names says its key."""
    if not item:
        yield None
    elif isinstance(item, dict):
        for key, value in item.items():
            for inner in _exploded(value, rest) if rest else [value]:
                yield {"$key": key, **(inner if isinstance(inner, dict) else {"$value": inner})}
    else:
        for value in item:
            yield from _exploded(value, rest) if rest else [value]


def dump(value: object) -> str:
    """Write JSON text with the numbers as they were read."""
    if isinstance(value, _Literal):
        return value.text
    if isinstance(value, Mapping):
        inside = ",".join(f"{json.dumps(k, ensure_ascii=False)}:{dump(v)}"
                          for k, v in value.items())  # fmt: skip
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{','.join(map(dump, value))}]"
    return json.dumps(value, ensure_ascii=False)
