"""Roaming files of the GSMA: TAP 3 (TD.57), NRTRDE 2.1 (TD.35) and RAP 1.5 (TD.32), ASN.1 BER.

pycrate decodes values by the published grammars; this module keeps it honest. General decoders
accept trailing octets, drop elements that stand in the wrong order and read one kind of file by
the grammar of another without a word. So the frame of the file is checked first, the grammar is
chosen by the file name and confirmed by the contents, every primitive element of an event must
come out as a value, and what the file declares about itself is compared with what it holds.

One record per call event (TAP, NRTRDE) or return (RAP). Field names are paths in the grammar's own
names (``basicCallInformation.callEventStartTimeStamp.localTimeStamp``, lists counted from 0), plus
what codes of the file's lookup tables stand for, beside the code (``...utcTimeOffset`` beside
``...utcTimeOffsetCode``), plus these, where the event has them:

``event_type``, ``event_start_local``, ``event_start_offset``, ``event_start_utc`` (ISO 8601, Z),
``imsi``, ``msisdn``, ``imei`` (digits without filler), ``duration_seconds``, ``bytes_incoming``,
``bytes_outgoing``, ``charge_units`` (as delivered: charges of type 00 and the CAMEL invocation
fee, refunds negative), ``amount`` (the same scaled by tapDecimalPlaces) in ``currency`` (the TAP
currency, XDR where none is declared), ``amount_local`` (exact, unrounded) in ``currency_local``.
"""

from __future__ import annotations

import functools
import importlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePath
from typing import Any, BinaryIO, Final, Literal

from iotbill_pipelines.compute.decoders import ber
from iotbill_pipelines.compute.decoders.records import (
    Decoded,
    DecodeError,
    Problem,
    RawRecord,
    Scope,
)

Schema = Literal["tap", "nrtrde", "rap"]

ALL_TOTALS: Final = frozenset({"call_events", "charge", "charge_refund", "tax", "discount"})
"""Control totals that files can declare, in the units of the file."""

_NAME_HINTS: Final[Mapping[str, Schema]] = {
    "CD": "tap",
    "TD": "tap",
    "NR": "nrtrde",
    "RC": "rap",
    "RT": "rap",
    "AC": "rap",
    "AT": "rap",
}
_FIRST_ELEMENTS: Final[Mapping[int, Schema]] = {4: "tap", 41: "nrtrde"}
"""Tag of the first element inside [APPLICATION 1]: batchControlInfo, specificationVersionNumber."""
_MAX_BOUND_NOTICES = 20
_MAX_INTEGER = 1 << 63
_MAX_PLACES = 20
_INSTANT = re.compile(r"\d{14}")
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)")
_INDEX = re.compile(r"\[\d+\]$")


@dataclass(frozen=True, slots=True)
class RoamingOptions:
    """How to read a roaming file.

    ``file_name`` tells the kind by its first letters (CD and TD are TAP, NR is NRTRDE, RC and RT
    are RAP). ``checked_totals`` are compared when declared; the number of events must be declared.
    """

    file_name: str = ""
    schema: Literal["auto", "tap", "nrtrde", "rap"] = "auto"
    checked_totals: frozenset[str] = ALL_TOTALS
    max_bytes: int = 1 << 30
    max_depth: int = 32


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file: its grammar's root and where events and their count stand."""

    name: str
    schema: Schema
    root: tuple[str, str]
    events: str | None
    count: str | None
    required: tuple[str, ...]
    versions: tuple[str, tuple[int, ...], str, tuple[int, ...]]


