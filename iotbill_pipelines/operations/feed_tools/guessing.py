"""What a column of a sample holds: times, identifiers, quantities, classes, by name and by value.

Values weigh more than names: an ``iccid`` column of which half fail the check digit is said to be
one, with that doubt. Nothing here decides anything about money; a person reads the result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property

from stdnum import luhn

TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y%m%d%H%M%S", "%Y%m%d-%H%M%S", "%Y%m%d %H%M%S",
    "%Y%m%dT%H%M%S", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%Y/%m/%d %H:%M:%S",
    "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%d-%b-%Y %H:%M:%S", "%d %b %Y %H:%M:%S",
    "%Y%m%d%H%M", "%Y-%m-%d", "%Y%m%d%H%M%S.%f", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y",
    "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d-%b-%Y",
    "%d.%m.%y %H:%M:%S", "%d/%m/%y %H:%M:%S", "%m/%d/%y %H:%M:%S", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%d-%b-%y",
)  # fmt: skip
"""Formats that are tried, more telling ones first; the reader knows the same codes."""

_ISO = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
    r" ?(Z|z|UTC|[+-][01][0-9]:?[0-5][0-9]|[+-][01][0-9])?"
)
_FIRST, _LAST = datetime(1995, 1, 1, tzinfo=UTC), datetime(2045, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Times:
    """How a column writes its times; ``offset``: every value says its own."""

    format: str
    share: float
    offset: bool
    ambiguous_day: bool
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Column:
    """A source field with the values of the sample, empty ones left out."""

    name: str
    values: tuple[str, ...]
    rows: int
    named: bool
    position: int
    comma: bool = False

    @property
    def words(self) -> str:
        """The name as words: ``startTimestamp`` is ``start timestamp``."""
        if not self.named:
            return ""
        units = re.sub(r"[KMG]iB", lambda unit: unit[0].lower(), self.name)
        split = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", units)
        return " ".join(re.findall(r"[a-z0-9]+", split.lower()))

    @property
    def indexed(self) -> bool:
        """Does it stand inside an array?"""
        return re.search(r"\[[0-9]+\]", self.name) is not None

    @property
    def filled(self) -> float:
        return len(self.values) / self.rows if self.rows else 0.0

    @cached_property
    def distinct(self) -> int:
        return len(set(self.values))

    def says(self, pattern: str) -> bool:
        """Does the name hold a word that matches? Words may be part of longer ones only if
        the pattern says so."""
        return re.search(rf"(?:^| )(?:{pattern})(?:$| )", self.words) is not None

    def share(self, test: Callable[[str], bool]) -> float:
        """Return how many of the values pass, as a share; 0 for a column without values."""
        if not self.values:
            return 0.0
        return sum(n for value, n in self._counts.items() if test(value)) / len(self.values)

    @cached_property
    def _counts(self) -> Counter[str]:
        """Values repeat: each is tested once."""
        return Counter(self.values)

    @cached_property
    def numeric(self) -> float:
        return self.share(lambda text: number(text, comma=self.comma) is not None)

    @cached_property
    def times(self) -> Times | None:
        return _times(self)

    def numbers(self) -> list[Decimal]:
        return [n for v in self.values if (n := number(v, comma=self.comma)) is not None]


def number(text: str, *, comma: bool = False) -> Decimal | None:
    """Read a number as feeds do: digits, a point, a sign, an exponent; no thousands."""
    text = text.strip()
    if comma and re.fullmatch(r"[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]+)(,[0-9]*)?", text):
        text = text.replace(".", "").replace(",", ".")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,2})?", text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


# ---------------------------------------------------------------- times


def _times(column: Column) -> Times | None:
    if not column.values:
        return None
    sample = [value.strip() for value in column.values[:500]]
    iso = [value for value in sample if _ISO.fullmatch(value)]
    if len(iso) >= len(sample) / 2:
        moments = [moment for value in iso if (moment := _iso(value)) is not None]
        told = all(re.search(r"(Z|z|UTC|[+-][0-9:]{2,6})$", value[16:]) for value in iso)
        if moments:
            share = len(moments) / len(sample)
            return Times("iso", share, told, False, min(moments), max(moments))
    for name, digits, size in (("epoch_ms", 13, 1000), ("epoch_s", 10, 1)):
        shape = re.compile(rf"[0-9]{{{digits}}}(\.[0-9]+)?")
        found = [value for value in sample if shape.fullmatch(value)]
        moments = [datetime.fromtimestamp(int(v[:digits]) / size, UTC) for v in found]
        inside = [moment for moment in moments if _FIRST < moment < _LAST]
        spread = (max(inside) - min(inside)) < timedelta(days=4000) if inside else False
        telling = not column.named or column.says(
            ".*(time|date|stamp|start|stop|end|at|epoch|connect|origination).*|ts|t|when"
        )
        if inside and len(inside) == len(sample) and spread and telling:
            return Times(name, 1.0, True, False, min(inside), max(inside))
    return _written(sample)


def _iso(value: str) -> datetime | None:
    text = re.sub(r"(UTC|[Zz])$", "+00:00", value.replace("T", " ", 1)).replace(" +", "+")
    text = re.sub(r"\.([0-9]{1,6})[0-9]*", lambda m: "." + m[1].ljust(6, "0"), text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _written(sample: Sequence[str]) -> Times | None:
    best: tuple[float, str, list[datetime]] | None = None
    fitting: list[str] = []
    # a value can only be written so if it has the marks of the format, and digits
    marked = [(value, set(value), sum(map(str.isdigit, value)) > 2) for value in sample]
    for form in TIME_FORMATS:
        moments = []
        marks = set(re.sub(r"%[A-Za-z]", "", form)) - {" "}
        for value, characters, digits in marked:
            if not digits or not marks <= characters:
                continue
            try:
                moment = datetime.strptime(value, form).replace(tzinfo=UTC)
            except ValueError:
                continue
            # strptime takes single digits, too: 20071101 is no %Y%m%d%H%M%S
            if _FIRST < moment < _LAST and len(value) >= len(form.replace("%Y", "%Yxx")) - 4:
                moments.append(moment)
        share = len(moments) / len(sample)
        if share == 1:
            fitting.append(form)
        if share > 0.5 and (best is None or share > best[0]):
            best = (share, form, moments)
    if best is None:
        return None
    share, form, moments = best
    swapped = form.replace("%d", "?").replace("%m", "%d").replace("?", "%m")
    ambiguous = swapped != form and swapped in fitting and "%Y%m%d" not in form
    return Times(form, share, False, ambiguous, min(moments), max(moments))


def moments(column: Column, times: Times) -> list[datetime | None]:
    """Read the column's values as instants, None where one is not written that way."""
    read: list[datetime | None] = []
    for value in map(str.strip, column.values):
        if times.format == "iso":
            read.append(_iso(value))
        elif times.format.startswith("epoch"):
            size = 1000 if times.format == "epoch_ms" else 1
            known = re.match(r"[0-9]+", value)
            read.append(datetime.fromtimestamp(int(known[0]) / size, UTC) if known else None)
        else:
            try:
                read.append(datetime.strptime(value, times.format).replace(tzinfo=UTC))
            except ValueError:
                read.append(None)
    return read


