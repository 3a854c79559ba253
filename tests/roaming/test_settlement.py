"""Bilateral roaming settlements: the public cases, and laws of agreements of every kind."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.roaming import read_agreement, read_usage
from iotbill_pipelines.engine.roaming import (
    Agreement,
    AgreementError,
    AgreementPart,
    Commitment,
    Direction,
    Rate,
    ServiceGroup,
    ServicePrice,
    Settlement,
    Tier,
    UsageLine,
    compare,
    settle,
)
from iotbill_pipelines.operations.roaming import settle_files, write_exchange

PUBLIC = Path(__file__).parents[3] / "shared" / "feeds" / "settlement"
public = pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public roaming cases are not here")


def _assert_close(ours: Any, published: Any, at: str = "") -> None:
    """Same keys, rows in any order, numbers as binary fractions allow."""
    if isinstance(published, dict):
        assert set(ours) == set(published), at
        for key, value in published.items():
            _assert_close(ours[key], value, f"{at}.{key}")
    elif isinstance(published, list):
        assert len(ours) == len(published), at
        for mine, theirs in zip(sorted(ours, key=_row), sorted(published, key=_row), strict=True):
            _assert_close(mine, theirs, f"{at}[{_row(theirs)}]")
    elif isinstance(published, int | float):
        assert ours == pytest.approx(published, rel=1e-12, abs=1e-9), at
    else:
        assert ours == published, at


def _row(row: Any) -> tuple[str, ...]:
    return tuple(str(row.get(k)) for k in ("name", "HTMN", "VPMN", "yearMonth", "service"))


@public
@pytest.mark.parametrize("case", ["bwrp_initial", "bwrp_kong"])
def test_a_public_bilateral_case_comes_out_as_published(case: str, tmp_path: Path) -> None:
    folder = PUBLIC / case
    report = settle_files(
        folder / "0003_JSON_DTAG_contract_body_to_create.json",
        folder / "0003_JSON_DTAG_usage_body_to_create.json",
        folder / "0003_JSON_TMUS_usage_body_to_create.json",
    )

    write_exchange(report, tmp_path)

    for written, published in (
        ("settlement_own", "DTAG_local_usage_settlement_generatedResult"),
        ("settlement_partner", "TMUS_local_usage_settlement_generatedResult"),
        ("usage_discrepancy", "DTAG_local_usage_discrepancy_body"),
        ("settlement_discrepancy", "DTAG_local_settlement_discrepancy_body"),
    ):
        expected = json.loads((folder / f"0003_EXPECTED_JSON_{published}.json").read_text())
        _assert_close(json.loads((tmp_path / f"{written}.json").read_text()), expected)


@public
@pytest.mark.parametrize(
    ("number", "unmet"),
    [(1, "shortfall"), (2, "no_deal"), (3, "no_deal"), (4, "shortfall")],
)
def test_a_public_calculation_request_comes_out_as_published(number: int, unmet: Any) -> None:
    request = PUBLIC / "bwrp_calc" / f"example{number}_request.json"
    settlement = settle(read_agreement(request), read_usage(request), unmet=unmet)
    off = {result.party for result in settlement.commitments if not result.deal}
    response = json.loads(request.with_name(f"example{number}_response.json").read_text())

    ours = {
        (s.service.casefold(), s.homes, s.visitors): s.deal_value
        for s in settlement.services
        if s.party not in off
    }

    assert len(ours) == len(response["intermediateResults"])
    for row in response["intermediateResults"]:
        name = row["service"].replace("SMS MO", "SMSMO").casefold()
        value = ours[name, tuple(row["homeTadigs"]), tuple(row["visitorTadigs"])]
        assert float(value) == pytest.approx(float(row["dealValue"]), rel=1e-12)


# ---------------------------------------------------------------------------------- our own cases


def _line(
    direction: Direction, service: str, quantity: str, unit: str = "min", **more: Any
) -> UsageLine:
    home, visitor = ("NLDA1", "DEUB2") if direction == "inbound" else ("DEUB2", "NLDA1")
    month = more.pop("month", "202610")
    return UsageLine(direction, month, home, visitor, service, Decimal(quantity), unit, **more)


def _agreement(
    *services: ServicePrice, commitment: Commitment | None = None, currency: str = "EUR"
) -> Agreement:
    group = ServiceGroup(("NLDA1",), ("DEUB2",), services)
    back = ServiceGroup(
        ("DEUB2",), ("NLDA1",), tuple(ServicePrice(s.service, _flat("1")) for s in services)
    )
    return Agreement(
        "test",
        (
            AgreementPart("A", (group,), currency, commitment),
            AgreementPart("B", (back,), currency),
        ),
    )


def _flat(price: str) -> Rate:
    return Rate((Tier(Decimal(0), Decimal(price)),))


def _of(settlement: Settlement, service: str, party: str = "A") -> Any:
    (found,) = [s for s in settlement.services if (s.service, s.party) == (service, party)]
    return found


@pytest.mark.parametrize(
    ("quantity", "graduated", "whole"),
    [("0", "0", "0"), ("99", "99", "99"), ("100", "100", "57"), ("150", "132", "82")],
)
def test_tiers_price_what_lies_in_them_or_everything(
    quantity: str, graduated: str, whole: str
) -> None:
    tiers = (Tier(Decimal(0), Decimal(1)), Tier(Decimal(100), Decimal("0.5"), Decimal(7)))

    assert Rate(tiers).value(Fraction(quantity)) == Decimal(graduated)
    assert Rate(tiers, whole=True).value(Fraction(quantity)) == Decimal(whole)


def test_what_flows_back_is_balanced_and_the_rest_is_not() -> None:
    price = ServicePrice("VoLTE", balanced=_flat("2"), unbalanced=_flat("5"))
    lines = [_line("inbound", "VoLTE", "100", "MB"), _line("outbound", "VoLTE", "40", "MB")]

    settlement = settle(_agreement(price), lines)

    assert _of(settlement, "VoLTE").deal_value == 40 * 2 + 60 * 5
    assert settlement.total("inbound") == {"EUR": Decimal(380)}
    assert settlement.total("outbound") == {"EUR": Decimal(40)}


def test_a_missed_commitment_is_owed_and_shared_by_the_services_that_count() -> None:
    services = (
        ServicePrice("MOC Local", _flat("0.1"), in_commitment=True),
        ServicePrice("SMSMO", _flat("0.01"), in_commitment=True),
        ServicePrice("GPRS", _flat("1")),
        ServicePrice("MTC", in_commitment=True),
    )
    agreement = _agreement(*services, commitment=Commitment("deal", Decimal(1000)))
    lines = [_line("inbound", "MOC Local", "1000"), _line("inbound", "GPRS", "5000", "MB")]

    settlement = settle(agreement, lines)

    (result,) = settlement.commitments
    assert (result.reached, result.owed, result.deal) == (100, 900, True)
    assert [s.shortfall for s in settlement.services if s.party == "A"] == [450, 450, 0, 0]


def test_without_a_deal_what_was_charged_stands() -> None:
    agreement = _agreement(
        ServicePrice("MOC Local", _flat("0.1"), in_commitment=True),
        commitment=Commitment("deal", Decimal(1000)),
    )
    lines = [_line("inbound", "MOC Local", "1000", charges=Decimal("150.5"))]

    settlement = settle(agreement, lines, unmet="no_deal")

    assert _of(settlement, "MOC Local").deal_value == Decimal("150.5")
    assert not settlement.commitments[0].deal
    assert _of(settlement, "MOC Local").to_credit == 0


def test_a_contract_commitment_counts_charges_and_taxes_if_it_says_so() -> None:
    lines = [_line("inbound", "MOC Local", "10", charges=Decimal(90), taxes=Decimal(10))]

    def owed(*, taxes: bool) -> Decimal:
        commitment = Commitment("contract", Decimal(100), including_taxes=taxes)
        agreement = _agreement(ServicePrice("MOC Local", _flat("1")), commitment=commitment)
        return settle(agreement, lines).commitments[0].owed

    assert (owed(taxes=True), owed(taxes=False)) == (0, 10)


def test_amounts_are_rounded_once_and_apportioned() -> None:
    services = tuple(ServicePrice(name, _flat("0.333")) for name in ("MOC EU", "MOC EEA", "MTC"))
    lines = [_line("inbound", name, "1") for name in ("MOC EU", "MOC EEA", "MTC")]

    settlement = settle(_agreement(*services), lines)

    assert settlement.total("inbound") == {"EUR": Decimal("1.00")}
    assert sorted(s.amount for s in settlement.services if s.party == "A") == [
        Decimal("0.33"),
        Decimal("0.33"),
        Decimal("0.34"),
    ]


def test_yen_have_no_cents_and_charges_in_euro_are_converted_at_a_given_rate() -> None:
    agreement = _agreement(ServicePrice("SMSMO", _flat("0.4")), currency="JPY")
    lines = [_line("inbound", "SMS MO", "111", "SMS", charges=Decimal("0.50"), currency="EUR")]

    plain = _of(settle(agreement, lines), "SMSMO")
    converted = _of(settle(agreement, lines, rates={("EUR", "JPY"): Decimal(160)}), "SMSMO")

    assert (plain.amount, plain.charged_currency, plain.to_credit) == (44, "EUR", None)
    assert (converted.charged, converted.to_credit) == (80, 36)


def test_units_are_converted_exactly_and_foreign_ones_refused() -> None:
    agreement = _agreement(ServicePrice("GPRS", _flat("1"), unit="MB"))

    settlement = settle(agreement, [_line("inbound", "GPRS", "2", "GB")])

    assert _of(settlement, "GPRS").deal_value == 2000
    with pytest.raises(AgreementError, match="'min' cannot be priced per 'MB'"):
        settle(agreement, [_line("inbound", "GPRS", "2", "min")])


def test_a_service_priced_twice_is_refused_and_unpriced_usage_is_told() -> None:
    twice = _agreement(ServicePrice("SMSMO", _flat("1")), ServicePrice("SMS MO", _flat("2")))
    with pytest.raises(AgreementError, match="priced twice"):
        settle(twice, [])

    settlement = settle(
        _agreement(ServicePrice("SMSMO", _flat("1"))), [_line("inbound", "MTC", "7")]
    )

    assert [line.service for line in settlement.unpriced] == ["MTC"]


def test_usage_that_only_one_side_has_is_a_discrepancy() -> None:
    agreement = _agreement(ServicePrice("MTC", _flat("1")), ServicePrice("SMSMO", _flat("1")))
    own = settle(agreement, [_line("inbound", "MTC", "5"), _line("inbound", "MTC", "3")])
    partner = settle(agreement, [_line("inbound", "SMSMO", "2", "SMS")])

    found = compare(own, partner)

    assert [(u.direction, u.own_quantity, u.partner_quantity) for u in found.usage] == [
        ("inbound", 8, 0),
        ("outbound", 0, 2),
    ]
    assert [(u.own_lines, u.partner_lines, u.percent) for u in found.usage] == [
        (2, 0, 100),
        (0, 1, 100),
    ]


_QUANTITY = st.decimals(0, 10**6, places=3)
_TIERS = st.lists(st.integers(1, 10**6), max_size=4, unique=True).flatmap(
    lambda starts: st.lists(
        st.decimals(0, 10, places=4), min_size=len(starts) + 1, max_size=len(starts) + 1
    ).map(
        lambda prices: Rate(
            tuple(
                Tier(Decimal(start), price)
                for start, price in zip([0, *sorted(starts)], prices, strict=True)
            )
        )
    )
)


@given(_TIERS, _QUANTITY, _QUANTITY)
def test_what_is_added_to_usage_adds_what_it_costs(
    rate: Rate, some: Decimal, more: Decimal
) -> None:
    assert rate.value(Fraction(some + more)) >= rate.value(Fraction(some))
    assert rate.value(Fraction(-some)) == -rate.value(Fraction(some))


@given(st.lists(st.tuples(_QUANTITY, st.sampled_from(["MOC EU", "MTC"])), max_size=6), st.randoms())
def test_the_order_of_lines_changes_nothing(rows: list[tuple[Decimal, str]], random: Any) -> None:
    agreement = _agreement(
        ServicePrice("MOC EU", Rate((Tier(Decimal(0), Decimal(2)), Tier(Decimal(9), Decimal(1))))),
        ServicePrice("MTC", _flat("0.037")),
    )
    lines = [_line("inbound", service, str(quantity)) for quantity, service in rows]
    shuffled = list(lines)
    random.shuffle(shuffled)

    assert settle(agreement, lines).services == settle(agreement, shuffled).services


# -------------------------------------------------------------------------------------- the files

CONTRACT: dict[str, Any] = {
    "metadata": {"name": "A and B"},
    "framework": {"term": {"start": "2026-01-01", "end": "2026-12-31"}},
    "discounts": {
        "A": {
            "condition": {"kind": "Unconditional"},
            "serviceGroups": [
                {
                    "homeTadigs": ["NLDA1"],
                    "visitorTadigs": ["DEUB2"],
                    "services": [
                        {
                            "service": "GPRS",
                            "usagePricing": {
                                "unit": "MB",
                                "ratingPlan": {
                                    "kind": "Threshold - back to first",
                                    "rate": {
                                        "thresholds": [
                                            {"start": 0, "linearPrice": "0.02"},
                                            {"start": 100, "linearPrice": 0.01},
                                        ]
                                    },
                                },
                            },
                        }
                    ],
                }
            ],
        }
    },
}
USAGE = {
    "inbound": [
        {
            "yearMonth": "202610",
            "homeTadig": "NLDA1",
            "visitorTadig": "DEUB2",
            "service": "GPRS",
            "usage": 150.5,
            "units": "MB",
            "charges": 3.01,
            "currency": "EUR",
        }
    ]
}


def test_the_command_settles_files_and_writes_them(tmp_path: Path) -> None:
    contract, usage = tmp_path / "contract.json", tmp_path / "usage.json"
    contract.write_text(json.dumps(CONTRACT, indent=1))
    usage.write_text(json.dumps(USAGE))
    arguments = ["roaming", "settle", str(contract), "--home-usage", str(usage)]

    told = CliRunner().invoke(app, [*arguments, "--xlsx", str(tmp_path / "s.xlsx")])
    answered = CliRunner().invoke(app, [*arguments, "--json", "--exchange", str(tmp_path / "out")])

    assert told.exit_code == 0, told.output
    assert "owed to us (inbound): EUR 1.51" in told.output
    assert (tmp_path / "s.xlsx").is_file()
    (service,) = json.loads(answered.output)["services"]
    assert (service["deal_value"], service["amount"]) == ("1.505", "1.51")
    document = json.loads((tmp_path / "out" / "settlement_own.json").read_text())
    assert document["inbound"]["services"]["data"][0]["value"]["dealValue"] == 1.505


def test_a_contract_that_cannot_be_read_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    text = json.dumps(CONTRACT, indent=1)
    path.write_text(text.replace('"linearPrice": 0.01', '"linarPrice": 0.01'))

    with pytest.raises(ConfigError) as caught:
        read_agreement(path)

    line = next(n for n, row in enumerate(path.read_text().splitlines(), 1) if "linarPrice" in row)
    assert caught.value.line == line
    assert "did you mean 'linearPrice'?" in str(caught.value)
    assert "discounts.A.serviceGroups[0].services[0]" in str(caught.value)


# --------------------------------------------------------------- what the documents' grammar allows


def _service(name: str, plan: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    pricing = {} if plan is None else {"usagePricing": {"ratingPlan": plan}}
    return {"service": name, "includedInCommitment": True, **pricing, **more}


def _document(
    *services: dict[str, Any], back: tuple[dict[str, Any], ...] = (), **more: Any
) -> dict[str, Any]:
    """A contract between DE (two networks) and FR, by its newer form: framework and parties."""
    groups = [{"homeTadigs": ["FRA1"], "visitorTadigs": ["DEU1", "DEU2"], "services": services}]
    other = [
        {"homeTadigs": ["DEU1", "DEU2"], "visitorTadigs": ["FRA1"], "services": back or services}
    ]
    party = {"contractCurrency": "EUR"}
    return {
        "version": "gsma-bwr-roaming-v1",
        "metadata": {"name": "by its grammar"},
        "framework": {
            "contractParties": ["DE", "FR"],
            "term": {"start": "2026-01-01T00:00:00.000Z", "end": "2026-12-31T00:00:00.000Z"},
            "payment": {"taxesIncluded": False},
            "partyInformation": {"DE": party, "FR": party},
        },
        "discounts": {
            "DE": {"condition": {"kind": "Unconditional"}, "serviceGroups": groups} | more,
            "FR": {"serviceGroups": other},
        },
    }


def _reported(service: str, usage: str | float, unit: str, *, inbound: bool = True, **more: Any):
    home, visitor = ("FRA1", "DEU1") if inbound else ("DEU1", "FRA1")
    return {
        "yearMonth": "202606", "homeTadig": home, "visitorTadig": visitor, "service": service,
        "usage": usage, "units": unit, "currency": "EUR", **more,
    }  # fmt: skip


def _settled(folder: Path, contract: dict[str, Any], *lines: Any, **more: Any) -> Settlement:
    (folder / "c.json").write_text(json.dumps(contract, indent=1))
    report = {
        side: [line for line in lines if (line["homeTadig"] == "FRA1") == (side == "inbound")]
        for side in ("inbound", "outbound")
    }
    (folder / "u.json").write_text(json.dumps({"body": report}))
    return settle(read_agreement(folder / "c.json"), read_usage(folder / "u.json"), **more)


def _tiers(*tiers: tuple[Any, Any, Any]) -> dict[str, Any]:
    return {
        "thresholds": [
            {"start": start, "fixedPrice": fixed, "linearPrice": linear}
            for start, fixed, linear in tiers
        ]
    }


@pytest.mark.parametrize(
    ("plan", "worth"),
    [
        ({"kind": "Linear rate", "rate": {"linearPrice": 0.0012}}, "1800000"),
        ({"kind": "Linear rate", "rate": {"linearPrice": "0.0012", "fixedPrice": 5}}, "1800005"),
        ({"kind": "Flat rate", "rate": {"fixedPrice": 250000}}, "250000"),
        ({"kind": "Tiered with Thresholds", "rate": _tiers((0, 0, 0.002), (1e9, 7, 0.001))},
         "2500007"),
        ({"kind": "Threshold - back to first", "rate": _tiers((0, 0, 0.002), (1e9, 7, 0.001))},
         "1500007"),
        ({"rate": _tiers((1_000_000_000, 0, "0.001"))}, "500000"),  # nothing below the first one
        ({"kind": "Balanced/Unbalanced (Linear rate)", "balancedRate": {"linearPrice": 0.002},
          "unbalancedRate": {"linearPrice": 0.001}}, "2000000"),
        ({"balancedRate": _tiers((0, 100, 0), (4e8, 0, 0.01)),
          "unbalancedRate": _tiers((0, 0, 0.001), (9e8, 50, 0))}, "1900150"),
        ({"kind": "Not Charged"}, "0"),
        ({"kind": "Linear rate"}, "0"),
        ({"rate": None}, "0"),
    ],
)  # fmt: skip
def test_every_discount_model_of_the_grammar(tmp_path: Path, plan: Any, worth: str) -> None:
    """1.5 billion MB here, half a billion the other way."""
    settlement = _settled(
        tmp_path,
        _document(_service("GPRS", plan)),
        _reported("GPRS", 1_400_000_000, "MB"),
        _reported("GPRS", "100000", "GB", visitorTadig="DEU2"),
        _reported("GPRS", 500_000_000, "MB", inbound=False),
    )
    assert _of(settlement, "GPRS", "DE").deal_value == Decimal(worth)


def test_a_whole_document_with_unknown_services_and_no_usage_of_others(tmp_path: Path) -> None:
    """Access is priced by subscriber, a service without pricing is free, a new service has no
    bearer yet; a unit that is a number says nothing."""
    access = {"unit": "IMSI", "ratingPlan": {"rate": _tiers((0, 0, 12), (1000, 0, 5))}}
    contract = _document(
        _service("NB-IOT", None, accessPricing=access),
        _service("5G Slice", {"rate": {"linearPrice": 2}}, includedInCommitment=False),
        _service("MTC", None),
        _service("SMS MO", {"rate": {"linearPrice": 0.01}}),
    )
    contract["discounts"]["DE"]["serviceGroups"][0]["services"][3]["usagePricing"]["unit"] = 1
    settlement = _settled(
        tmp_path,
        {"header": {"version": "1.0"}, "body": contract},
        _reported("nb-iot", 1500, "imsi"),
        _reported("5G Slice", "3", "event"),
        _reported("MTC", 9.5, "min"),
    )
    told = {s.service: (s.deal_value, s.direction) for s in settlement.services if s.party == "DE"}
    assert told == {
        "NB-IOT": (Decimal(14500), "inbound"),
        "5G Slice": (Decimal(6), "inbound"),
        "MTC": (Decimal(0), "inbound"),
        "SMSMO": (Decimal(0), None),
    }
    assert settlement.unpriced == () and settlement.outside_term == 0


def test_a_commitment_in_another_currency_needs_a_rate(tmp_path: Path) -> None:
    commitment = {"value": "1000", "currency": "USD", "includingTaxes": False}
    contract = _document(
        _service("SMSMO", {"rate": {"linearPrice": 0.01}}),
        condition={"kind": "Deal Revenue Commitment", "commitment": commitment},
    )
    line = _reported("SMSMO", 20_000, "SMS")
    with pytest.raises(AgreementError, match="commitment is in USD, the prices are in EUR"):
        _settled(tmp_path, contract, line)
    settlement = _settled(tmp_path, contract, line, rates={("USD", "EUR"): Decimal("0.9")})
    (result,) = settlement.commitments
    assert (result.currency, result.value, result.owed) == ("EUR", 900, 700)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (_service("GPRS", {"kind": "Send or pay", "rate": {"linearPrice": 1}}),
         "'Send or pay' is no rating plan that is known: Linear rate"),
        (_service("GPRS", {"balancedRate": {"linearPrice": 1}}), "add the other"),
        (_service("GPRS", {"rate": {"linearPrice": 1}, "balancedRate": {"linearPrice": 1},
                           "unbalancedRate": {"linearPrice": 1}}), "not both"),
        (_service("GPRS", {"rate": {"linearPrice": None, "fixedPrice": ""}}), "fixedPrice"),
        (_service("GPRS", {"rate": {"linearPrice": "free"}}), "linearPrice"),
        (_service("GPRS", {"rate": {"thresholds": [{"start": 5}, {"start": 5}]}}), "ascending"),
        (_service("GPRS", {"rate": {"thresholds": [{"start": -1}]}}), "start"),
        (_service("", {"rate": {"linearPrice": 1}}), "service"),
        (_service("GPRS", {"rate": {"linearPrice": 1}},
                  accessPricing={"ratingPlan": {"rate": {"linearPrice": 1}}}), "one quantity"),
        ({"service": "GPRS", "pricing": {}}, "pricing"),
    ],
)  # fmt: skip
def test_what_cannot_be_settled_names_the_key(tmp_path: Path, wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _settled(tmp_path, _document(wrong))
    assert says in str(caught.value)
    assert f"{tmp_path / 'c.json'}:" in str(caught.value)
    assert "discounts.DE.serviceGroups[0].services[0]" in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"kind": "Revenue"}, "Unconditional"),
        ({"kind": "Deal Revenue Commitment"}, "needs commitment"),
        ({"kind": "Unconditional", "commitment": {"value": 1}}, "has no commitment"),
        ({"kind": "Deal Revenue Commitment", "commitment": {"value": "-1"}}, "value"),
        ({"kind": "Deal Revenue Commitment", "commitment": {"value": None}}, "value"),
    ],
)
def test_a_condition_that_says_too_little(tmp_path: Path, condition: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        _settled(tmp_path, _document(_service("MTC", None), condition=condition))


def test_a_case_of_another_pair_of_operators_comes_out_as_published(tmp_path: Path) -> None:
    """Deal commitments that are missed by far, months that are no months, and a service that one
    side has no price for and the other side no usage of. The figures are those of a fourth public
    case of the reference ("20210420 FH Test V0")."""

    def discounts(home: list[str], visitor: list[str], commitment: int, *more: Any) -> Any:
        prices = {"MOC Back Home": 0.023, "MOC Local": 0.09, "MOC International": 0.4}
        linear = [_service(n, {"kind": "Linear rate", "rate": {"linearPrice": p}})
                  for n, p in {**prices, "SMSMO": 0.005}.items()]  # fmt: skip
        data = _service("GPRS", {"rate": _tiers((0, 0, 0.0035), (150_000_000, 0, 0.0015))})
        return {
            "condition": {
                "kind": "Deal Revenue Commitment",
                "commitment": {"value": commitment, "currency": "EUR", "includingTaxes": False},
            },
            "serviceGroups": [
                {"homeTadigs": home, "visitorTadigs": visitor, "services": [*linear, *more, data]}
            ],
        }

    def line(home: str, visitor: str, service: str, usage: int, unit: str) -> Any:
        return {"yearMonth": "43800", "homeTadig": home, "visitorTadig": visitor, "unit": "",
                "service": service, "usage": usage, "units": unit, "currency": "EUR"}  # fmt: skip

    one, two = ["AAZOR", "BELMO", "FRAF1"], ["AAZTD", "DEUD1"]
    free = _service("MTC", {"kind": "Linear rate"}, includedInCommitment=False)
    contract = {
        "discounts": {
            "DTST": discounts(one, two, 7_000_000),
            "DTAG": discounts(two, one, 10_000_000, free),
        }
    }
    there, back = ("FRAF1", "DEUD1"), ("DEUD1", "FRAF1")
    own = {
        "inbound": [line(*there, "MTC", 355660, "min"), line(*there, "SMSMO", 824052, "SMS")],
        "outbound": [line(*back, "MTC", 1436009, "min"), line(*back, "SMSMO", 211647, "SMS")],
    }
    partner = {"inbound": own["outbound"][1:], "outbound": own["inbound"][1:]}
    paths = [tmp_path / name for name in ("contract.json", "own.json", "partner.json")]
    for path, document in zip(paths, (contract, own, partner), strict=True):
        path.write_text(json.dumps(document))

    write_exchange(settle_files(*paths), tmp_path)

    found = json.loads((tmp_path / "settlement_discrepancy.json").read_text())
    assert found["settlementReport"] == {
        "homeCharges": 1058.235,
        "homeDeltaCommitment": 1399175.948,
        "homeRevenue": 4120.26,
        "partnerCharges": 4120.26,
        "partnerDeltaCommitment": 1999788.353,
        "partnerRevenue": 1058.235,
    }
    settled = json.loads((tmp_path / "settlement_own.json").read_text())
    assert settled["inbound"]["services"]["SMS"]["MO"] == {
        "dealValue": 4120.26, "shortOfCommitment": 1399175.948, "usage": 824052,
    }  # fmt: skip
    assert settled["unexpectedServiceNames"] == []
    usage = json.loads((tmp_path / "usage_discrepancy.json").read_text())
    voice = next(row for row in usage["general_information"] if row["service"] == "MTC")
    assert (voice["inbound_discrepancy"], voice["outbound_discrepancy"]) == (355660, 1436009)
    assert len(usage["inbound"]) == len(usage["outbound"]) == 1
