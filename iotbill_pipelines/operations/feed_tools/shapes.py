"""The shape of a sample file: container, encoding, lines or document, and its fields as texts.

What is found is checked against the whole sample, not only its first lines; what is not certain
is said (:class:`Doubt`). The result is the ``format`` of a feed and the values of every source
field under the name by which the feed's reader will know it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from iotbill_pipelines.compute.decoders import radius_detail, roaming
from iotbill_pipelines.compute.decoders.containers import ArchiveLimits, members_of

SAMPLE_BYTES = 4 * 2**20
"""Plain bytes of a file that are looked at."""
SAMPLE_ROWS = 2000
Confidence = Literal["sure", "likely", "unsure"]


class UnknownShapeError(ValueError):
    """A sample of which nothing can be made; the message says why and what to do."""


@dataclass(frozen=True)
class Doubt:
    """A guess: what it is about, what was taken, how sure that is, and why."""

    about: str
    taken: str
    confidence: Confidence
    why: str


@dataclass
class Shape:
    """``format`` as the feed says it, rows of source field -> text, and what was guessed.

    ``filters`` are rows that are no records (reason, field, value); ``control`` totals that were
    found to agree with the rows.
    """

    format: dict[str, Any]
    rows: list[dict[str, str | None]]
    doubts: list[Doubt] = field(default_factory=list)
    filters: list[tuple[str, str, str]] = field(default_factory=list)
    control: dict[str, str] = field(default_factory=dict)
    members: str | None = None
    """Pattern of the members that are read, where the file is an archive."""
    ignored: tuple[str, ...] = ()
    """Patterns of the members that are not."""
    named: bool = True
    """Do the field names come from the file, so that they mean something?"""

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def doubt(self, about: str, taken: str, confidence: Confidence, why: str) -> None:
        self.doubts.append(Doubt(about, taken, confidence, why))


def read_shape(path: Path) -> Shape:
    """Look at a sample file. Raises UnknownShapeError."""
    data = _plain(path)
    if not data.strip(b"\0 \r\n\t"):
        raise UnknownShapeError(f"{path.name} holds nothing; give a sample with records")
    if data[:2] == b"PK" and not _is_workbook(path):
        return _archive(path)
    if data[:2] == b"PK" or data[:4] == b"\xd0\xcf\x11\xe0":
        return _workbook(path)
    if data[:1] in (b"\x61", b"\x62", b"\x7f") and sum(b < 9 for b in data[:200]) > 3:
        return _roaming(path)
    text, encoding, doubts = _decoded(data)
    stripped = text.lstrip()
    if stripped.startswith(("{", "[", "//", "/*")):
        shape = _json(text)
    elif stripped.startswith("<"):
        shape = _xml(data)
        encoding = "utf-8"  # an XML file says its encoding itself
    elif re.match(r"[A-Z][^\n]*\n[ \t]+[A-Za-z0-9][\w.:-]* \+?:?= ?", stripped):
        shape = _radius(data, encoding)
    else:
        shape = _lines(text)
    if encoding != "utf-8":
        shape.format["encoding"] = encoding
    shape.doubts[:0] = doubts
    if not shape.rows:
        raise UnknownShapeError(f"{path.name} holds no records; give a sample with some")
    return shape


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data[:SAMPLE_BYTES]
    try:
        return zlib.decompressobj(31).decompress(data, SAMPLE_BYTES)
    except zlib.error as error:
        raise UnknownShapeError(f"{path.name} cannot be unpacked ({error})") from None


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnknownShapeError(f"{path.name} cannot be unpacked ({error})") from None


def _archive(path: Path) -> Shape:
    """The shape of the members of a zip archive that are most alike, told by the first of them."""
    limits = ArchiveLimits(1000, 2**28, 200, 2)
    with members_of(lambda: path.open("rb"), path.name, path.stat().st_size, limits) as found:
        for problem in found.problems:
            raise UnknownShapeError(f"{path.name} cannot be used: {problem.message}")
        members = [m for m in found if not m.name.startswith(("__MACOSX", "."))]
        endings = Counter(Path(member.name).suffix.lower() for member in members)
        if not endings:
            raise UnknownShapeError(f"{path.name} holds no files; give a sample with some")
        ending = max(endings, key=lambda name: (endings[name], name in (".csv", ".json", ".xml")))
        first = next(m for m in members if Path(m.name).suffix.lower() == ending)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / (Path(first.name.replace("!", "/")).name or "member")
            with first.open() as stream:
                copy.write_bytes(stream.read(SAMPLE_BYTES))
            shape = read_shape(copy)
    shape.members = f"*{ending}"
    shape.doubt(
        "archive.members", shape.members, "likely",
        f"read from {first.name}, one of {endings[ending]}",
    )  # fmt: skip
    others = [Path(m.name).name for m in members if Path(m.name).suffix.lower() != ending]
    if others:
        shape.ignored = tuple(dict.fromkeys(
            f"*{Path(name).suffix}" if Path(name).suffix else name for name in sorted(others)
        ))  # fmt: skip
        shape.doubt(
            "archive.ignore", ", ".join(shape.ignored), "unsure",
            f"{', '.join(others[:5])} and the like are not read; if they state totals, name them "
            "under control.companion",
        )  # fmt: skip
    return shape


def _roaming(path: Path) -> Shape:
    """GSMA files: the grammar names their fields."""
    options = roaming.RoamingOptions(file_name=path.name, schema="auto", checked_totals=frozenset())
    with path.open("rb") as stream:
        decoded = roaming.decode(cast(BinaryIO, stream), options)
        rows = [dict(record.fields) for record in islice(decoded.records, SAMPLE_ROWS)]
    if decoded.quarantine is not None:
        raise UnknownShapeError(
            f"{path.name} is binary and no TAP, NRTRDE or RAP file that can be read: "
            f"{decoded.quarantine.message}"
        )
    shape = Shape({"type": "tap"}, rows)
    shape.doubt("format.type", "tap", "sure", "ASN.1 of the GSMA: TAP, NRTRDE or RAP")
    return shape


def _radius(data: bytes, encoding: str) -> Shape:
    decoded = radius_detail.decode(io.BytesIO(data), radius_detail.DetailOptions(encoding))
    rows = [dict(record.fields) for record in islice(decoded.records, SAMPLE_ROWS)]
    shape = Shape({"type": "radius_detail"}, rows)
    shape.doubt("format.type", "radius_detail", "sure", "blocks of attributes under a time")
    if any("Gigawords" in name for row in rows for name in row):
        shape.doubt(
            "fields.quantity", "Octets alone", "unsure",
            "add Gigawords: plus {field: Acct-...-Gigawords, steps: [integer, "
            '{times: {by: "4294967296"}}], absent: 0}',
        )  # fmt: skip
    return shape


def _decoded(data: bytes) -> tuple[str, str, list[Doubt]]:
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            said = Doubt(
                "format.encoding", name, "sure", "the file begins with its byte order mark"
            )
            return data.decode(name, "replace").lstrip("\ufeff"), name, [said]
    for name, odd in (("utf-16-le", 1), ("utf-16-be", 0)):
        if len(data) > 3 and data[odd::2].count(0) > 0.4 * len(data[odd::2]):
            said = Doubt("format.encoding", name, "likely", "every other byte is empty")
            return data[: len(data) // 2 * 2].decode(name, "replace"), name, [said]
    if sum(byte < 9 for byte in data[:2000]) > len(data[:2000]) // 50:
        raise UnknownShapeError(
            "is binary and of no kind that is known (archives, workbooks, GSMA files); ask the "
            "carrier what it is"
        )
    # a sample that was cut may end inside a character
    for cut in range(4):
        try:
            text = data[: len(data) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        marked = data.startswith(codecs.BOM_UTF8)
        found = (
            [
                Doubt(
                    "format.encoding",
                    "utf-8",
                    "sure",
                    "begins with a UTF-8 byte order mark, which is not part of the first name",
                )
            ]
            if marked
            else []
        )
        return text, "utf-8", found
    controls = sum(0x80 <= byte <= 0x9F for byte in data)
    name = "cp1252" if controls else "iso8859-15"
    why = f"it is not UTF-8, and {'has' if controls else 'has no'} characters of Windows alone"
    return data.decode(name, "replace"), name, [Doubt("format.encoding", name, "unsure", why)]


# ---------------------------------------------------------------- JSON


class _Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def _json(text: str) -> Shape:
    lines = [line for line in text.splitlines() if line.strip()]
    objects = []
    for line in lines[:SAMPLE_ROWS]:
        try:
            objects.append(json.loads(line, parse_float=_Number, parse_int=_Number))
        except ValueError:
            break
    readable = len(objects) == min(len(lines), SAMPLE_ROWS) or len(objects) > 20
    alone = len(objects) == 1 and isinstance(objects[0], dict)
    if alone and any(len(rows) > 1 for _, rows in _arrays(objects[0], ())):
        readable = False  # a document on one line
    if readable and all(isinstance(item, dict) for item in objects) and objects:
        return _objects({"type": "ndjson"}, objects)
    bare = _COMMENTS.sub(lambda match: match[1] or " ", text)
    decoder = json.JSONDecoder(parse_float=_Number, parse_int=_Number)
    documents: list[Any] = []
    position = 0
    while bare[position:].strip():
        position += len(bare[position:]) - len(bare[position:].lstrip())
        try:
            document, position = decoder.raw_decode(bare, position)
        except ValueError as error:
            raise UnknownShapeError(
                f"is neither JSON nor one JSON object per line ({error}); give a whole file"
            ) from None
        documents.append(document)
    return _json_documents(documents, bare != text)


def _json_documents(documents: list[Any], commented: bool) -> Shape:
    if all(isinstance(item, list) for item in documents):
        records, path = [row for item in documents for row in item], ""
    else:
        found = sorted(_arrays(documents[0], ()), key=lambda item: (-len(item[1]), len(item[0])))
        path, records = (".".join(found[0][0]), found[0][1]) if found else ("", documents)
    shape = _objects({"type": "json"}, [r for r in records if isinstance(r, dict)])
    if path:
        shape.format["records"] = path
        shape.doubt("format.records", path, "likely", "the longest array of objects of the file")
    if commented:
        shape.doubt("format.type", "json", "sure", "it holds comments, which the reader leaves out")
    return shape


def _objects(form: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Shape:
    """The shape of objects: columns that they write as arrays, and arrays that may be records."""
    found = [dict(_lists(item, ())) for item in objects]
    same = [
        path for path in (found[0] if found else {})
        if all(path in lists and not isinstance(lists[path][0], dict) for lists in found)
    ]  # fmt: skip
    lengths = [[len(lists[path]) for lists in found] for path in same]
    abreast = [path for path, size in zip(same, lengths, strict=True) if lengths.count(size) > 1]
    if len(abreast) > 1 and max(max(size) for size in lengths) > 1:
        size = lengths[same.index(abreast[0])]
        abreast = [path for path in abreast if lengths[same.index(path)] == size]
        rows = []
        for item, lists in zip(objects, found, strict=True):
            flat = {
                name: text for name, text in _flat(item).items()
                if not any(name == f"{'.'.join(path)}[0]" for path in abreast)
            }  # fmt: skip
            for number in range(len(lists[abreast[0]])):
                own = {".".join(path): str(lists[path][number]) for path in abreast}
                rows.append({**flat, **own})
        named = [".".join(path) for path in abreast]
        shape = Shape({**form, "parallel": named}, rows[:SAMPLE_ROWS])
        shape.doubt(
            "format.parallel", ", ".join(named), "likely",
            "arrays of one length in every object: columns, whose elements at a place are a record",
        )  # fmt: skip
        return shape
    shape = Shape(form, [_flat(item) for item in objects])
    several = {
        ".".join(path): len(values)
        for lists in found for path, values in lists.items()
        if isinstance(values[0], dict) and len(values) > 1
    }  # fmt: skip
    for name, count in several.items():
        shape.doubt(
            "format.explode", "nothing", "unsure",
            f"{name} holds up to {count} objects, of which only the first is looked at; if each is "
            f"usage of its own, add explode: [{name}]",
        )  # fmt: skip
    return shape


def _lists(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Yield the arrays inside an object that hold something, outermost only."""
    for key, item in value.items():
        if re.search(r'[.\[\]"$]', key):
            continue
        if isinstance(item, dict):
            yield from _lists(item, (*path, key))
        elif isinstance(item, list) and item and not isinstance(item[0], list):
            yield (*path, key), item


