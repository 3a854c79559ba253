"""JSON Schema of a feed's YAML, for editors: keys, values and meanings while one types.

:func:`feed_schema` derives it from :class:`engine.feeds.spec.FeedSpec`, the functions of
:mod:`engine.feeds.functions` and the target tables of :mod:`engine.schemas`, descriptions from
their docstrings and meanings. docs/feed.schema.json is its output; write it again with
``python -m iotbill_pipelines.config.feed_schema > docs/feed.schema.json``.

The schema knows the short forms (``apn: apn``, ``steps: [trim, {units: {unit: MB}}]``) and the
columns of each target. It does not repeat the rules that need the whole feed; loading does.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from iotbill_pipelines.engine.feeds import spec as terms
from iotbill_pipelines.engine.feeds.functions import FUNCTIONS, Function
from iotbill_pipelines.engine.feeds.spec import PROVIDED, TARGETS, FeedSpec

_MEANINGS = {
    "FeedSpec.id": "Name of the feed; it stands on every record and never changes.",
    "FeedSpec.carrier": "Who sends the files.",
    "FeedSpec.description": "One sentence for people.",
    "FeedSpec.target": "Table that the feed fills.",
    "FeedSpec.files": "Patterns of the base names of its files, such as acme_*.csv.",
    "FeedSpec.format": "How a file is cut into records and source fields.",
    "FeedSpec.zone": "IANA zone of times without offset, such as Europe/Berlin or UTC.",
    "FeedSpec.limits": "What a file may take.",
    "FeedSpec.allow_empty": "A file without records is a day without usage, not a fault.",
    "FeedSpec.filter": "Records that are ignored on purpose; the first rule that holds counts.",
    "FeedSpec.fields": "How each column of the target is filled, in this order.",
    "FeedSpec.attributes": "Further values that are kept with the record, as texts.",
    "FeedSpec.late": "What happens to usage of a closed period.",
    "FeedSpec.bounds": "Ranges that a record must keep.",
    "FeedSpec.expect": "What a normal day of this feed looks like.",
    "Condition.field": "Source field that is tested.",
    "Condition.target": "Field mapped before this one, whose value is tested.",
    "Condition.equals": "The value is exactly this text.",
    "Condition.in": "The value is one of these texts.",
    "Condition.starts_with": "The value begins with this text.",
    "Condition.matches": "The whole value matches this regular expression.",
    "Condition.empty": "The value is absent (true), or there (false).",
    "Condition.all": "All of these hold.",
    "Condition.any": "One of these holds.",
    "Condition.not": "This does not hold.",
    "Branch.when": "When this way is taken; without it, always.",
    "Branch.from": "Source fields; the first that holds something.",
    "Branch.value": "A constant.",
    "Branch.steps": "Functions that make the value of the text, one after the other.",
    "FieldSpec.from": "Source fields; the first that holds something.",
    "FieldSpec.value": "A constant.",
    "FieldSpec.choose": "Ways to the value; the first whose when holds.",
    "FieldSpec.steps": "Functions that make the value of the text, one after the other.",
    "FieldSpec.required": "A record without this value is rejected.",
    "FilterRule.reason": "Why such records are ignored; counted as filter:<reason>.",
    "FilterRule.when": "Which records.",
    "DelimitedFormat.delimiter": "What stands between cells.",
    "DelimitedFormat.quote": "What encloses cells with delimiters in them; null: nothing does.",
    "DelimitedFormat.header": "The first line names the columns.",
    "DelimitedFormat.columns": "Names of the columns of a file without header.",
    "DelimitedFormat.skip_rows": "Lines before the header or the first record.",
    "DelimitedFormat.comment": "Lines that begin with this are no records.",
    "DelimitedFormat.decimal_comma": "Numbers are written 1.234,5.",
    "DelimitedFormat.multiline": "Quoted cells may hold line ends.",
    "FixedFormat.layouts": "Kinds of lines; the first whose when matches reads the line.",
    "FixedFormat.decimal_comma": "Numbers are written 1.234,5.",
    "Layout.kind": "What the line is.",
    "Layout.when": "How a line of this kind is told; without it, every line is.",
    "Layout.fields": "Names and places of the fields of the line.",
    "Slice.start": "First character, counted from 1.",
    "Slice.length": "Number of characters.",
    "XlsxFormat.sheet": "Name of the worksheet; the first one if left out.",
    "XlsxFormat.header_row": "Row that names the columns.",
    "JsonFormat.records": "Path of the array of records; empty for the top of the document.",
    "Dedup.key": "Source fields, or target columns written =uid_value, that name a record.",
    "Dedup.content": "Target columns that must be equal in copies; all mapped ones if left out.",
    "Dedup.scope": "Family of feeds that share their keys.",
    "Dedup.restating": "A newer file replaces what an older one said of a key.",
    "Correlate.key": "Source fields or target columns that name the session, or the device.",
    "Correlate.combine": "One event per session, or what a counter grew by.",
    "Correlate.counting": "What a part's quantity is.",
    "Correlate.needs": "What a session must have before it is billed.",
    "Correlate.first_sequence": "Number of a session's first part.",
    "Correlate.timeout_hours": "Silence after which a session is released or held.",
    "Correlate.on_timeout": "Whether a silent, incomplete session is billed or waits.",
    "Correlate.first_reading": "What a counter's first reading counts from.",
    "Late.hold_after_days": "Days after the close from which late usage waits for a decision.",
    "Bounds.max_quantity": "Most that one record may hold, per usage class, in its unit.",
    "Bounds.allow_negative": "Amounts below zero are credits, not errors.",
    "Expect.min_records": "Fewest records of a day.",
    "Expect.max_records": "Most records of a day.",
    "Expect.max_reject_percent": "Most rejected records, in percent.",
    "Expect.max_null_percent": "Most records without a value, in percent, per field.",
    "Expect.max_quantity": "Most of a day per usage class, in its unit.",
    "Expect.min_identifiers": "Fewest distinct SIMs or devices of a day.",
}
"""Meanings of keys whose name and type say too little; others come from docstrings."""


_SHARED_FIELD = {
    "type": "object",
    "additionalProperties": False,
    "required": ["use"],
    "description": "A field that several feeds share.",
    "properties": {
        "use": {"type": "string", "description": "Name of a file of configs/fields."},
        "with": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Source fields by the shared name: the feed's own names.",
        },
    },
}


def feed_schema() -> str:
    """Return the schema of a feed file as JSON text, the same for the same terms."""
    schema = FeedSpec.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    models = {name: model for name, model in _models() if name in definitions}
    models["FeedSpec"] = FeedSpec
    definitions["FeedSpec"] = {
        key: value for key, value in schema.items() if key not in ("$defs", "title")
    }
    for name, model in models.items():
        _describe(definitions, name, model)
    _short_forms(definitions)
    feed = definitions.pop("FeedSpec")
    feed["description"] = plain(inspect.getdoc(terms) or "")
    feed["properties"]["target"] = {
        "description": feed["properties"]["target"]["description"],
        "enum": list(TARGETS),
    }
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A feed of iotbill",
        **feed,
        "allOf": [_columns(target) for target in TARGETS],
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(_bare(whole), indent=1, ensure_ascii=False) + "\n"


def _models() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, value in vars(terms).items():
        if isinstance(value, type) and issubclass(value, BaseModel):
            yield name, value


def _describe(definitions: dict[str, Any], name: str, model: type[BaseModel]) -> None:
    """Give a model and every one of its keys a description."""
    definition = definitions[name]
    definition["description"] = plain(inspect.getdoc(model) or name)
    for key, value in definition.get("properties", {}).items():
        if value.get("description"):
            value["description"] = _sentence(value["description"])
            continue
        owners = [base.__name__ for base in model.__mro__]
        told = next((_MEANINGS[f"{o}.{key}"] for o in owners if f"{o}.{key}" in _MEANINGS), None)
        value["description"] = told or _of_type(value) or _fallback(name, key, model)
        if "$ref" in value and len(value) > 1:
            value["allOf"] = [{"$ref": value.pop("$ref")}]


def _of_type(value: dict[str, Any]) -> str | None:
    """The description of the model that a key holds."""
    for part in (value, *value.get("anyOf", ()), *value.get("allOf", ()), value.get("items", {})):
        referred = str(part.get("$ref", "")).rpartition("/")[2]
        model = getattr(terms, referred, None) if referred else None
        if model is not None and model.__doc__:
            return plain(inspect.getdoc(model) or "").split("\n\n")[0]
    return None


def _fallback(name: str, key: str, model: type[BaseModel]) -> str:
    """What the docstring says of a key by name, or the docstring's first sentence."""
    doc = plain(inspect.getdoc(model) or name)
    sentences = re.split(r"(?<=[.;])\s+", doc.replace("\n", " "))
    named = [text for text in sentences if re.search(rf"\b{re.escape(key)}\b", text)]
    return named[0] if named else f"{key.replace('_', ' ').capitalize()}: {sentences[0]}"