_SPEC, _REL = "specificationVersionNumber", "releaseVersionNumber"
_TAP_RELEASES = tuple(range(1, 13))
_KINDS: Final = {
    ("tap", 1): _Kind(
        "transferBatch",
        "tap",
        ("TAP_0312", "TransferBatch"),
        "callEventDetails",
        "auditControlInfo.callEventDetailsCount",
        ("batchControlInfo", "callEventDetails", "auditControlInfo"),
        (f"batchControlInfo.{_SPEC}", (3,), f"batchControlInfo.{_REL}", _TAP_RELEASES),
    ),
    ("tap", 2): _Kind(
        "notification",
        "tap",
        ("TAP_0312", "Notification"),
        None,
        None,
        ("sender", "recipient", "fileSequenceNumber"),
        (_SPEC, (3,), _REL, _TAP_RELEASES),
    ),
    ("nrtrde", 1): _Kind(
        "nrtrde",
        "nrtrde",
        ("NRTRDE_0201", "Nrtrde"),
        "callEvents",
        "callEventsCount",
        ("sender", "recipient", "sequenceNumber", "callEvents"),
        (_SPEC, (2,), _REL, (1,)),
    ),
    ("rap", 534): _Kind(
        "returnBatch",
        "rap",
        ("RAP_0105", "ReturnBatch"),
        "returnDetails",
        "rapAuditControlInfo.returnDetailsCount",
        ("rapBatchControlInfoRap", "returnDetails", "rapAuditControlInfo"),
        (
            "rapBatchControlInfoRap.rapSpecificationVersionNumber",
            (1,),
            "rapBatchControlInfoRap.rapReleaseVersionNumber",
            (1, 2, 3, 4, 5),
        ),
    ),
    ("rap", 535): _Kind(
        "acknowledgement",
        "rap",
        ("RAP_0105", "Acknowledgement"),
        None,
        None,
        ("sender", "recipient", "rapFileSequenceNumber"),
        ("", (), "", ()),
    ),
}
_DECLARED: Final = {
    "charge": "auditControlInfo.totalCharge",
    "charge_refund": "auditControlInfo.totalChargeRefund",
    "tax": "auditControlInfo.totalTaxValue",
    "discount": "auditControlInfo.totalDiscountValue",
}
_LOOKUPS: Final = {
    "utcTimeOffsetCode": ("networkInfo.utcTimeOffsetInfo", "utcTimeOffsetCode"),
    "recEntityCode": ("networkInfo.recEntityInfo", "recEntityCode"),
    "recEntity": ("networkInfo.recEntityInfo", "recEntityCode"),
    "recEntityCodeList": ("networkInfo.recEntityInfo", "recEntityCode"),
    "exchangeRateCode": ("accountingInfo.currencyConversionInfo", "exchangeRateCode"),
    "taxCode": ("accountingInfo.taxation", "taxCode"),
    "discountCode": ("accountingInfo.discounting", "discountCode"),
    "messageDescriptionCode": ("messageDescriptionInfo", "messageDescriptionCode"),
}
"""Name of a code in an event -> the table of the file that explains it, and its key there."""
_STARTS: Final = (
    "basicCallInformation.callEventStartTimeStamp",
    "gprsBasicCallInformation.callEventStartTimeStamp",
    "supplServiceUsed.chargingTimeStamp",
    "serviceStartTimestamp",
    "scuTimeStamps.depositTimeStamp",
    "contentTransactionBasicInfo.orderPlacedTimeStamp",
    "locationServiceUsage.chargingTimeStamp",
    "locationServiceUsage.lCSQosRequested.lCSRequestTimestamp",
)
_DURATIONS: Final = frozenset(
    {"totalCallEventDuration", "callEventDuration", "totalTransactionDuration"}
)
_VOLUMES: Final = {
    "gprsServiceUsed.dataVolumeIncoming": "bytes_incoming",
    "gprsServiceUsed.dataVolumeOutgoing": "bytes_outgoing",
    "dataVolumeIncoming": "bytes_incoming",
    "dataVolumeOutgoing": "bytes_outgoing",
}
_TEXTS: Final = frozenset({"AsciiString", "NumberString", "HexString", "Currency"})