def _arrays(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if "." not in key:
                yield from _arrays(item, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict) and path:
        yield path, value


def _flat(value: Any, path: str = "", depth: int = 0) -> dict[str, str | None]:
    if isinstance(value, dict) and depth < 8:
        flat: dict[str, str | None] = {}
        for key, item in value.items():
            plain = re.fullmatch(r'[^.\[\]"$]+', key)
            name = key if plain else f'"{key}"'
            if '"' not in key:
                flat |= _flat(item, f"{path}.{name}" if path else name, depth + 1)
        return flat
    if isinstance(value, list):
        return _flat(value[0], f"{path}[0]", depth + 1) if value else {}
    if isinstance(value, bool):
        return {path: "true" if value else "false"}
    return {path: None if value is None or value == "" else str(value)}


# ---------------------------------------------------------------- XML


def _xml(data: bytes) -> Shape:
    from defusedxml import (  # type: ignore[import-untyped]  # noqa: PLC0415 - rarely needed
        DefusedXmlException,
    )
    from defusedxml.ElementTree import (  # type: ignore[import-untyped]  # noqa: PLC0415
        ParseError,
        fromstring,
    )

    try:
        root = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise UnknownShapeError(f"is no XML that can be read safely ({error})") from None
    counts: Counter[tuple[str, ...]] = Counter()

    def count(element: Any, path: tuple[str, ...]) -> None:
        for child in element:
            here = (*path, child.tag)
            counts[here] += len(child) > 0
            count(child, here)

    count(root, (root.tag,))
    if not counts or max(counts.values()) < 1:
        raise UnknownShapeError("its elements do not repeat; no record can be told")
    best = max(counts, key=lambda path: (counts[path] > 1, -len(path), counts[path]))
    shape = Shape({"type": "xml", "record": "/".join(best)}, [])
    for element in root.findall("/".join(best[1:])):
        shape.rows.append(_element(element, ""))
    shape.doubt(
        "format.record",
        "/".join(best),
        "unsure",
        f"the outermost element that repeats ({counts[best]} times)",
    )
    return shape


def _element(element: Any, path: str) -> dict[str, str | None]:
    flat: dict[str, str | None] = {
        f"{path}@{name}": value for name, value in element.attrib.items()
    }
    if len(element) == 0 and path:
        flat[path] = (element.text or "").strip() or None
    for child in element:
        here = f"{path}.{child.tag}" if path else child.tag
        for name, value in _element(child, here).items():
            flat.setdefault(name, value)
    return flat


# ---------------------------------------------------------------- workbooks


def _workbook(path: Path) -> Shape:
    from python_calamine import CalamineError, CalamineWorkbook  # noqa: PLC0415 - rarely needed

    try:
        workbook = CalamineWorkbook.from_path(str(path))
    except (CalamineError, OSError, ValueError) as error:
        raise UnknownShapeError(
            f"{path.name} is an archive or workbook that cannot be read ({error}); unpack it first"
        ) from None
    sheets = {
        name: workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
        for name in workbook.sheet_names
    }
    best = max(sheets, key=lambda name: len(sheets[name]))
    rows = [[_cell(cell) for cell in row] for row in sheets[best][:SAMPLE_ROWS]]
    header = _header_row(rows)
    names = [cell.strip() for cell in rows[header]] if rows else []
    kind = "xls" if path.read_bytes()[:2] != b"PK" else "xlsx"
    form: dict[str, Any] = {"type": kind, "sheet": best}
    wanted = [name for name in names if name]
    alike = [
        name for name, cells in sheets.items()
        if any(set(wanted) <= {_cell(cell).strip() for cell in row} for row in cells[:50])
    ]  # fmt: skip
    bodies = [rows[header + 1 :]]
    if len(alike) > 1 and len(alike) == len(sheets):
        form |= {"sheet": "*", "header_has": wanted[:3]}
        bodies = []
        for name in alike:
            cells = [[_cell(cell) for cell in row] for row in sheets[name][:SAMPLE_ROWS]]
            at = next(n for n, row in enumerate(cells) if set(wanted) <= {c.strip() for c in row})
            bodies.append(cells[at + 1 :])
    elif header:
        form["header_row"] = header + 1
    shape = Shape(form, [])
    body = [
        (row + [""] * len(names))[: len(names)] for rows_ in bodies for row in rows_ if any(row)
    ]
    shape.rows = [
        {n: c or None for n, c in zip(names, row, strict=True) if n}
        for row in _without_totals(shape, names, body)
    ]
    if form["sheet"] == "*":
        shape.doubt("format.sheet", "*", "likely", f"{', '.join(alike)} have the same columns")
    elif len(sheets) > 1:
        others = ", ".join(name for name in sheets if name != best)
        shape.doubt(
            "format.sheet", best, "likely", f"it has the most rows; there are also {others}"
        )
    if header:
        shape.doubt("format.header_row", str(header + 1), "likely", "the first full row of names")
    return shape


def _header_row(rows: Sequence[Sequence[str]]) -> int:
    """The first row with nearly all columns filled, by words rather than numbers."""
    width = max((sum(map(bool, row)) for row in rows), default=0)
    for least in (width, max(1, width - 1)):
        for number, row in enumerate(rows[:50]):
            cells = [cell for cell in row if cell]
            if len(cells) >= least and not any(re.fullmatch(r"[0-9.,:+ -]+", c) for c in cells):
                return number
    return next((n for n, row in enumerate(rows) if sum(map(bool, row)) >= max(1, width - 1)), 0)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value)


