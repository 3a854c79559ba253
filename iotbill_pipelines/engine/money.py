"""Rounding and apportioning: the only places where money loses or finds a minor unit.

Python values for small sets (journals, invoices, reports), SQL text for large ones. Both follow
RULEBOOK §0.1 (half-up, away from zero) and §0.2 (round the parent once, apportion to children by
largest remainder, ties to the smallest stable key).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction

RATE_SCALE = 12
"""Decimals that every rate keeps (RULEBOOK §0.1 asks for at least 10, LogiSense uses 11)."""

MINOR_DIGITS: Mapping[str, int] = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
"""ISO 4217 currencies whose minor unit is not a hundredth."""

LEDGER_DIGITS = 18
"""Digits of minor units that a column of 64 bits holds, whichever they are."""

_WIDE = Context(prec=60)
"""Holds any sum of minor units; the default context would round to 28 digits."""


def minor_digits(currency: str) -> int:
    """Return how many decimals the currency's minor unit has (ISO 4217)."""
    return MINOR_DIGITS.get(currency, 2)


def round_half_up(amount: Decimal | Fraction, digits: int) -> Decimal:
    """Round to ``digits`` decimals, halves away from zero, so that a reversal cancels exactly.

    RULEBOOK §0.1, RT-27. A Fraction is rounded exactly, without passing through a decimal.
    """
    if isinstance(amount, Fraction):
        scaled = abs(amount) * 10**digits
        units = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
        # from text: exact whatever the number of digits, where scaleb() would round to 28
        return Decimal(f"{units if amount >= 0 else -units}E-{digits}")
    with localcontext() as context:
        context.prec = 60
        return amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def round_money(amount: Decimal | Fraction, currency: str) -> Decimal:
    """Round to the currency's minor unit (RULEBOOK §0.1)."""
    return round_half_up(amount, minor_digits(currency))


def of_minor(minor: int, currency: str) -> Decimal:
    """Return an amount of minor units in the currency's own unit, exactly; undoes `to_minor`."""
    return Decimal(minor).scaleb(-minor_digits(currency), _WIDE)


def to_minor(amount: Decimal, currency: str) -> int:
    """Return the amount in minor units.

    Raises ValueError if it holds a fraction of one, is infinite or no number, or too large to book.
    """
    digits = minor_digits(currency)
    if not amount.is_finite() or amount.adjusted() + digits >= LEDGER_DIGITS:
        raise ValueError(f"{amount} is no amount of {currency} that a ledger holds")
    minor = amount.scaleb(digits, _WIDE)
    if minor != minor.to_integral_value():
        raise ValueError(f"{amount} {currency} is not a whole number of minor units")
    return int(minor)