_CLOCKS = (
    (r"[0-2]?[0-9]:[0-5][0-9]:[0-5][0-9]", "%H:%M:%S"),
    (r"[0-2]?[0-9]:[0-5][0-9]", "%H:%M"),
    (r"[01]?[0-9]:[0-5][0-9]:[0-5][0-9] [AaPp][Mm]", "%I:%M:%S %p"),
    (r"[01]?[0-9]:[0-5][0-9] [AaPp][Mm]", "%I:%M %p"),
    (r"[0-2][0-9][0-5][0-9][0-5][0-9]", "%H%M%S"),
)


def clock(column: Column) -> str | None:
    """Return how a column writes the time of a day, None if it holds none."""
    for pattern, form in _CLOCKS:
        if column.share(lambda v, p=pattern: re.fullmatch(p, v.strip()) is not None) == 1:  # type: ignore[misc]
            if form == "%H%M%S" and not column.says(".*(time|clock|zeit|heure|hora|ora).*"):
                continue
            if not column.says(r".*(duration|length|dauer|end|stop|talk).*|dur"):
                return form
    return None


UNITS = {
    "b": "B", "byte": "B", "bytes": "B", "octets": "B", "kb": "KB", "mb": "MB", "gb": "GB",
    "kib": "KiB", "mib": "MiB", "gib": "GiB", "s": "second", "sec": "second", "secs": "second",
    "second": "second", "seconds": "second", "m": "minute", "min": "minute", "mins": "minute",
    "minute": "minute", "minutes": "minute", "h": "hour", "hour": "hour", "hours": "hour",
    "sms": "count", "msg": "count", "message": "count", "messages": "count", "mms": "count",
}  # fmt: skip
"""Words of carriers for units, in small letters, and the unit that each means."""


def unit_class(unit: str) -> str:
    """The usage class that is counted in a unit."""
    return {"second": "voice", "minute": "voice", "hour": "voice", "count": "sms"}.get(unit, "data")


# ---------------------------------------------------------------- identifiers


@dataclass(frozen=True)
class Identifier:
    """What a column identifies, the steps that make it canonical, and how sure that is."""

    kind: str
    steps: tuple[str, ...]
    confidence: str
    why: str


def _digits(text: str) -> str:
    return re.sub(r"[\s-]", "", text)


def is_iccid(text: str) -> bool:
    return re.fullmatch(r"89[0-9]{17,18}[Ff]?", _digits(text)) is not None


def iccid_checks(text: str) -> bool:
    """Does an ICCID of 20 digits end in its check digit? Shorter ones have none to check."""
    bare = _digits(text).rstrip("Ff")
    return len(bare) != 20 or luhn.is_valid(bare)


