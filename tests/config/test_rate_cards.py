"""Carriers' rate cards of any format, taken over into a catalog through their feed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.compute.duckdb_engine import DuckDbCompute
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.conditions import trait_sql
from iotbill_pipelines.operations.rate_cards import import_cards
from tests.feeds.harness import feed

NOW = datetime(2026, 11, 2)  # noqa: DTZ001 - naive UTC
CATALOG = """\
usage_classes: {voice: second, voice_mo: count, data: byte}
states: [{state: active, core: active}]
initial_states: [active]
products:
  - {id: calls, name: Calls, charge_type: usage, usage_class: voice, gl_class: usage}
  - {id: answers, name: Answers, charge_type: usage, usage_class: voice_mo, gl_class: usage}
  - {id: data, name: Data, charge_type: usage, usage_class: data, gl_class: usage}
zone_sets: [{id: world, rules: [{zone: rest, any: true}]}]
offers:
  - id: carrier
    name: Carrier
    currency: USD
    zone_set: world
    charges:
      - {id: plain, product: calls, kind: usage, per: minute, prices: [{rate: 9}]}
      - {id: a, product: answers, kind: usage, prices: [{rate: 9}]}
      - {id: d, product: data, kind: usage, per: MB, prices: [{rate: 9}]}
  - id: stepped
    name: Stepped
    currency: USD
    charges:
      - {id: c, product: calls, kind: usage, per: minute, prices: [{rate: 9}],
         increment: {initial: 30, subsequent: 60, point: record}}
"""
CARD = """
id: card
carrier: demo
target: rate_card_line
files: ["*.csv"]
format: {type: delimited}
fields:
  destination_type: kind
  destination: code
  usage_class: class
  unit: {choose: [{when: {field: class, equals: data}, value: MB}, {value: minute}]}
  rate: {from: price, steps: [decimal]}
  currency: {from: currency}
  valid_from: {from: since, steps: [{date: {}}]}
