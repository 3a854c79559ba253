"""Random invoices: against an oracle where it knows the rules, against the sums everywhere."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest

from iotbill_pipelines.engine.reconcile import CAUSES, VendorTerms
from tests.depth import seeds

from .market import Market, Outcome, iccid
from .oracle import Billed, Fee, causes, cents

DATA_RATE = Decimal("0.0213")
FEE = Decimal("1.37")


def as_counter(result: Outcome, sims: list[str]) -> Counter[tuple[str, str, str]]:
    names = {iccid(sim): sim for sim in sims}
    return Counter(
        {
            (names.get(c["uid_value"] or "", ""), c["charge_code"], c["cause"]): c["amount_minor"]
            for c in result.causes
        }
    )


@pytest.mark.parametrize("seed", seeds(0, 2))
def test_causes_agree_with_an_independent_reconciliation(seed: int) -> None:
    random = Random(seed)
    market = Market(terms=[VendorTerms("carrier", "EUR", tolerance_minor=1, limit_minor=50)])
    market.charge("MRC", "recurring", str(FEE))
    market.charge("DATA", "usage", str(DATA_RATE))
    sims = [f"S{number}" for number in range(40)]
    expected: dict[tuple[str, str], Fee] = {}
    contracted: set[str] = set()
    active: set[str] = set()
    billed: list[Billed] = []

    def bill(sim: str, code: str, amount: Decimal, quantity: int | None, price: Decimal | None):
        market.bill(
            sim, code, str(amount), quantity=quantity, price=None if price is None else str(price)
        )
        billed.append(
            Billed(
                sim,
                code,
                Fraction(amount) * 100,
                quantity,
                None if price is None else Fraction(price) * 100,
            )
        )

    for sim in sims:
        story = random.choice(["unknown", "cancelled", *["live"] * 8])
        if story == "unknown":
            pass
        elif story == "cancelled":
            market.sim(sim, states=[("2025-01-01", "active"), ("2026-02-02", "cancelled")])
            contracted.add(sim)
        else:
            market.sim(sim)
            contracted.add(sim)
            active.add(sim)
            market.expect(sim, "MRC", int(FEE * 100))
            expected[sim, "MRC"] = Fee(int(FEE * 100), 31, Fraction(FEE) * 100, False)
            used = random.randrange(1, 900)
            minor = cents(Fraction(DATA_RATE) * 100 * used)
            if random.random() < 0.9 and minor:
                market.expect(sim, "DATA", minor, quantity=used, kind="usage")
                expected[sim, "DATA"] = Fee(minor, used, Fraction(DATA_RATE) * 100, True)
        for _ in range(random.choice([0, 1, 1, 1, 1, 2])):
            fee = random.choice([FEE, FEE, FEE, FEE + Decimal("0.004"), FEE * 2])
            bill(sim, "MRC", fee, None, random.choice([None, FEE]))
        fee_of_sim = expected.get((sim, "DATA"))
        for _ in range(random.choice([0, 1, 1, 1, 2])):
            quantity = fee_of_sim.quantity if fee_of_sim else random.randrange(1, 50)
            quantity += random.choice([0, 0, 0, 17, -quantity // 2])
            price = random.choice([DATA_RATE, DATA_RATE, Decimal("0.0300")])
            amount = price * quantity + random.choice([0, 0, 0, Decimal("0.003"), 2])
            if amount > 0:
                bill(sim, "DATA", amount, quantity, random.choice([price, None]))
    result = market.reconcile()
    result.check_sums()
    rates = {"DATA": Fraction(DATA_RATE) * 100}
    assert as_counter(result, sims) == causes(billed, expected, contracted, active, rates)


@pytest.mark.parametrize("seed", seeds(0, 2))
def test_causes_add_up_whatever_the_invoice_says(seed: int) -> None:
    random = Random(1000 + seed)
    market = Market(
        terms=[
            VendorTerms(
                "carrier",
                "EUR",
                tolerance_minor=random.choice([0, 1, 5]),
                tolerance_ppm=random.choice([0, 10_000]),
                limit_minor=random.choice([0, 100]),
                tax_codes=("VAT",),
            )
        ]
    )
    market.charge("MRC", "recurring", "2.3999", basis=random.choice(["actual", "actual_30"]))
    market.charge("DATA", "usage", "0.000731", unit_size=1024)
    market.charge("ZONED", "usage", None)
    market.charge("NRC", "transition", "5.00")
    codes = ["MRC", "DATA", "ZONED", "NRC", "VAT", "WHO"]
    for number in range(60):
        sim = f"S{number}"
        if random.random() < 0.9:
            market.sim(sim, states=[(random.choice(["2025-05-05", "2026-03-09"]), "active")])
            for code in codes[:4]:
                if random.random() < 0.6:
                    kind = {"MRC": "recurring", "NRC": "transition"}.get(code, "usage")
                    market.expect(
                        sim,
                        code,
                        random.randrange(-5, 5000),
                        quantity=random.randrange(0, 31 if code == "MRC" else 10**7),
                        kind=kind,
                        period=random.choice(["2026-03", "2026-03", "2026-04"]),
                    )
        for _ in range(random.randrange(4)):
            start, end = random.choice(
                [
                    (None, None),
                    ("2026-03-01", "2026-04-01"),
                    ("2026-03-07", "2026-03-20"),
                    ("2026-04-01", None),
                    ("2025-12-01", "2026-01-01"),
                ]
            )
            market.bill(
                random.choice([sim, sim, sim, None]),
                random.choice(codes),
                str(Decimal(random.randrange(-9999, 99999)).scaleb(-random.choice([0, 2, 4, 7]))),
                quantity=random.choice([None, 0, 1, random.randrange(10**8)]),
                price=random.choice([None, "0.000731", "2.3999", "9.99"]),
                start=start,
                end=end,
                invoice=random.choice(["A", "A", "B"]),
                currency=random.choice(["EUR", "EUR", "EUR", "JPY"]),
                tax=random.choice([None, None, "0.005"]),
            )
    result = market.reconcile()
    result.check_sums()
    assert {cause["cause"] for cause in result.causes} <= set(CAUSES)
    invoiced: Counter[tuple[str, str]] = Counter()
    for line in market.rows["vendor_invoice_line"]:
        scale = 1 if line["currency"] == "JPY" else 100
        invoiced[line["invoice_no"], line["currency"]] += Fraction(line["amount"]) * scale
    stated = {
        currency: sum(t["invoiced_minor"] for t in result.totals if t["currency"] == currency)
        for currency in ("EUR", "JPY")
    }
    for currency, total in stated.items():
        assert total == sum(cents(v) for (_, c), v in invoiced.items() if c == currency)
    expected = sum(row["amount_minor"] for row in market.rows["desired_charge"])
    assert sum(t["expected_minor"] for t in result.totals) == expected


def test_the_order_of_the_lines_changes_nothing() -> None:
    random = Random(7)
    market = Market()
    market.charge("MRC", "recurring", "2.40")
    for number in range(30):
        market.sim(f"S{number}")
        market.expect(f"S{number}", "MRC", 2_40)
        for _ in range(random.randrange(3)):
            market.bill(f"S{number}", "MRC", random.choice(["2.40", "2.40", "2.4049"]))
    before = market.reconcile()
    for rows in market.rows.values():
        random.shuffle(rows)
    after = market.reconcile()
    for name in ("lines", "causes", "totals", "disputes"):
        assert sorted(map(str, getattr(before, name))) == sorted(map(str, getattr(after, name)))