def plain(doc: str) -> str:
    """Return a docstring without its markup: ``name`` and :class:`Name` as the name alone."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", textwrap.dedent(doc))
    return text.replace("``", "").strip()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _short_forms(definitions: dict[str, Any]) -> None:
    """Let the schema accept what the terms accept besides their long form."""
    for name in ("FieldSpec", "Branch"):
        source = definitions[name]["properties"]["from"]
        definitions[name]["properties"]["from"] = {
            "description": source["description"],
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }
    field = definitions["FieldSpec"]
    definitions["FieldSpec"] = {
        "description": field["description"] + "\n\nA text alone is the source field.",
        "anyOf": [{"type": "string"}, field, _SHARED_FIELD],
    }
    definitions["Step"] = _steps(definitions)
    records = definitions.get("JsonFormat", {}).get("properties", {}).get("records")
    if records and records.get("type") == "array":
        records.pop("type")
        records["anyOf"] = [{"type": "string"}, {"type": "array", "items": records.pop("items")}]
    for definition in definitions.values():
        _texts(definition)


def _texts(node: Any) -> None:
    """Numbers stand for texts in YAML: ``equals: 20`` means the text 20."""
    if isinstance(node, dict):
        if node.get("type") == "string" and "enum" not in node and "pattern" not in node:
            node["type"] = ["string", "number"]
        for value in node.values():
            _texts(value)
    elif isinstance(node, list):
        for value in node:
            _texts(value)


def _steps(definitions: dict[str, Any]) -> dict[str, Any]:
    names: list[dict[str, Any]] = []
    objects: dict[str, Any] = {}
    for (name, version), function in sorted(FUNCTIONS.items()):
        doc = plain(inspect.getdoc(function) or name)
        parameters = _parameters(function)
        for inner, definition in parameters.pop("$defs", {}).items():
            if inner not in definitions:
                definitions[inner] = definition
                if (model := getattr(terms, inner, None)) is not None:
                    _describe(definitions, inner, model)
        written = [name] if version == 1 else []
        written.append(f"{name}@{version}")
        if not parameters.get("required"):
            names += [{"const": text, "description": doc} for text in written]
        if parameters.get("properties"):
            objects |= {text: {"description": doc, **parameters} for text in written}
    return {
        "description": "A function: its name, or its name with parameters. A version may follow "
        "the name (iccid@1); without one the first is meant.",
        "anyOf": [
            *names,
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": objects,
            },
        ],
    }


def _parameters(function: type[Function]) -> dict[str, Any]:
    schema = function.model_json_schema(by_alias=True)
    schema.pop("title", None)
    schema.pop("description", None)
    for key, value in schema.get("properties", {}).items():
        given = value.get("description")
        value["description"] = _sentence(given) if given else _fallback(
            function.name, key, function
        )  # fmt: skip
    return schema


def _columns(target: str) -> dict[str, Any]:
    """The fields that a target's feeds may and must map."""
    table, provided = TARGETS[target], PROVIDED.get(target, frozenset())
    columns = [column for column in table.columns if column.name not in provided]
    automatic = {"event_text"} if target == "usage_record" else set()
    properties = {
        column.name: {
            "description": f"{_sentence(column.doc)} {column.type}"
            + (", may be empty." if column.nullable else "."),
            "allOf": [{"$ref": "#/$defs/FieldSpec"}],
        }
        for column in columns
    }
    needed = [c.name for c in columns if not c.nullable and c.name not in automatic]
    fields = {
        "description": f"{table.doc} Each column and how it is filled.",
        "properties": properties,
        "additionalProperties": False,
        "required": needed,
    }
    then: dict[str, Any] = {"properties": {"fields": fields}}
    if target == "usage_record":
        then["required"] = ["dedup"]
    return {
        "if": {"properties": {"target": {"const": target}}, "required": ["target"]},
        "then": then,
    }


def _bare(node: Any) -> Any:
    """Leave out titles, which only repeat the names of keys."""
    if isinstance(node, dict):
        return {
            key: _bare(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str) and value != "A feed of iotbill")
        }
    return [_bare(item) for item in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.stdout.write(feed_schema())