"""
HEAD = "kind,code,class,price,currency,since\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "catalog"
    made.mkdir()
    (made / "catalog.yaml").write_text(CATALOG)
    return made


def prices(folder: Path, charge: str) -> list[tuple[str | None, str | None, Decimal | None]]:
    [found] = [c for o in read_catalog(folder).catalog.offers for c in o.charges if c.id == charge]
    return [(p.zone, p.when, p.rate) for p in found.prices]


def put(tmp_path: Path, lines: str) -> Path:
    card = tmp_path / "Acme 2027.csv"
    card.write_text(HEAD + lines)
    return card


CHARGES = {"voice": "plain", "data": "d"}


def test_the_name_of_a_card_is_no_formula_in_what_is_kept(tmp_path: Path, folder: Path) -> None:
    card = tmp_path / "=1+1.csv"
    card.write_text(f"{HEAD}network,262-01,data,0.01,USD,2027-01-01\n")
    import_cards(folder, [card], feed(CARD), CHARGES, NOW)
    assert (folder / "tables/1-1.csv").read_text().endswith(",'=1+1.csv line 2\n")
    card.write_text(f"{HEAD}zone,=1+1,data,0.01,USD,2027-01-01\n")
    with pytest.raises(ConfigError, match=r"=1\+1.csv:2: '=1\+1' is text that a spreadsheet would"):
        import_cards(folder, [card], feed(CARD), CHARGES, NOW)


def test_networks_countries_and_prefixes_become_prices(tmp_path: Path, folder: Path) -> None:
    card = put(
        tmp_path,
        "network,262-01,data,0.010,USD,2027-01-01\ncountry,FR,data,0.020,USD,\n"
        "prefix,1,voice,0.5,USD,\nprefix,1416,voice,0.7,USD,\nprefix,141655,voice,0.5,USD,\n"
        "prefix,44,voice,0.5,USD,\n",
    )
    checked = import_cards(
        folder, [card], feed(CARD), CHARGES, NOW, valid_from=date(2027, 2, 1), write=False
    )
    assert checked.written == []
    done = import_cards(folder, [card], feed(CARD), CHARGES, NOW, valid_from=date(2027, 2, 1))
    assert done.digest == checked.digest == read_catalog(folder).digest
    assert [path.name for path in done.written] == ["acme-2027.csv", "acme-2027.tables.yaml"]
    assert prices(folder, "d") == [
        ("26201", None, Decimal("0.01")), ("208", None, Decimal("0.02")), (None, None, Decimal(9)),
    ]  # fmt: skip
    (_, many, half), (_, one, seven), _ = prices(folder, "plain")
    assert (half, seven) == (Decimal("0.5"), Decimal("0.7"))
    assert many == 'peer_number starts ("141655", "44") or (peer_number starts "1" and not '\
        'peer_number starts "1416")'  # fmt: skip
    assert one == '(peer_number starts "1416" and not peer_number starts "141655")'
    text = (folder / "tables/acme-2027.csv").read_text()
    assert "Acme 2027.csv line 2" in text and '"Acme 2027.csv lines 4, 6, 7"' in text


def test_the_longest_prefix_decides_whatever_the_order(tmp_path: Path, folder: Path) -> None:
    lines = {"1": "0.1", "1416": "0.2", "14165": "0.1", "141655": "0.3", "49": "0.2", "4917": "0.1"}
    numbers = {"1999": "0.1", "14160": "0.2", "141651": "0.1", "1416550": "0.3", "4930": "0.2",
               "49171": "0.1", "33": "9", "0": "9"}  # fmt: skip
    rows = [f"prefix,{prefix},voice,{rate},USD,\n" for prefix, rate in lines.items()]
    for order in (rows, rows[::-1]):
        card = put(tmp_path, "".join(order))
        import_cards(folder, [card], feed(CARD), CHARGES, NOW, valid_from=date(2027, 1, 1))
        first = "".join(
            f" when {trait_sql([when], {}) if when else '1'} = '1' then '{rate}'"
            for _, when, rate in prices(folder, "plain")
        )
        listed = ", ".join(f"('{number}')" for number in numbers)
        with DuckDbCompute() as compute:
            found = compute.fetch(
                f"select peer_number, case {first} end as rate"
                f" from (values {listed}) as v(peer_number)"
            ).to_pylist()
        assert {row["peer_number"]: row["rate"] for row in found} == numbers


@pytest.mark.parametrize(
    ("lines", "charges", "said"),
    [
        ("prefix,1,voice,x,USD,2027-01-01\n", CHARGES, ":2: rate: "),
        ("prefix,1,sms,1,USD,2027-01-01\n", CHARGES, ":2: usage_class: no charge is named"),
        ("prefix,1,voice,1,USD,2027-01-01\n", {"voice": "x"}, ":2: charge: no offer has"),
        ("prefix,1,voice,1,USD,2027-01-01\n", {"voice": "c"},
         ":2: first_increment: counts 1, then steps of 1, charge 'c' counts 30, then 60"),
        ("prefix,1,voice,1,,2027-01-01\n", CHARGES, ":2: currency: is absent"),
        ("prefix,1,voice,1,USD,\n", CHARGES, ":2: valid_from: says no first day"),
        ("prefix,1,voice,1,EUR,2027-01-01\n", CHARGES, ":2: EUR is not the USD of 'carrier'"),
        ("city,Bonn,voice,1,USD,2027-01-01\n", CHARGES, ":2: destination_type: must be one of"),
        ("country,ZZ,data,1,USD,2027-01-01\n", CHARGES, ":2: destination: is no ISO country"),
        ("prefix,1,voice,1,USD,2027-01-01\nprefix,1,voice,2,USD,2027-01-01\n", CHARGES,
         ":3: destination: prices prefix 1 unlike line 2"),
    ],
)  # fmt: skip
def test_a_card_is_taken_whole_or_not_at_all(
    tmp_path: Path, folder: Path, lines: str, charges: dict[str, str], said: str
) -> None:
    card = put(tmp_path, lines)
    with pytest.raises(ConfigError) as caught:
        import_cards(folder, [card], feed(CARD), charges, NOW)
    assert said in str(caught.value) and str(card) in str(caught.value)
    assert not (folder / "tables").exists()


def test_the_command_reads_cards_through_their_feed(tmp_path: Path, folder: Path) -> None:
    card = put(tmp_path, "prefix,44,voice,0.5,USD,\n")
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "card.yaml").write_text(CARD)

    def run(*options: str) -> Result:
        arguments = ["--configs", str(tmp_path), "catalog", "import", str(card), *options]
        return CliRunner().invoke(app, arguments)

    feed_options = ("--feed", "card", "--charge", "voice=plain")
    assert run(*feed_options, "--valid-from", "2027-01-01").exit_code == 0
    assert prices(folder, "plain")[0] == (None, 'peer_number starts "44"', Decimal("0.5"))
    assert run(*feed_options).exit_code != 0
    assert run("--charge", "voice=plain").exit_code != 0
