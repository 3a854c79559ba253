"""Records in XML files: one element is a record, its text and attributes are fields.

The file is read as a stream; what is kept is one record and a bounded header. Entities that a file
declares are refused, nothing outside the file is ever opened, depth and size are limited.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

_CHUNK = 65_536
_MAX_HEADER_TEXT = 10_000
_MAX_END_TAG = 4_096
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_BYTE_ORDER_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class XmlOptions:
    """How to find records.

    ``record`` is the path of the record element from the root, ``broadWorksCDR/cdrData``. Names in
    a namespace are written ``prefix:name`` for the prefixes of ``namespaces`` (prefix to URI; the
    prefix ``""`` leaves the name bare), ``{URI}name`` otherwise. ``encoding`` overrides what the
    file declares. ``inherit`` names fields of the header (see :func:`decode`) that every record
    gets as ``header.<name>``.
    """

    record: str
    namespaces: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    inherit: tuple[str, ...] = ()
    max_depth: int = 64
    max_bytes: int = 4 << 30
    max_record_bytes: int = 1_000_000
    max_record_fields: int = 5_000


def decode(stream: BinaryIO, options: XmlOptions) -> Decoded:
    """Decode an XML file; ``line_no`` is the line on which the record's element begins.

    A field is named by its path inside the record (``ipModule.codec``), from its second
    occurrence on with its index from 0 (``location[1].type``); attributes as ``path@name``, those
    of the record itself as ``@name``; a record without elements has its text as ``#text``.
    ``xsi:nil`` gives ``None``. What stands outside records goes to ``header`` the same way, named
    from the root. A record inherits from the elements around it what has stood in them so far,
    and from the header what stands in none of them but the root.

    Findings that quarantine the file: ``empty``, ``malformed``, ``forbidden_entity``, ``too_deep``,
    ``too_large``, ``record_too_large``. On a record: ``ambiguous_field``. ``no_records`` is a
    notice.
    """
    decoded = Decoded(iter(()))
    decoded.records = _records(stream, options, decoded)
    return decoded


@dataclass(slots=True)
class _Node:
    """An element that is open; ``path`` is its field name, inside a record or from the root."""

    path: str
    nil: bool
    children: dict[str, int] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    length: int = 0
    around: dict[str, str | None] = field(default_factory=dict)
    """What stands in it, outside of records, by what follows its own path: ``@imsi``, ``.plan``."""


class _Collector:
    """The parser's target: builds records from its events."""

    def __init__(self, options: XmlOptions, header: dict[str, str | None]) -> None:
        self.options = options
        self.record_path = options.record.strip("/")
        self.prefixes = {uri: prefix for prefix, uri in options.namespaces.items()}
        self.header = header
        self.names: list[str] = []
        self.nodes: list[_Node] = []
        self.open: dict[str, str | None] | None = None
        self.ambiguous: str | None = None
        self.start_line = 0
        self.start_byte = 0
        self.done: list[RawRecord] = []
        self.seen = 0
        self.source: _Source | None = None

    def name(self, tag: str) -> str:
        """The name as configuration writes it."""
        if not tag.startswith("{"):
            return tag
        uri, _, local = tag[1:].partition("}")
        prefix = self.prefixes.get(uri)
        if prefix is None:
            return tag
        return f"{prefix}:{local}" if prefix else local

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Open an element; the parser calls this."""
        assert self.source is not None
        name = self.name(tag)
        if len(self.names) >= self.options.max_depth:
            raise self._refuse("too_deep", f"elements are nested deeper than {len(self.names)}")
        self.names.append(name)
        path = self._child_path(name)
        if self.open is None and "/".join(self.names) == self.record_path:
            self.open, self.ambiguous, path = {}, None, ""
            self.start_line, self.start_byte = self.source.line, self.source.position
        nil = attributes.get(_NIL, "").strip() in ("true", "1")
        self.nodes.append(_Node(path, nil))
        for key, value in attributes.items():
            if key != _NIL:
                self._put(f"{path}@{self.name(key)}", value)
                self._surround(f"@{self.name(key)}", value)

    def _child_path(self, name: str) -> str:
        if not self.nodes:
            return name
        parent = self.nodes[-1]
        index = parent.children.get(name, 0)
        if not index and len(parent.children) >= self.options.max_record_fields:
            raise self._refuse("record_too_large", "an element has too many kinds of children")
        parent.children[name] = index + 1
        path = f"{parent.path}.{name}" if parent.path else name
        return f"{path}[{index}]" if index else path

    def data(self, text: str) -> None:
        """Take text; the parser calls this."""
        node = self.nodes[-1] if self.nodes else None
        if node is None:
            return
        if self.open is None:
            # The root of a long file gets a piece of white space between any two records.
            if (node.children and not text.strip()) or node.length > _MAX_HEADER_TEXT:
                return
            node.length += len(text)
        node.text.append(text)

    def end(self, tag: str) -> None:
        """Close an element; the parser calls this."""
        del tag
        assert self.source is not None
        node = self.nodes.pop()
        text = "".join(node.text)
        own_record = self.open is not None and "/".join(self.names) == self.record_path
        if self.nodes:
            place = node.path.removeprefix(self.nodes[-1].path)
            for name, value in node.around.items():
                self._surround(place + name, value)
            if node.nil or not node.children or text.strip():
                self._surround(place, None if node.nil else text)
        self.names.pop()
        if node.nil:
            self._put(node.path or "#text", None)
        elif not node.children or text.strip():
            if not own_record:
                self._put(node.path, text)
            elif text.strip() or not self.open:
                self._put("#text", text)
        if own_record:
            self._finish(not node.children and not text)

    def _surround(self, name: str, value: str | None) -> None:
        """Let the element that is open, if it is not the root, know what stands in it."""
        if self.open is None and self.options.inherit and len(self.nodes) > 1:
            around = self.nodes[-1].around
            if len(around) < self.options.max_record_fields:
                around.setdefault(name, value)

    def _inherited(self, name: str) -> str | None:
        """What a record knows of a field outside of it: of the innermost element it can be in."""
        for depth in range(len(self.nodes), 1, -1):
            around = ".".join(self.names[:depth])
            if name.startswith((f"{around}.", f"{around}@")):
                return self.nodes[depth - 1].around.get(name.removeprefix(around))
        return self.header.get(name)

    def _put(self, path: str, value: str | None) -> None:
        target = self.header if self.open is None else self.open
        if path in target:
            if self.open is not None:
                self.ambiguous = self.ambiguous or path
            return
        if len(target) >= self.options.max_record_fields:
            if self.open is None:
                return
            raise self._refuse("record_too_large", f"a record has more than {len(target)} fields")
        target[path] = value

    def _finish(self, empty: bool) -> None:
        assert self.open is not None and self.source is not None
        fields = self.open
        for name in self.options.inherit:
            fields.setdefault(f"header.{name}", self._inherited(name))
        problem = None
        if self.ambiguous is not None:
            problem = Problem(
                "ambiguous_field",
                f"line {self.start_line}: two elements give the field {self.ambiguous!r}",
                Scope.RECORD,
                self.start_byte,
                self.start_line,
            )
        raw_text = self.source.text(self.start_byte, empty)
        self.done.append(RawRecord(self.start_line, fields, raw_text, problem))
        self.seen += 1
        self.open = None

    def _refuse(self, code: str, message: str) -> DecodeError:
        assert self.source is not None
        return DecodeError(
            Problem(code, message, Scope.FILE, self.source.position, self.source.line)
        )

    def close(self) -> None:
        """Nothing is left to do; the parser calls this."""


class _Source:
    """The bytes around the parser's position, to show a record as delivered."""

    def __init__(self, expat: Any, first: bytes, encoding: str | None) -> None:
        self.expat = expat
        self.buffer = bytearray()
        self.base = 0
        self.fed = 0
        self.encoding = encoding or "utf-8"
        for mark, name in _BYTE_ORDER_MARKS:
            if first.startswith(mark):
                self.encoding = name
        if encoding is None:
            expat.XmlDeclHandler = self._declared

    def _declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and not self.encoding.startswith("utf-16"):
            self.encoding = encoding

    @property
    def line(self) -> int:
        return int(self.expat.CurrentLineNumber)

    @property
    def position(self) -> int:
        return int(self.expat.CurrentByteIndex)

    def add(self, chunk: bytes) -> None:
        self.buffer += chunk
        self.fed += len(chunk)

    def keep_from(self, offset: int) -> None:
        """Forget what stands before ``offset``."""
        if offset > self.base:
            del self.buffer[: offset - self.base]
            self.base = offset

    def text(self, start: int, empty: bool) -> str:
        """The element that began at ``start`` and ends at the parser's position.

        The position is that of the end tag or, behind ``<a/>``, of what follows; only an element
        without contents (``empty``) can be written so.
        """
        last = self.position - self.base
        piece = self.buffer[start - self.base : last].decode(self.encoding, "replace")
        if empty and piece.endswith("/>"):
            return piece
        closing = self.buffer[last : last + _MAX_END_TAG].decode(self.encoding, "replace")
        return piece + closing[: closing.find(">") + 1]


