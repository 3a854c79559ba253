"""An independent reconciliation of simple worlds, a line at a time, in fractions.

It knows one month, monthly fees billed for whole months, and usage at one flat rate; it finds the
causes from the rulebook's text (§10), not from the engine's statements.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from iotbill_pipelines.engine.money import round_half_up


@dataclass(frozen=True)
class Fee:
    """What we expect of a SIM and code: cents, and the quantity at the rate in cents a unit."""

    minor: int
    quantity: int
    rate_minor: Fraction
    is_usage: bool


@dataclass(frozen=True)
class Billed:
    """An invoice line: amount and price in cents."""

    sim: str
    code: str
    amount_minor: Fraction
    quantity: int | None = None
    price_minor: Fraction | None = None


def cents(value: Fraction) -> int:
    return int(round_half_up(value, 0))


def causes(
    lines: Sequence[Billed],
    expected: Mapping[tuple[str, str], Fee],
    contracted: set[str],
    active: set[str],
    rates: Mapping[str, Fraction],
) -> Counter[tuple[str, str, str]]:
    """Return cents by (SIM, code, cause); ``rates`` are those of usage codes."""
    found: Counter[tuple[str, str, str]] = Counter()
    seen: Counter[Billed] = Counter()
    compared: dict[tuple[str, str], list[Billed]] = defaultdict(list)
    for line in lines:
        identity = Billed(line.sim, line.code, line.amount_minor, line.quantity)
        seen[identity] += 1
        key = (line.sim, line.code)
        if line.amount_minor > 0 and seen[identity] > 1:
            found[*key, "duplicate"] += cents(line.amount_minor)
        elif line.sim not in contracted:
            found[*key, "unknown_sim"] += cents(line.amount_minor)
        elif key not in expected and line.sim not in active:
            found[*key, "billed_inactive"] += cents(line.amount_minor)
        else:
            compared[key].append(line)
    billed_sims = {sim for sim, _ in compared}
    for key in sorted(expected.keys() | compared.keys()):
        fee, good = expected.get(key), compared.get(key, [])
        for cause, minor in _compare(key, fee, good, key[0] in billed_sims, rates).items():
            found[*key, cause] += minor
    unrounded = sum((line.amount_minor for line in lines), Fraction(0))
    left = cents(unrounded) - sum(cents(line.amount_minor) for line in lines)
    found["", "(invoice rounding)", "rounding"] += left
    return Counter({key: minor for key, minor in found.items() if minor})


def _compare(  # noqa: PLR0911 - first match wins, as the rulebook says it
    key: tuple[str, str],
    fee: Fee | None,
    good: list[Billed],
    sim_is_billed: bool,
    rates: Mapping[str, Fraction],
) -> dict[str, int]:
    owed = fee.minor if fee else 0
    variance = sum(cents(line.amount_minor) for line in good) - owed
    is_usage = key[1] in rates
    if not good:
        return {"usage" if is_usage and sim_is_billed else "unbilled_sim": -owed}
    quantity = sum(line.quantity or 0 for line in good)
    usage = 0
    if is_usage:
        ours = cents((fee.quantity if fee else 0) * rates[key[1]])
        theirs = cents(quantity * rates[key[1]])
        usage = theirs - ours
    elif fee is None:
        return {"unexplained": variance}
    rest = variance - usage
    if rest == 0:
        return {"usage": usage}
    if fee is None and usage == 0:
        return {"unexplained": rest}
    prices = [line.price_minor for line in good]
    known = [price for price in prices if price is not None]
    if is_usage and len(known) == len(good):
        printed = cents(
            sum(
                ((line.quantity or 0) * (line.price_minor or 0) for line in good),
                Fraction(0),
            )
        )
        if abs(printed - variance - owed) <= len(good):
            rate = printed - cents(quantity * rates[key[1]])
            left = rest - rate
            name = "rounding" if abs(left) <= len(good) else "unexplained"
            return {"usage": usage, "rate": rate, name: left}
    if abs(rest) <= len(good):
        return {"usage": usage, "rounding": rest}
    own = rates[key[1]] if is_usage else fee.rate_minor if fee else None
    if len(known) == len(good) and all(price == own for price in known):
        return {"usage": usage, "unexplained": rest}
    return {"usage": usage, "rate": rest}