class _Rejected(Exception):
    """An event that cannot be used, with the code of its finding."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Grammar:
    """pycrate's runtime, loaded when the first roaming file is read (it takes a third of a second).

    Its type objects hold the value they decoded last, so every use is under one lock.
    """

    modules: Mapping[str, Any]
    registry: Mapping[str, Mapping[str, Any]]
    errors: tuple[type[Exception], ...]
    lock: threading.Lock

    def root(self, kind: _Kind) -> Any:
        module, name = kind.root
        return getattr(self.modules[module], name)


@functools.cache
def _grammar() -> _Grammar:
    tap = importlib.import_module("pycrate_asn1dir.TAP3")
    nrtrde = importlib.import_module("iotbill_pipelines.compute.decoders.nrtrde_0201")
    library = importlib.import_module("pycrate_core.utils").PycrateErr
    modules = {
        "TAP_0312": tap.TAP_0312,
        "RAP_0105": tap.RAP_0105,
        "NRTRDE_0201": nrtrde.NRTRDE_0201,
    }
    # The library asserts on some malformed input and indexes past the end on other.
    errors = (library, AssertionError, LookupError, ValueError, TypeError, AttributeError)
    registry = importlib.import_module("pycrate_asn1rt.glob").GLOBAL.MOD
    return _Grammar(modules, registry, errors, threading.Lock())


@functools.cache
def _text_type(module: str, name: str) -> str:
    """The basic type of TD.57 behind a named type: AsciiString, BCDString, ..."""
    registry = _grammar().registry
    while True:
        reference = getattr(registry[module][name], "_typeref", None)
        if reference is None:
            return name
        module, name = reference.called


def _flatten(schema: Any, value: Any, path: str, fields: dict[str, str | None]) -> int:
    """Add the leaves of a decoded value to ``fields``; return how many elements they stand for."""
    kind = schema.TYPE
    if kind == "CHOICE":
        name, inner = value
        if name.startswith("_ext_"):
            raise _Rejected("unknown_element", f"the alternative at {path or 'the top'} is unknown")
        return _flatten(schema._cont[name], inner, f"{path}.{name}" if path else name, fields)
    if kind == "SEQUENCE":
        count = 0
        for name, inner in value.items():
            if name.startswith("_ext_"):
                raise _Rejected("unknown_element", f"an element inside {path} is unknown")
            count += _flatten(schema._cont[name], inner, f"{path}.{name}" if path else name, fields)
        return count or 1
    if kind == "SEQUENCE OF":
        count = 0
        for index, inner in enumerate(value):
            count += _flatten(schema._cont, inner, f"{path}[{index}]", fields)
        return count or 1
    _leaf(schema, value, path, fields)
    return 1


def _leaf(schema: Any, value: Any, path: str, fields: dict[str, str | None]) -> None:
    if isinstance(value, int):
        if abs(value) >= _MAX_INTEGER:
            raise _Rejected("undecodable", f"has a number of more than 8 octets at {path}")
        fields[path] = str(value)
        return
    text_type = _text_type(*schema._typeref.called)
    if text_type == "BCDString":
        digits = value.hex().upper()
        fields[path] = digits.rstrip("F")
        if digits.endswith("F"):
            fields[f"{path}@octets"] = digits
    elif text_type in _TEXTS:
        # One character per octet: nothing is lost whatever a sender put there.
        fields[path] = value.decode("latin-1")
    else:
        fields[path] = value.hex().upper()


def _decode_element(
    data: bytes, part: ber.Element, schema: Any, path: str, max_depth: int
) -> tuple[dict[str, str | None], str | None]:
    """Decode one element to fields; also say which value is outside the grammar's bounds."""
    grammar = _grammar()
    expected = ber.primitives(data, part, max_depth)
    fields: dict[str, str | None] = {}
    bounds: str | None = None
    with grammar.lock:
        try:
            schema._SAFE_BND = False  # bounds are reported, they do not cost a record
            schema.from_ber(data[part.start : part.end])
            value = schema.get_val()
            found = _flatten(schema, value, path, fields)
        except grammar.errors as error:
            raise _Rejected("undecodable", f"cannot be decoded: {error or 'malformed'}") from error
        try:
            schema._safechk_bnd(value)
        except grammar.errors as error:
            bounds = str(error)
    if found != expected:
        raise _Rejected(
            "unaccounted_elements",
            f"has {expected} elements of which the grammar explains {found}; "
            "some are unknown or stand in the wrong order",
        )
    return fields, bounds