def _records(stream: BinaryIO, options: XmlOptions, decoded: Decoded) -> Iterator[RawRecord]:
    defused = importlib.import_module("defusedxml.ElementTree")
    forbidden: type[Exception] = importlib.import_module("defusedxml.common").DefusedXmlException
    collector = _Collector(options, decoded.header)
    try:
        chunk = stream.read(_CHUNK)
        if not chunk:
            raise DecodeError(Problem("empty", "the file is empty", Scope.FILE, offset=0))
        parser = defused.XMLParser(target=collector, encoding=options.encoding)
        source = collector.source = _Source(parser.parser, chunk, options.encoding)
        while chunk:
            source.add(chunk)
            if source.fed > options.max_bytes:
                raise _limit("too_large", f"the file is larger than {options.max_bytes}", source)
            failure: Exception | None = None
            try:
                parser.feed(chunk)
            except (forbidden, DecodeError, ParseError, LookupError, ValueError) as error:
                failure = error
            # What was complete before a fault is handed over; the finding says that more was lost.
            yield from collector.done
            collector.done.clear()
            if failure is not None:
                raise failure
            needed = source.position if collector.open is None else collector.start_byte
            if source.fed - needed > options.max_record_bytes + _CHUNK:
                raise _limit(
                    "record_too_large", f"more than {options.max_record_bytes} bytes", source
                )
            source.keep_from(needed)
            chunk = stream.read(_CHUNK)
        parser.close()
    except forbidden as error:
        decoded.problems.append(
            Problem("forbidden_entity", f"the file declares entities: {error}", Scope.FILE)
        )
    except DecodeError as error:
        decoded.problems.append(error.problem)
    except (ParseError, LookupError, ValueError) as error:
        line_no = error.position[0] if isinstance(error, ParseError) else None
        decoded.problems.append(
            Problem("malformed", f"not well-formed XML: {error}", Scope.FILE, line_no=line_no)
        )
    else:
        if not collector.seen:
            message = f"no element stands at {options.record}; check record and namespaces"
            decoded.problems.append(Problem("no_records", message, Scope.NOTICE))


def _limit(code: str, message: str, source: _Source) -> DecodeError:
    return DecodeError(Problem(code, message, Scope.FILE, source.position, source.line))