def is_phone(text: str) -> bool:
    bare = re.sub(r"\(0\)|[\s().\-/]", "", text)
    return re.fullmatch(r"(\+|00)?[1-9][0-9]{6,14}|[0-9]{3,6}", bare) is not None


def identifier(column: Column) -> Identifier | None:  # noqa: PLR0911 - one answer per kind
    """Say what a column identifies, None if nothing that is known."""
    iccid = column.share(is_iccid)
    if iccid > 0.5:
        checked = column.share(iccid_checks)
        if checked < 0.9:
            return Identifier("iccid", ("trim", "{iccid: {luhn: none}}"), "unsure",
                              f"{1 - checked:.0%} of them fail the check digit, which is therefore "
                              "not verified; ask the carrier")  # fmt: skip
        return Identifier("iccid", ("trim", "iccid"), "sure",
                          "19 or 20 digits from 89 on, check digits right")  # fmt: skip
    if column.share(lambda t: re.fullmatch(r"89[0-9]{30}", _digits(t)) is not None) > 0.9:
        return Identifier("eid", ("trim", "eid"), "sure", "32 digits from 89 on")
    fifteen = column.share(lambda t: re.fullmatch(r"[0-9]{15}", t.strip()) is not None)
    if fifteen > 0.9 and (column.says("imsi.*|.*imsi") or not column.says("imei.*|.*msisdn")):
        right = column.share(lambda t: luhn.is_valid(t.strip()))
        if column.says("imsi.*|.*imsi"):
            return Identifier("imsi", ("trim", "imsi"), "sure", "named so, 15 digits")
        if right == 1 and column.distinct > 3:
            return Identifier("imei", ("trim", "imei"), "likely", "15 digits, check digits right")
        if column.share(lambda t: t.strip()[0] in "234567" or t.startswith("901")) > 0.9:
            return Identifier("imsi", ("trim", "imsi"), "likely" if not column.named else "unsure",
                              "15 digits that begin like a network")  # fmt: skip
    if column.says("imei.*|.*imei"):
        return Identifier("imei", ("trim",), "likely", "named so")
    euis = column.share(lambda t: re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:-]?){7}[0-9A-Fa-f]{2}",
                                               t.strip()) is not None)  # fmt: skip
    if euis > 0.9 and (column.says(".*eui.*") or column.share(str.isdigit) < 0.5):
        likely = "sure" if column.says(".*(dev|device) ?eui") else "unsure"
        return Identifier("deveui", ("trim", "eui64"), likely, "16 hexadecimal digits")
    phones = column.share(is_phone)
    long = column.share(lambda t: len(_digits(t)) >= 7)
    plus = column.share(lambda t: re.match(r"\s*(\+|00)[1-9]", t) is not None)
    if column.says(r"\w*msisdn|\w*phone|mobile|rufnummer|\w*telefon\w*"):
        steps = ("trim", "e164") if phones > 0.9 else ("trim",)
        return Identifier("msisdn", steps, "sure" if phones > 0.9 else "unsure",
                          f"named so; {phones:.0%} are numbers with country code")  # fmt: skip
    if (phones > 0.9 and plus > 0.2) or (
        column.says(r"\w*number|caller|called|calling|callee|src|dst|source|destination|did|peer|party")
        and phones > 0.5
        and not column.times
        and not column.says("packets?|octets?|bytes?|group|lost|video")
    ):  # fmt: skip
        steps = ("trim", "e164") if phones > 0.9 else ("trim",)
        return Identifier("msisdn", steps, "likely", f"{phones:.0%} could be phone numbers")
    if not column.named and phones == 1 and long == 1 and not column.times:
        return Identifier("msisdn", ("trim", "e164"), "unsure", "could be phone numbers")
    return None


_DEVICE = (
    "sim|sim sid|device|device name|dev ?id|meter.*|endpoint.*|subscriber.*|account.*|user.*|"
    "customer.*|line|station|terminal|extension|src|source|directory num|asset.*|.*sid|node.*|"
    "home tadig|.*tadig"
)


def names_a_device(column: Column) -> bool:
    """Is the column named after what uses the service?"""
    return column.says(_DEVICE)


CLASSES = (
    ("data", r"data|gprs|gtp|pdp|internet|packet|ip|lte|epc"),
    ("sms", r"sms|text|message|mms|short message"),
    ("voice", r"voice|call|moc|mtc|tel|speech|invite|volte|answered"),
    ("uplink", r"uplink|up"),
)


def usage_class(text: str) -> str | None:
    """Translate a carrier's word for a service, None if it says none."""
    words = " ".join(re.findall(r"[a-z]+", text.lower()))
    direct = {"smsmo": "sms", "smsmt": "sms"}.get(words.replace(" ", ""))
    found = [name for name, pattern in CLASSES if re.search(rf"\b(?:{pattern})\b", words)]
    return direct or (found[0] if len(found) == 1 else None)