# ---------------------------------------------------------------- lines

_COMMON, _RARE = ",;\t|", "^~:"


def _lines(text: str) -> Shape:
    numbered = list(enumerate(line.rstrip("\r") for line in text.split("\n")))
    if len(text) >= SAMPLE_BYTES - 4 and len(numbered) > 1:
        numbered.pop()  # cut in the middle
    numbered = [(number, line) for number, line in numbered if line.strip(" \t\x1a")]
    lines = [line for _, line in numbered]
    if not lines:
        raise UnknownShapeError("holds no lines; give a sample with records")
    delimiter, share, why = _delimiter(lines)
    if delimiter is None:
        return _fixed(lines)
    rows = [_split(line, delimiter) for line in lines[: SAMPLE_ROWS + 1]]
    widths = Counter(map(len, rows))
    width, _ = widths.most_common(1)[0]
    if share < 0.9 and _record_types(rows):
        return _typed_rows(rows, delimiter)
    width = max(width, 2) if width > 1 else max(widths)
    shape = Shape({"type": "delimited"}, [])
    if delimiter != ",":
        shape.format["delimiter"] = delimiter
    shape.doubt("format.delimiter", repr(delimiter), "sure" if share == 1 else "likely", why)
    at = [place for place, row in enumerate(rows) if len(row) == width]
    even = [rows[place] for place in at]
    first = even[0] if at and (at[0] == 0 or _is_header(even[0], even[1:])) else None
    if first is not None and at[0] and _is_header(first, even[1:]):
        shape.format["header_has"] = [cell.strip() for cell in first if cell.strip()][:3]
        shape.doubt(
            "format.header_has", ", ".join(shape.format["header_has"]), "likely",
            f"{at[0]} lines stand before the names of the columns",
        )  # fmt: skip
    if delimiter != ",":
        _decimal_comma(shape, even)
    _name_columns(shape, even, first)
    _quoting(shape, lines[at[0] :], width, numbered[at[0]][0])
    return shape