def decode(stream: BinaryIO, options: RoamingOptions) -> Decoded:
    """Decode a TAP, NRTRDE or RAP file.

    Findings that quarantine the file: ``empty``, ``too_large``, ``truncated``, ``bad_tag``,
    ``bad_length``, ``length_overflow``, ``too_deep``, ``stray_end_of_contents``,
    ``trailing_bytes``, ``unknown_schema``, ``schema_mismatch``, ``unsupported_release``,
    ``missing_element``, ``duplicate_element``, ``unknown_element``, ``element_order``,
    ``ambiguous_lookup``, ``undecodable``, ``unaccounted_elements``, ``control_total_missing``,
    ``control_total_mismatch``. Findings on a record: ``undecodable``, ``unknown_element``,
    ``unaccounted_elements``, ``unresolved_code``, ``bad_timestamp``, ``bad_decimal_places`` and
    the frame's own.
    """
    decoded = Decoded(iter(()))
    data = stream.read(options.max_bytes + 1)
    if not data:
        decoded.problems.append(Problem("empty", "the file is empty", Scope.FILE, offset=0))
        return decoded
    if len(data) > options.max_bytes:
        decoded.problems.append(
            Problem("too_large", f"the file is larger than {options.max_bytes} bytes", Scope.FILE)
        )
        return decoded
    try:
        outer = ber.element(data, 0, len(data), options.max_depth)
        if outer.end < len(data):
            decoded.problems.append(
                Problem(
                    "trailing_bytes",
                    f"{len(data) - outer.end} bytes follow the end of the file's only element",
                    Scope.FILE,
                    offset=outer.end,
                )
            )
        kind = _kind(data, outer, options)
        events = _read_header(data, outer, kind, decoded, options)
    except DecodeError as error:
        decoded.problems.append(error.problem)
        return decoded
    decoded.header["file_type"] = kind.name
    _check_release(kind, decoded)
    _check_count(kind, events, decoded, options)
    decoded.records = _records(data, kind, events, decoded, options)
    return decoded


def _kind(data: bytes, outer: ber.Element, options: RoamingOptions) -> _Kind:
    """Choose the grammar; TAP and NRTRDE share the outer tag, so look one element deeper."""
    hint = options.schema
    if hint == "auto":
        hint = _NAME_HINTS.get(PurePath(options.file_name).name[:2].upper(), "auto")
    shown: Schema | None = None
    if outer.tag_class == 1 and outer.constructed:
        if outer.tag in (534, 535):
            shown = "rap"
        elif outer.tag == 2:
            shown = "tap"
        elif outer.tag == 1:
            first = next(ber.children(data, outer, options.max_depth), None)
            if first is not None and first.tag_class == 1:
                shown = _FIRST_ELEMENTS.get(first.tag)
    if shown is None:
        raise DecodeError(
            Problem(
                "unknown_schema",
                f"{outer.label} does not begin a TAP, NRTRDE or RAP file",
                Scope.FILE,
                offset=outer.start,
            )
        )
    if hint not in ("auto", shown):
        raise DecodeError(
            Problem(
                "schema_mismatch",
                f"the name or the settings say {hint}, the contents are {shown}",
                Scope.FILE,
                offset=outer.start,
            )
        )
    return _KINDS[shown, outer.tag]


def _read_header(
    data: bytes, outer: ber.Element, kind: _Kind, decoded: Decoded, options: RoamingOptions
) -> list[ber.Element]:
    """Decode everything but the events into ``decoded.header``; return where the events are."""
    components = _grammar().root(kind)._cont
    by_tag = {
        tuple(component._tagc[0]): (position, name, component)
        for position, (name, component) in enumerate(components.items())
    }
    events: list[ber.Element] = []
    seen: set[str] = set()
    last = -1

    def report(code: str, message: str, part: ber.Element) -> None:
        decoded.problems.append(Problem(code, message, Scope.FILE, offset=part.start))

    for part in ber.children(data, outer, options.max_depth):
        known = by_tag.get(part.key)
        if known is None:
            report("unknown_element", f"{kind.name} has no element {part.label}", part)
            continue
        position, name, schema = known
        if name in seen:
            report("duplicate_element", f"{name} stands twice", part)
            continue
        if position < last:
            report("element_order", f"{name} stands after what has to follow it", part)
        seen.add(name)
        last = max(last, position)
        if name == kind.events:
            events = list(ber.children(data, part, options.max_depth))
            continue
        try:
            fields, bounds = _decode_element(data, part, schema, name, options.max_depth)
        except _Rejected as error:
            report(error.code, f"{name} {error}", part)
            continue
        decoded.header.update(fields)
        if bounds:
            decoded.problems.append(
                Problem("value_out_of_bounds", bounds, Scope.NOTICE, offset=part.start)
            )
    for name in kind.required:
        if name not in seen:
            report("missing_element", f"{kind.name} has no {name}", outer)
    return events