def apportion(
    total_minor: int, weights: Sequence[int | Fraction | Decimal], keys: Sequence[object]
) -> list[int]:
    """Split ``total_minor`` over children in proportion to ``weights``; the parts add up to it.

    RULEBOOK §0.2: each child gets the floor of its exact part, the minor units left go to the
    largest fractional parts, ties to the smallest key. A negative total is apportioned by its
    absolute value and negated. All-zero weights split equally. An empty list of children takes
    a zero total only.

    Raises ValueError for negative weights, or a non-zero total without children.
    """
    if len(weights) != len(keys):
        raise ValueError("weights and keys differ in length")
    if not weights:
        if total_minor:
            raise ValueError(f"nobody to carry {total_minor} minor units")
        return []
    exact = [Fraction(weight) for weight in weights]
    if any(weight < 0 for weight in exact):
        raise ValueError("weights must not be negative")
    if not any(exact):
        exact = [Fraction(1)] * len(exact)
    sign = -1 if total_minor < 0 else 1
    size, whole = abs(total_minor), sum(exact)
    parts = [size * weight / whole for weight in exact]
    result = [part.numerator // part.denominator for part in parts]
    by_claim = sorted(
        range(len(parts)),
        key=lambda child: (result[child] - parts[child], keys[child]),
    )
    for child in by_claim[: size - sum(result)]:
        result[child] += 1
    return [sign * part for part in result]


def apportion_signed(
    total_minor: int, shares: Sequence[int | Fraction | Decimal], keys: Sequence[object]
) -> list[int]:
    """Split a total over children whose exact shares have both signs; the parts add up to it.

    For sets with credits in them, where :func:`apportion` has no weights to use. The shares of the
    sign that weighs more are rounded and apportioned among themselves, the others take the
    difference to the total, apportioned likewise; so negating every share and the total negates
    every part (RULEBOOK §§0.1, 0.2).

    ``total_minor`` is the rounded sum of ``shares``, or a minor unit or so from it. Raises
    ValueError for a non-zero total without children.
    """
    exact = [Fraction(share) for share in shares]
    if len(exact) != len(keys):
        raise ValueError("shares and keys differ in length")
    sign = -1 if (sum(exact, Fraction(0)) or total_minor) < 0 else 1
    main = [child for child, share in enumerate(exact) if share * sign >= 0]
    rest = [child for child, share in enumerate(exact) if share * sign < 0]
    main_total = total_minor * sign
    if rest:
        main_exact = sum((abs(exact[child]) for child in main), Fraction(0))
        main_total = max(main_total, int(round_half_up(main_exact, 0)))
    result = [0] * len(exact)
    for side, amount, side_sign in (
        (main, main_total, sign),
        (rest, main_total - total_minor * sign, -sign),
    ):
        parts = apportion(amount, [abs(exact[c]) for c in side], [keys[c] for c in side])
        for child, part in zip(side, parts, strict=True):
            result[child] = side_sign * part
    return result


def apportion_sql(
    children: str, parent_key: Sequence[str], total: str, weight: str, tie_key: str
) -> str:
    """Return SQL that adds ``part_minor`` to relation ``children``; the set-wise :func:`apportion`.

    ``total`` (bigint, the parent's minor units, repeated on each child), ``weight`` (integer, up
    to 31 digits) and ``tie_key`` name columns of ``children``. Integer arithmetic only, so every
    engine gives the same parts; a total is multiplied with a weight six digits at a time, so that
    the product of two great numbers fits 38 digits. Where credits stand among charges, weights
    have both signs: floors are those of the side that weighs more. An only child, as nearly all
    are, takes everything without being compared.
    """
    keys = ", ".join(parent_key)
    return f"""
with counted as (
  select *, count(*) over (partition by {keys}) as children_, sum(wide({weight})) over (
    partition by {keys}) as given_
  from {children}
), weighed as (
  select *, case when given_ = 0 then wide(1) else wide({weight}) end as weight_
  from counted
  where children_ > 1
), summed as (
  select *, case when given_ = 0 then wide(children_) else given_ end as sum_,
    wide(abs({total})) as size_
  from weighed
), shared as (
  select *, case when sum_ < 0 then -weight_ else weight_ end as share_, abs(sum_) as weights_,
    floor_div(size_, 1000000) as high_
  from summed
), divided as (
  select *, floor_div(high_ * share_, weights_) as high_part_,
    (high_ * share_ - floor_div(high_ * share_, weights_) * weights_) * 1000000
      + (size_ - high_ * 1000000) * share_ as low_
  from shared
), floored as (
  select *, high_part_ * 1000000 + floor_div(low_, weights_) as floor_,
    low_ - floor_div(low_, weights_) * weights_ as remainder_
  from divided
), ranked as (
  select *, row_number() over (
      partition by {keys} order by remainder_ desc nulls last, {tie_key} asc nulls last) as claim_,
    size_ - sum(floor_) over (partition by {keys}) as left_
  from floored
)
select * , cast((case when {total} < 0 then -1 else 1 end)
    * (floor_ + case when claim_ <= left_ then 1 else 0 end) as bigint) as part_minor
from ranked
union all
select *, wide(1), wide(1), wide(0), wide(1), wide(1), wide(0), wide(0), wide(0), wide(0), wide(0),
  1, wide(0), cast({total} as bigint)
from counted
where children_ = 1
""".strip()