def _decimal_comma(shape: Shape, rows: Sequence[Sequence[str]]) -> None:
    """Find numbers written 1.234,5, where none is written 1,234.5."""
    cells = [cell.strip() for row in rows for cell in row]
    commas = [c for c in cells if re.fullmatch(r"-?([0-9]{1,3}(\.[0-9]{3})+|[0-9]+),[0-9]+", c)]
    points = [c for c in cells if re.fullmatch(r"-?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)\.[0-9]+", c)]
    points = [c for c in points if not re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{3}", c)]
    if commas and not points:
        shape.format["decimal_comma"] = True
        shape.doubt("format.decimal_comma", "true", "likely", f"numbers such as {commas[0]}")


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _delimiter(lines: Sequence[str]) -> tuple[str | None, float, str]:
    """Return the delimiter that cuts most lines into equally many cells, and how many agree."""
    checked = lines[:500]
    scores: dict[str, tuple[float, int]] = {}
    for candidate in _COMMON + _RARE:
        widths = Counter(len(_split(line, candidate)) for line in checked)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width > 1:
            scores[candidate] = (count / len(checked), width)
        elif len(widths) > 1:
            wide = {w: c for w, c in widths.items() if w > 1}
            width, count = max(wide.items(), key=lambda item: item[1])
            scores[candidate] = (count / len(checked), width)
    for group in (_COMMON, _RARE):
        fitting = {c: s for c, s in scores.items() if c in group and (s[0] > 0.5 or len(lines) < 8)}
        if not fitting:
            continue
        best = max(fitting, key=lambda c: (round(fitting[c][0], 1), fitting[c][1]))
        share, width = fitting[best]
        if group == _RARE and (share < 1 or len(set(map(len, checked))) == 1):
            continue  # times are full of colons
        why = f"{share:.0%} of the lines have {width} cells with it"
        sniffed = _sniffed("\n".join(checked[:50]))
        if sniffed and sniffed != best:
            why += f"; csv.Sniffer would take {sniffed!r}, which cuts them less evenly"
        return best, share, why
    return None, 0.0, ""


def _sniffed(sample: str) -> str | None:
    try:
        return csv.Sniffer().sniff(sample).delimiter
    except csv.Error:
        return None


def _quoting(shape: Shape, lines: Sequence[str], width: int, before: int) -> None:
    """Find out what quotes enclose in ``lines``, which stand after so many others."""
    if any(line.count('"') % 2 for line in lines[:SAMPLE_ROWS]):
        delimiter = shape.format.get("delimiter", ",")
        try:
            joined = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
        except csv.Error:
            joined = []
        if 0 < len(joined) < len(lines) and all(len(row) == width for row in joined):
            shape.format["multiline"] = True
            if shape.format.pop("header_has", None):
                shape.format["skip_rows"] = before
            names = shape.names
            if shape.named:
                shape.rows = [
                    {n: (c if c.strip() else None) for n, c in zip(names, row, strict=True)}
                    for row in joined[1:] if len(names) == width
                ]  # fmt: skip
            shape.doubt("format.multiline", "true", "likely", "quoted cells hold line ends")
        else:
            shape.doubt("format.quote", '"', "unsure", "some quote is opened and never closed")


def _name_columns(shape: Shape, rows: list[list[str]], first: list[str] | None) -> None:
    """Find the header, rows that are no records, and name the columns."""
    body = [row for row in rows if row is not first]
    if first is not None and _is_header(first, body):
        names = [re.sub(r"^[\s\ufeff\xa0]+|[\s\xa0]+$", "", cell) for cell in first]
        shape.doubt(
            "format.header",
            "true",
            "likely" if body else "unsure",
            "the first line holds words where the others hold values",
        )
        if body and all(re.fullmatch(r"[A-Z]+(\([0-9, ]+\))?", c.strip()) for c in body[0] if c):
            shape.filters.append(("type_row", names[0], body[0][0]))
            shape.doubt("filter.type_row", body[0][0], "likely", "the second line holds type names")
            body = body[1:]
        repeated = [row for row in body if row == first]
        if repeated:
            shape.filters.append(("repeated_header", names[0], first[0]))
            body = [row for row in body if row != first]
    else:
        body = rows
        names = [f"c{number}" for number in range(1, len(rows[0]) + 1)]
        shape.format["header"] = False
        shape.format["columns"] = names
        shape.named = False
        shape.doubt(
            "format.columns",
            f"c1 to c{len(names)}",
            "unsure",
            "the file has no header; give the columns the carrier's names",
        )
    body = _without_totals(shape, names, body)
    shape.rows = [
        {n: (c if c.strip() else None) for n, c in zip(names, row, strict=True) if n}
        for row in body
    ]


def _without_totals(shape: Shape, names: Sequence[str], body: list[list[str]]) -> list[list[str]]:
    """Leave out rows that repeat the sum of others, and filter them."""
    for number, name in enumerate(names):
        words = Counter(row[number].strip() for row in body)
        for word in ("Total", "TOTAL", "total", "Summe", "Gesamt", "Sum"):
            if word in words and words[word] < len(body) / 2 and len(words) > 1:
                shape.filters.append(("total_row", name, word))
                shape.doubt(
                    "filter.total_row",
                    f"{name} = {word}",
                    "likely",
                    "such rows repeat the sum of others; state them as control totals instead: "
                    f"control: {{when: {{field: {name}, equals: {word}}}, totals: ...}}",
                )
                body = [row for row in body if row[number].strip() != word]
    return body


def _is_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for cell in first]
    if not all(cells) or len(set(cells)) != len(cells):
        return False
    if any(re.fullmatch(r"[+-]?[0-9][0-9.,:/TZ +-]*", cell) for cell in cells):
        return False
    if not body:
        return True
    valued = sum(
        any(re.search(r"[0-9]", row[number]) for row in body[:50]) for number in range(len(cells))
    )
    return valued > 0