def _check_release(kind: _Kind, decoded: Decoded) -> None:
    spec_field, specs, release_field, releases = kind.versions
    if not spec_field:
        return
    spec, release = decoded.header.get(spec_field), decoded.header.get(release_field)
    if spec is None or release is None:
        code, message = "missing_element", "the file does not say which release it follows"
    elif int(spec) not in specs or int(release) not in releases:
        code = "unsupported_release"
        message = f"{kind.schema} {spec}.{release} is not a release this grammar covers"
    else:
        return
    decoded.problems.append(Problem(code, message, Scope.FILE))


def _check_count(
    kind: _Kind, events: list[ber.Element], decoded: Decoded, options: RoamingOptions
) -> None:
    if kind.count is None:
        return
    decoded.counted["call_events"] = str(len(events))
    declared = decoded.header.get(kind.count)
    if declared is None:
        decoded.problems.append(
            Problem("control_total_missing", f"the file does not declare {kind.count}", Scope.FILE)
        )
        return
    decoded.totals["call_events"] = declared
    if "call_events" in options.checked_totals and int(declared) != len(events):
        decoded.problems.append(
            Problem(
                "control_total_mismatch",
                f"{kind.count} declares {declared} events, the file has {len(events)}",
                Scope.FILE,
            )
        )


def _table(
    header: Mapping[str, str | None], prefix: str, key: str, decoded: Decoded
) -> dict[str, dict[str, str | None]]:
    """A lookup table of the file by code, with the elements beside the code."""
    rows: dict[str, dict[str, str | None]] = {}
    for path, value in header.items():
        if path.startswith(f"{prefix}["):
            index, _, name = path[len(prefix) + 1 :].partition("].")
            rows.setdefault(index, {})[name] = value
    table: dict[str, dict[str, str | None]] = {}
    for row in rows.values():
        code = row.pop(key, None)
        if code is None:
            continue
        if table.setdefault(code, row) != row:
            decoded.problems.append(
                Problem("ambiguous_lookup", f"{prefix} explains {key} {code} twice", Scope.FILE)
            )
    return table


class _Sums:
    """Running control totals, in the units of the file."""

    def __init__(self) -> None:
        self.by_name = dict.fromkeys(("charge", "charge_refund", "tax", "discount"), 0)
        self.complete = True

    def add(self, name: str, units: int, refund: bool) -> None:
        if not refund:
            self.by_name[name] += units
        elif name == "charge":
            self.by_name["charge_refund"] += units


