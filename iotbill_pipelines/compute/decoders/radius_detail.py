"""RADIUS accounting as FreeRADIUS writes it to detail files.

A record is a line with the time, indented ``Attribute = value`` lines and a blank line. The record
of a file that is still being written, or was cut off, lacks the blank line and is not usable.
Counters stay as delivered; Gigawords (the high 32 bits) are fields of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from iotbill_pipelines.compute.decoders.records import Decoded, Problem, RawRecord, Scope

_ATTRIBUTE = re.compile(r"\s+([A-Za-z0-9][\w.:-]*)\s*(\+=|:=|=)\s?(.*)", re.ASCII | re.DOTALL)
_ESCAPE = re.compile(r"\\([0-7]{3}|x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class DetailOptions:
    """How to read a detail file. ``max_line_bytes`` bounds a line, ``max_lines`` a record."""

    encoding: str = "utf-8"
    max_line_bytes: int = 65_536
    max_lines: int = 2_000


@dataclass(slots=True)
class _Block:
    line_no: int
    lines: list[str]
    fields: dict[str, str | None]
    problem: Problem | None = None

    def refuse(self, code: str, message: str, line_no: int) -> None:
        """Keep the first thing that is wrong with the record."""
        if self.problem is None:
            self.problem = Problem(
                code, f"line {line_no}: {message}", Scope.RECORD, line_no=line_no
            )

    def record(self) -> RawRecord:
        return RawRecord(self.line_no, self.fields, "\n".join(self.lines), self.problem)


def decode(stream: BinaryIO, options: DetailOptions) -> Decoded:
    """Decode a detail file; ``line_no`` of a record is the line of its time.

    Fields are the attributes' names, ``name[1]`` and so on where one is repeated, and
    ``detail_time`` for the first line. Findings on a record: ``no_time``, ``no_attributes``,
    ``not_an_attribute``, ``open_quote``, ``no_blank_line``, ``not_ended``, ``undecodable_text``,
    ``line_too_long``, ``too_many_lines``.
    """
    decoded = Decoded(iter(()))
    decoded.records = _records(stream, options)
    return decoded


def _records(stream: BinaryIO, options: DetailOptions) -> Iterator[RawRecord]:
    block: _Block | None = None
    for line_no, line, fault in _lines(stream, options):
        if fault is None and not line.strip():
            if block is not None:
                yield _closed(block)
                block = None
            continue
        indented = line[:1] in (" ", "\t")
        if block is not None and not indented:
            block.refuse("no_blank_line", "a record begins before the last one is ended", line_no)
            yield block.record()
            block = None
        if block is None:
            block = _Block(line_no, [], {})
            if indented:
                block.refuse("no_time", "an attribute stands before any time", line_no)
        block.lines.append(line)
        if fault is not None:
            block.refuse(*fault, line_no)
        elif len(block.lines) > options.max_lines:
            block.refuse("too_many_lines", "the record has too many lines", line_no)
            block.lines.pop()
        elif indented:
            _add_attribute(block, line, line_no)
        else:
            block.fields["detail_time"] = line.strip()
    if block is not None:
        block.refuse("not_ended", "the file ends inside this record", block.line_no)
        yield block.record()


def _closed(block: _Block) -> RawRecord:
    if block.fields.keys() <= {"detail_time"}:
        block.refuse("no_attributes", "the record has no attributes", block.line_no)
    return block.record()


def _lines(
    stream: BinaryIO, options: DetailOptions
) -> Iterator[tuple[int, str, tuple[str, str] | None]]:
    """Yield (number, text without its end, what is wrong with it)."""
    line_no = 0
    while raw := stream.readline(options.max_line_bytes + 1):
        line_no += 1
        fault: tuple[str, str] | None = None
        if len(raw) > options.max_line_bytes:
            fault = "line_too_long", f"more than {options.max_line_bytes} bytes"
            while (rest := stream.readline(options.max_line_bytes)) and not rest.endswith(b"\n"):
                pass
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if line_no == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = raw.decode(options.encoding)
        except UnicodeDecodeError as error:
            text = raw.decode(options.encoding, "backslashreplace")
            fault = fault or ("undecodable_text", f"not {options.encoding}: {error.reason}")
        yield line_no, text, fault


def _add_attribute(block: _Block, line: str, line_no: int) -> None:
    match = _ATTRIBUTE.fullmatch(line)
    if match is None:
        block.refuse("not_an_attribute", f"{line.strip()!r} is no 'Name = value'", line_no)
        return
    name, value = match[1], match[3]
    if value[:1] in ('"', "'"):
        inner = _unquoted(value.rstrip())
        if inner is None:
            block.refuse("open_quote", f"the value of {name} has no closing quote", line_no)
            inner = value
        value = inner
    else:
        value = value.rstrip()
    repeats = 0
    key = name
    while key in block.fields:
        repeats += 1
        key = f"{name}[{repeats}]"
    block.fields[key] = value


def _unquoted(value: str) -> str | None:
    """The text between quotes, escapes resolved; ``None`` when the quote is not closed."""
    quote, body = value[0], value[1:]
    if not body.endswith(quote):
        return None
    body = body[:-1]
    # Escapes first: a quote or backslash that is escaped does not end the value.
    plain = _ESCAPE.sub("", body)
    if quote in plain or "\\" in plain:
        return None
    return _unescaped(body)


def _unescaped(body: str) -> str:
    """Resolve escapes; octal and hexadecimal ones are octets of UTF-8 text."""
    octets = bytearray()
    position = 0
    for match in _ESCAPE.finditer(body):
        octets += body[position : match.start()].encode()
        position = match.end()
        code = match[1]
        if len(code) == 3:
            value = int(code[1:], 16) if code[0] == "x" else int(code, 8)
            octets += bytes([value]) if value < 256 else match[0].encode()
        else:
            octets += _ESCAPED.get(code, code).encode()
    octets += body[position:].encode()
    return octets.decode("utf-8", "backslashreplace")