# ---------------------------------------------------------------- lines of several kinds


def _record_types(rows: Sequence[Sequence[str]]) -> bool:
    kinds = Counter(row[0].strip() for row in rows)
    widths = {(row[0].strip(), len(row)) for row in rows}
    even = len(widths) == len(kinds) <= 8 and len({width for _, width in widths}) > 2
    return (even or len(kinds) <= max(2, min(8, len(rows) // 2))) and all(
        re.fullmatch(r"[A-Za-z0-9]{1,4}", kind) for kind in kinds
    )


def _typed_rows(rows: list[list[str]], delimiter: str) -> Shape:
    """Lines whose first cell says what they are."""
    groups: dict[str, list[list[str]]] = {}
    for row in rows:
        groups.setdefault(row[0].strip(), []).append(row)
    detail = max(groups, key=lambda kind: (len(groups[kind]), max(map(len, groups[kind]))))
    layouts: list[dict[str, Any]] = []
    shape = Shape({"type": "delimited", "header": False}, [], named=False)
    if delimiter != ",":
        shape.format["delimiter"] = delimiter
    for kind, members in groups.items():
        role = "ignored"
        if kind == detail:
            role = "detail"
        elif len(members) == 1 and members[0] is rows[0]:
            role = "header"
        elif len(members) == 1 and members[0] is rows[-1]:
            role = "trailer"
        least, most = min(map(len, members)), max(map(len, members))
        layout: dict[str, Any] = {
            "kind": role,
            "when": {"column": 1, "equals": kind},
            "columns": [f"c{number}" for number in range(1, most + 1)],
        }
        if most > least:
            layout["optional"] = most - least
        layouts.append(layout)
        shape.doubt(
            "format.layouts",
            f"lines {kind}: {role}",
            "unsure",
            f"{len(members)} lines begin with {kind}"
            + ("; if they are usage, make them detail, too" if role == "ignored" else ""),
        )
    shape.format["layouts"] = layouts
    shape.rows = [
        {f"c{n}": (c if c.strip() else None) for n, c in enumerate(row, 1)}
        for row in groups[detail]
    ]
    for layout in layouts:
        if layout["kind"] == "trailer":
            cells = groups[layout["when"]["equals"]][0]
            texts = {f"trailer.c{n}": c for n, c in enumerate(cells, 1) if n > 1}
            _controls(shape, texts)
    return shape


def _controls(shape: Shape, trailer: dict[str, str]) -> None:
    """Find totals in a trailer that agree with the records."""

    def number(text: str | None) -> Decimal | None:
        try:
            return Decimal((text or "").strip())
        except InvalidOperation:
            return None

    sums = {
        name: sum((number(row.get(name)) or Decimal(0) for row in shape.rows), Decimal(0))
        for name in shape.names
        if sum(bool(number(row.get(name))) for row in shape.rows) > 2  # less may be chance
    }
    for name, text in trailer.items():
        stated = number(text)
        if stated is None:
            continue
        if stated == len(shape.rows) and "records" not in shape.control:
            shape.control["records"] = name
            shape.doubt(
                "control.records", name, "likely", f"{text.strip()} is the number of records"
            )
            continue
        for column, total in sums.items():
            if stated == total and stated and "total" not in shape.control:
                shape.control |= {"total": name, "of": column}
                shape.doubt("control.total", name, "likely", f"it is the sum of {column}")


# ---------------------------------------------------------------- fixed width


def _fixed(lines: Sequence[str]) -> Shape:
    lengths = Counter(map(len, lines))
    common, count = lengths.most_common(1)[0]
    if count < len(lines) - 4 or common < 8:
        raise UnknownShapeError(
            "its lines have neither a delimiter in common nor a length; write the format by hand"
        )
    details = [line for line in lines if len(line) == common]
    shape = Shape({"type": "fixed"}, [], named=False)
    layouts: list[dict[str, Any]] = []
    trailer: dict[str, str] = {}
    for place, line in ((0, lines[0]), (-1, lines[-1])):
        mark = re.match(r"[A-Z]{2,4}|[0-9]{2}", line)
        if len(line) == common or not mark or len(lines) < 3:
            continue
        kind = "header" if place == 0 else "trailer"
        pieces = _pieces([line], mark.end())
        if kind == "trailer":
            pieces = _trailer_pieces(line, mark.end(), len(details))
        layouts.append(
            {
                "kind": kind,
                "when": {"start": 1, "length": mark.end(), "equals": mark[0]},
                "fields": {n: {"start": s, "length": size} for n, (s, size) in pieces.items()},
            }
        )
        shape.doubt(
            f"format.layouts.{kind}",
            mark[0],
            "likely",
            f"the {'first' if place == 0 else 'last'} line is of another length",
        )
        if kind == "trailer":
            trailer = {
                f"trailer.{n}": line[s - 1 : s - 1 + size] for n, (s, size) in pieces.items()
            }
    pieces = _pieces(details, 0)
    layouts.append(
        {
            "kind": "detail",
            "length": common,
            "fields": {n: {"start": s, "length": size} for n, (s, size) in pieces.items()},
        }
    )
    shape.format["layouts"] = layouts
    shape.rows = [
        {n: line[s - 1 : s - 1 + size].strip() or None for n, (s, size) in pieces.items()}
        for line in details[:SAMPLE_ROWS]
    ]
    shape.doubt(
        "format.layouts.detail",
        f"{len(pieces)} fields",
        "unsure",
        "borders are guessed from blanks, and from where digits meet letters; names are "
        "positions. Compare with the carrier's description",
    )
    _controls(shape, trailer)
    return shape


def _pieces(lines: Sequence[str], begin: int) -> dict[str, tuple[int, int]]:
    """Cut lines where blanks end in all of them, or digits meet letters; times are kept whole."""
    width = len(lines[0])
    kinds = []
    for position in range(width):
        chars = {line[position] for line in lines}
        if chars <= {" "}:
            kinds.append(" ")
        elif chars <= set("0123456789"):
            kinds.append("9")
        elif chars <= set("0123456789+. "):
            kinds.append("n")
        else:
            kinds.append("x")
    filled = [sum(line[p] != " " for line in lines) for p in range(width)]
    borders = {begin}
    for position in range(begin + 1, width):
        # a left-justified field ends where the fill, fallen before, jumps up again
        around = {kinds[position], kinds[position - 1]}
        meets = len(around) == 2 and around & {" ", "x"}
        if meets or filled[position] > filled[position - 1]:
            borders.add(position)
    cuts = sorted(borders | {width})
    pieces: dict[str, tuple[int, int]] = {}
    for start, end in pairwise(cuts):
        if set(kinds[start:end]) <= {" "}:
            continue
        for first, last in _timed(lines, start, end):
            pieces[f"p{first + 1}"] = (first + 1, last - first)
    return pieces


_TIME = re.compile(
    r"20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
)


def _timed(lines: Sequence[str], start: int, end: int) -> list[tuple[int, int]]:
    """Part a run of characters around a timestamp that all lines have at the same place."""
    for place in range(start, end - 13):
        if all(_TIME.match(line, place) for line in lines):
            parts = [(start, place), (place, place + 14), (place + 14, end)]
            return [part for part in parts if part[1] > part[0]]
    return [(start, end)]


def _trailer_pieces(line: str, begin: int, records: int) -> dict[str, tuple[int, int]]:
    """Part a trailer's digits so that one piece is the number of records."""
    for end in range(begin + 1, len(line) + 1):
        text = line[begin:end]
        if text.isdigit() and int(text) == records and not line[end : end + 1].strip("0"):
            pieces = {"records": (begin + 1, end - begin)}
            if line[end:].strip():
                pieces["total"] = (end + 1, len(line) - end)
            return pieces
    return {"rest": (begin + 1, len(line) - begin)} if len(line) > begin else {}