def _records(
    data: bytes,
    kind: _Kind,
    events: list[ber.Element],
    decoded: Decoded,
    options: RoamingOptions,
) -> Iterator[RawRecord]:
    if kind.events is None:
        return
    schema = _grammar().root(kind)._cont[kind.events]._cont
    tables = {
        name: _table(decoded.header, prefix, key, decoded)
        for name, (prefix, key) in _LOOKUPS.items()
        if kind.schema == "tap"
    }
    sums = _Sums()
    notices = 0
    for line_no, event in enumerate(events, start=1):
        raw_text = data[event.start : event.end].hex()
        fields: dict[str, str | None] = {}
        problem: Problem | None = None
        try:
            fields, bounds = _decode_element(data, event, schema, "", options.max_depth)
            fields = _without_alternative(fields, event, schema)
            if bounds and notices < _MAX_BOUND_NOTICES:
                notices += 1
                decoded.problems.append(
                    Problem("value_out_of_bounds", bounds, Scope.NOTICE, event.start, line_no)
                )
            _resolve(fields, tables)
            _add_convenience(fields, kind, decoded.header, tables, sums)
        except _Rejected as error:
            sums.complete = False
            problem = Problem(
                error.code, f"event {line_no} {error}", Scope.RECORD, event.start, line_no
            )
        except DecodeError as error:
            sums.complete = False
            problem = Problem(
                error.problem.code,
                f"event {line_no}: {error}",
                Scope.RECORD,
                error.problem.offset,
                line_no,
            )
        yield RawRecord(line_no, fields, raw_text, problem)
    if kind.name == "transferBatch":
        _check_sums(sums, decoded, options)


def _without_alternative(
    fields: dict[str, str | None], event: ber.Element, schema: Any
) -> dict[str, str | None]:
    """Take the event's kind out of its paths, so that one mapping can serve several kinds."""
    for name, component in schema._cont.items():
        if tuple(component._tagc[0]) == event.key:
            stripped = {path.removeprefix(f"{name}."): value for path, value in fields.items()}
            return {"event_type": name, **stripped}
    raise _Rejected("unknown_element", f"is of the unknown kind {event.label}")


def _resolve(
    fields: dict[str, str | None], tables: Mapping[str, Mapping[str, Mapping[str, str | None]]]
) -> None:
    """Put beside every code what the file's tables say about it."""
    for path, code in list(fields.items()):
        indexed = _INDEX.sub("", path)
        name = indexed.rpartition(".")[2]
        table = tables.get(name)
        if table is None or code is None or path.endswith("@octets"):
            continue
        row = table.get(code)
        if row is None:
            raise _Rejected("unresolved_code", f"uses {path} {code}, which no table explains")
        parent = path if indexed != path else path.rpartition(".")[0]
        for beside, value in row.items():
            fields.setdefault(f"{parent}.{beside}" if parent else beside, value)


def _add_convenience(
    fields: dict[str, str | None],
    kind: _Kind,
    header: Mapping[str, str | None],
    tables: Mapping[str, Mapping[str, Mapping[str, str | None]]],
    sums: _Sums,
) -> None:
    _add_start(fields)
    for path, value in list(fields.items()):
        name = path.rpartition(".")[2]
        if name in ("imsi", "msisdn", "imei"):
            fields.setdefault(name, value)
        elif name in _DURATIONS:
            fields.setdefault("duration_seconds", value)
        elif path in _VOLUMES:
            fields[_VOLUMES[path]] = value
    if kind.schema == "nrtrde":
        fields["charge_units"] = fields.get("chargeAmount")
    elif kind.schema == "tap":
        _add_charge(fields, header, tables, sums)


def _add_start(fields: dict[str, str | None]) -> None:
    local, offset = fields.get("callEventStartTimeStamp"), fields.get("utcTimeOffset")
    for path in _STARTS:
        if f"{path}.localTimeStamp" in fields:
            local = fields[f"{path}.localTimeStamp"]
            offset = fields.get(f"{path}.utcTimeOffset")
            break
    if local is None:
        return
    fields["event_start_local"], fields["event_start_offset"] = local, offset
    if offset is not None:
        fields["event_start_utc"] = utc_text(local, offset)


def utc_text(local: str, offset: str) -> str:
    """Return ``YYYYMMDDhhmmss`` at ``+hhmm`` as an instant in UTC, ISO 8601 with Z."""
    match = _OFFSET.fullmatch(offset)
    if match is None or not _INSTANT.fullmatch(local):
        raise _Rejected("bad_timestamp", f"has the time {local!r} at {offset!r}")
    away = timedelta(hours=int(match[2]), minutes=int(match[3]))
    try:
        zone = timezone(-away if match[1] == "-" else away)
        instant = datetime.strptime(local, "%Y%m%d%H%M%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Rejected("bad_timestamp", f"has the time {local!r} at {offset!r}") from None
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _add_charge(
    fields: dict[str, str | None],
    header: Mapping[str, str | None],
    tables: Mapping[str, Mapping[str, Mapping[str, str | None]]],
    sums: _Sums,
) -> None:
    """Add the charge of the event and count it into the control totals (TD.57, totalCharge)."""
    refunds = [
        path.removesuffix("chargeRefundIndicator")
        for path, value in fields.items()
        if path.endswith("chargeRefundIndicator") and value not in (None, "0")
    ]
    units: int | None = None
    local: tuple[int, int] | None = (0, 0)
    for path, value in list(fields.items()):
        parent, _, name = path.rpartition(".")
        if value is None:
            continue
        refund = any(path.startswith(prefix) for prefix in refunds)
        if name == "taxValue":
            sums.add("tax", int(value), refund)
        elif name == "discount" and parent.endswith("discountInformation"):
            sums.add("discount", int(value), refund)
        elif name == "camelInvocationFee" or (name == "charge" and _is_total(fields, parent)):
            sums.add("charge", int(value), refund)
            signed = -int(value) if refund else int(value)
            units = (units or 0) + signed
            group = parent.partition(".chargeDetailList[")[0]
            code = fields.get(f"{group}.exchangeRateCode" if group else "exchangeRateCode")
            local = _converted(local, signed, _rate(code, tables))
    if units is None:
        return
    fields["charge_units"] = str(units)
    declared = header.get("accountingInfo.tapDecimalPlaces")
    if declared is None:
        return
    places = int(declared)
    if not 0 <= places <= _MAX_PLACES:
        raise _Rejected("bad_decimal_places", f"cannot be scaled by {places} decimal places")
    fields["amount"] = _scaled(units, places)
    fields["currency"] = header.get("accountingInfo.tapCurrency", "XDR")
    if local is not None:
        fields["amount_local"] = _scaled(local[0], places + local[1])
        fields["currency_local"] = header.get("accountingInfo.localCurrency")


def _is_total(fields: Mapping[str, str | None], parent: str) -> bool:
    """Whether a charge is the total (type 00) and not a part of it; messages have only a total."""
    return "chargeDetailList[" not in parent or fields.get(f"{parent}.chargeType") == "00"


def _rate(
    code: str | None, tables: Mapping[str, Mapping[str, Mapping[str, str | None]]]
) -> tuple[int, int] | None:
    """Units of local currency for one unit of the file's currency: digits and decimal places."""
    row = tables["exchangeRateCode"].get(code) if code is not None else None
    if row is None:
        return None
    rate, places = row.get("exchangeRate"), row.get("numberOfDecimalPlaces")
    if rate is None or places is None or not 0 <= int(places) <= _MAX_PLACES:
        return None
    return int(rate), int(places)


def _converted(
    total: tuple[int, int] | None, units: int, rate: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Add units at a rate to a sum of (digits, decimal places), exactly."""
    if total is None or rate is None:
        return None
    places = max(total[1], rate[1])
    added = units * rate[0] * 10 ** (places - rate[1])
    return total[0] * 10 ** (places - total[1]) + added, places


def _scaled(units: int, places: int) -> str:
    """Return an integer with ``places`` of its digits after the point, exactly."""
    digits = str(abs(units)).rjust(places + 1, "0")
    sign = "-" if units < 0 else ""
    return f"{sign}{digits[: len(digits) - places]}.{digits[len(digits) - places :]}".rstrip(".")


def _check_sums(sums: _Sums, decoded: Decoded, options: RoamingOptions) -> None:
    """Compare the amounts that the batch declares, when every event could be counted."""
    for name, path in _DECLARED.items():
        decoded.counted[name] = str(sums.by_name[name])
        declared = decoded.header.get(path)
        if declared is None:
            continue
        decoded.totals[name] = declared
        if sums.complete and name in options.checked_totals and int(declared) != sums.by_name[name]:
            decoded.problems.append(
                Problem(
                    "control_total_mismatch",
                    f"{path} declares {declared}, the events sum up to {sums.by_name[name]}",
                    Scope.FILE,
                )
            )
