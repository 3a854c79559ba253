"""Rate tables: rows of CSV and XLSX files as prices and zones; every message of a wrong cell."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.config.catalog import read_catalog
from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.engine.terms import compile_catalog
from iotbill_pipelines.operations import catalogs

BASE = """\
usage_classes: {data: byte, sms: count}
states: [{state: active, core: active}]
initial_states: [active]
products:
  - {id: data, name: Data, charge_type: usage, usage_class: data, gl_class: usage}
  - {id: sms, name: SMS, charge_type: usage, usage_class: sms, gl_class: usage}
zone_sets:
  - {id: world, rules: [{zone: eu, mcc: ["262"]}, {zone: rest, any: true}]}
offers:
  - id: basic
    name: Basic
    currency: EUR
    zone_set: world
    charges:
      - {id: d, product: data, kind: usage, per: MB, prices: [{rate: 9, id: fallback}]}
      - {id: s, product: sms, kind: usage, prices: [{rate: 8}]}
"""
HEAD = "charge,zone,valid_from,rate\n"


def catalog(folder: Path, rows: str, name: str = "rates.csv", base: str = BASE) -> Path:
    (folder / "catalog.yaml").write_text(f"{base}tables: [{{file: {name}}}]\n")
    (folder / name).write_text(rows)
    return folder


def workbook(file: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file


def problems(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_catalog(folder)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_rows_mean_the_same_as_prices_in_yaml(tmp_path: Path) -> None:
    """The digest is that of the terms, wherever they stand; rows come before YAML's fallback."""
    tables, yaml = tmp_path / "tables", tmp_path / "yaml"
    for folder in (tables, yaml):
        folder.mkdir()
    catalog(
        tables,
        "Charge;Zone;Valid From;valid_to;Up to;rate;flat;country;model\n"
        "d;eu;2026-01-01;;100;0.05;;Germany;volume\n"
        "d;eu;2026-01-01;;;0.0375;1.5;;\n"
        "s;eu;2026-01-01;2026-07-01;;0.00000000001;;;\n",
    )
    (yaml / "all.yaml").write_text(
        BASE.replace(
            "prices: [{rate: 9, id: fallback}]",
            "prices: [{zone: eu, valid_from: 2026-01-01, model: volume, tiers: [{up_to: 100, "
            "rate: 0.05}, {rate: 0.0375, flat: 1.5}]}, {rate: 9, id: fallback}]",
        ).replace(
            "prices: [{rate: 8}]",
            "prices: [{zone: eu, valid_from: 2026-01-01, valid_to: 2026-07-01, "
            "rate: 0.00000000001}, {rate: 8}]",
        )
    )
    one, other = read_catalog(tables), read_catalog(yaml)
    assert one.json == other.json
    assert one.digest == other.digest
    assert [file.name for file in one.files] == ["catalog.yaml", "rates.csv"]


def test_rows_may_name_networks(tmp_path: Path) -> None:
    catalog(
        tmp_path,
        "charge,mcc,mnc,plmn,valid_from,rate\n"
        "d,208,01,,2026-01-01,0.10\n"
        "d,208,,,2026-01-01,0.20\n"
        "d,,,234-15,2026-01-01,0.30\n"
        "d,262,,,2026-01-01,0.40\n",
    )
    found = read_catalog(tmp_path).catalog
    rules = found.zone_sets[0].rules
    assert {(r.zone, *r.plmn, *r.mcc) for r in rules if not r.any} == {
        ("eu", "262"), ("20801", "20801"), ("208", "208"), ("23415", "23415"),
    }  # fmt: skip
    priced = [(price.zone, str(price.rate)) for price in found.offers[0].charges[0].prices]
    assert priced == [
        ("20801", "0.10"), ("208", "0.20"), ("23415", "0.30"), ("eu", "0.40"), (None, "9"),
    ]  # fmt: skip


def test_a_sheet_of_zones_and_one_of_rates(tmp_path: Path) -> None:
    workbook(
        tmp_path / "world.xlsx",
        {
            "Zones": [
                ["zone_set", "zone", "mcc", "mnc", "region", "any"],
                ["world", "asia", "440", None, None, None],
                ["world", "asia", "440", "10", None, None],
                ["world", "sea", None, None, "Maritime", None],
            ],
            "Rates 2026": [
                ["charge", "zone", "valid_from", "rate", "currency", "per"],
                ["d", "asia", "2026-01-01", 0.0525, "EUR", "MB"],
                ["d", "sea", "2026-01-01", 12, "EUR", "MB"],
            ],
            "empty": [],
        },
    )
    (tmp_path / "catalog.yaml").write_text(BASE + "tables: [{file: world.xlsx}]\n")
    found = read_catalog(tmp_path).catalog
    assert [str(price.rate) for price in found.offers[0].charges[0].prices] == ["0.0525", "12", "9"]
    assert compile_catalog(found)["zone_member"].num_rows == 5


@pytest.mark.parametrize(
    ("rows", "messages"),
    [
        (HEAD + "d,eu,2026-01-01,\"0,05\"\n", ["rates.csv:2: D2: '0,05' is no decimal number"]),
        (HEAD + "d,eu,01.02.2026,0.05\n", ["rates.csv:2: C2: '01.02.2026' is no day; write it as"]),
        (HEAD + "d,eu,,0.05\n", ["rates.csv:2: C2: is empty; a rate of a table says from which"]),
        (HEAD + "x,eu,2026-01-01,1\n", ["rates.csv:2: A2: no offer or share plan has the charge"]),
        (HEAD + "d,far,2026-01-01,1\n", ["rates.csv:2: B2: unknown zone 'far'; known: eu, rest"]),
        (
            HEAD + "d,eu,2026-01-01,1\nd,eu,2026-01-01,2\n",
            ["rates.csv:3: D3: says again what A2 says; one zone, time and day has one rate"],
        ),
        (
            HEAD + "d,eu,2026-01-01,0.0000000000001\n",
            ["rates.csv:2: D2: decimal input should have no more than 12 decimal places"],
        ),
        (
            "charge,zone,valid_from,valid_to,rate\nd,eu,2026-01-01,,1\nd,eu,2026-02-01,,2\n",
            ["rates.csv:3: A3: never applies: price 1 of 'd' comes first"],
        ),
        (
            "charge,zone,valid_from,valid_to,rate\n"
            "d,eu,2026-02-01,2026-06-01,2\nd,eu,2026-01-01,2026-03-01,1\n",
            ["rates.csv:3: A3: overlaps price 1 of 'd', for the same usage, from 2026-02-01 on"],
        ),
        (
            "charge,zone,valid_from,valid_to,rate\nd,eu,2026-02-01,2026-01-01,2\n",
            ["rates.csv:2: A2: valid_to must be after valid_from"],
        ),
        (
            "charge,zone,valid_from,from,up_to,rate\n"
            "d,eu,2026-01-01,0,100,3\nd,eu,2026-01-01,101,,2\n"
            "s,eu,2026-01-01,0,100,3\ns,eu,2026-01-01,90,,2\n",
            [
                "rates.csv:3: D3: 101 leaves a gap after the tier before, which ends at 100",
                "rates.csv:5: D5: 90 overlaps the tier before, which ends at 100",
            ],
        ),
        (
            "charge,zone,valid_from,up_to,rate\nd,eu,2026-01-01,100,3\nd,eu,2026-01-01,50,2\n",
            ["rates.csv:3: D3: 50 is not above 100, where the tier begins"],
        ),
        (
            "charge,zone,valid_from,rate,currency,per\nd,eu,2026-01-01,1,USD,GB\n",
            [
                "rates.csv:2: E2: USD is not the EUR of 'basic'; a charge has one currency",
                "rates.csv:2: F2: 'GB' is not the 'MB' that charge 'd' is priced in",
            ],
        ),
        (
            "charge,zone,mcc,valid_from,rate\nd,far,262,2026-01-01,1\n",
            ["rates.csv:2: C2: 262 is in zone 'eu' of 'world' already"],
        ),
        (
            "charge,mcc,mnc,valid_from,rate\nd,208,,2026-01-01,1\ns,208,01,2026-01-01,1\n",
            ["rates.csv:2: A2: charge 'd' prices country 208, but network 20801 is in zone"],
        ),
        (
            "charge,mcc,valid_from,rate\nd,26,2026-01-01,1\n",
            ["rates.csv:2: B2: '26' has not the 3 digits of such a code; format the cell as text"],
        ),
        (
            "charge,zone,valid_from,rate,price\nd,eu,2026-01-01,1,2\n",
            ["rates.csv:1: E1: unknown column 'price'; known: charge, currency"],
        ),
        ("charge,zone,rate\nd,eu,1\n", ["rates.csv:1: A1: has no column 'valid_from'; add it"]),
        ("charge,rate,rate\nd,1,1\n", ["rates.csv:1: C1: column 'rate' stands twice; remove one"]),
        ("a,b\n1,2\n", ["rates.csv:1: A1: has neither a column charge (rates) nor zone_set"]),
        (
            "zone_set,zone,mcc\nworld,asia,262\n",
            ["rates.csv:2: C2: 262 is in zone 'eu' already; a network is in one zone"],
        ),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named(tmp_path: Path, rows: str, messages: list[str]) -> None:
    told = problems(catalog(tmp_path, rows))
    for message in messages:
        assert any(line.startswith(message) for line in told), told


def test_a_cell_of_a_workbook_is_named_with_its_sheet(tmp_path: Path) -> None:
    file = workbook(
        tmp_path / "rates.xlsx",
        {
            "Europe": [
                ["charge", "zone", "valid_from", "rate"],
                ["d", "eu", "2026-01-01", "cheap"],
            ]
        },
    )
    (tmp_path / "catalog.yaml").write_text(BASE)
    with pytest.raises(ConfigError) as caught:
        catalogs.import_tables(tmp_path, [file])
    assert str(caught.value).startswith(f"{file}:2: Europe!D2: 'cheap' is no decimal number")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.yaml", "rates.xlsx"]


def test_yaml_below_a_table_is_still_named_by_its_line(tmp_path: Path) -> None:
    base = BASE.replace("[{rate: 9, id: fallback}]", "[{rate: 9, zone: nowhere}, {rate: 9}]")
    (told,) = problems(catalog(tmp_path, HEAD + "d,eu,2026-01-01,1\n", base=base))
    assert told.startswith("catalog.yaml:15: offers[0].charges[0].prices[0].zone: unknown zone")


def test_an_import_is_kept_as_csv_and_replaced_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    folder = tmp_path / "catalog"
    (folder / "catalog.yaml").write_text(BASE)
    rows = [["Charge", "Zone", "Valid from", "Rate"], ["d", "eu", "2026-01-01", 0.1]]
    file = workbook(tmp_path / "Rates 2026.xlsx", {"EU": rows})
    checked = catalogs.import_tables(folder, [file], write=False)
    assert checked.written == []
    done = catalogs.import_tables(folder, [file])
    assert [str(path.relative_to(folder)) for path in done.written] == [
        "tables/rates-2026-eu.csv", "rates-2026.tables.yaml",
    ]  # fmt: skip
    assert (folder / "tables/rates-2026-eu.csv").read_text() == (
        "charge,zone,valid_from,rate\nd,eu,2026-01-01,0.1\n"
    )
    assert read_catalog(folder).digest == done.digest == checked.digest
    rows[1][3] = 0.2
    again = catalogs.import_tables(folder, [workbook(file, {"EU": rows})])
    assert [path.name for path in again.written] == ["rates-2026-eu.csv"]
    assert read_catalog(folder).digest == again.digest != done.digest


FORMULAS = ('=HYPERLINK("http://x")', "=cmd|'/c calc'!A1", "@SUM(1)", "-2+3", "  =1+1\n")


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_remarks_that_a_spreadsheet_would_run_are_kept_disarmed(tmp_path: Path, kind: str) -> None:
    folder, file = tmp_path / "catalog", tmp_path / f"rates.{kind}"
    folder.mkdir()
    (folder / "catalog.yaml").write_text(BASE)
    head = ["charge", "zone", "valid_from", "valid_to", "rate", "at_zero", "country", "comment"]
    months = [f"2026-{month:02d}-01" for month in range(1, len(FORMULAS) + 2)]
    rows = [
        ["d", "eu", start, end, "-0.5", "yes", remark, f"+31 {remark}"]
        for start, end, remark in zip(months, months[1:], FORMULAS, strict=False)
    ]
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for number, row in enumerate([head, *rows], 1):
            for column, text in enumerate(row, 1):
                book.active.cell(number, column, text).data_type = "s"
        book.save(file)
    else:
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([head, *rows])

    def take_over(table: Path) -> Result:
        arguments = ["catalog", "import", str(table), "--into", str(folder)]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    first = take_over(file)
    assert first.exit_code == 0, first.output
    (kept,) = (folder / "tables").iterdir()
    with kept.open(newline="") as text:
        found = list(csv.DictReader(text))
    assert [row["country"] for row in found] == [f"'{remark.strip()}" for remark in FORMULAS]
    assert all(row["comment"].startswith("'+31 ") for row in found)
    assert [(row["rate"], row["at_zero"]) for row in found] == [("-0.5", "true")] * len(found)
    assert read_catalog(folder).digest in first.output
    before = kept.read_bytes()
    again = take_over(kept.rename(tmp_path / kept.name))
    assert again.exit_code == 0, again.output
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    ("head", "row", "cell"),
    [
        ("charge,zone,valid_from,rate", "d,=cmd|x,2026-01-01,1", "B2"),
        ("charge,id,valid_from,rate", "d,@SUM(1),2026-01-01,1", "B2"),
        ("charge,region,valid_from,rate", "d,+A1,2026-01-01,1", "B2"),
        ("charge,zone,valid_from,rate", "-d,eu,2026-01-01,1", "A2"),
        ("charge,zone,valid_from,rate", "d,e\x01u,2026-01-01,1", "B2"),
        ("zone_set,zone,mcc", "world,=1+1,440", "B2"),
        ("zone_set,zone,mcc", "=1+1,asia,440", "A2"),
    ],
)
def test_what_decides_on_a_price_is_no_formula(
    tmp_path: Path, head: str, row: str, cell: str
) -> None:
    """Disarmed it would be another name than the one that was priced."""
    (told,) = problems(catalog(tmp_path, f"{head}\n{row}\n"))
    assert told.startswith(f"rates.csv:2: {cell}: ")
    assert "is text that a spreadsheet would run, or holds control characters; begin it" in told


def test_a_big_table_loads_in_seconds(tmp_path: Path) -> None:
    """Four thousand networks; nothing grows with the square of the rows."""
    rows = [f"d,{200 + n % 500},{n // 500:02d},2026-01-01,0.{n:05d}" for n in range(4000)]
    catalog(tmp_path, "charge,mcc,mnc,valid_from,rate\n" + "\n".join(rows) + "\n")
    assert len(read_catalog(tmp_path).catalog.offers[0].charges[0].prices) == 4001


def test_overlapping_agreements_are_refused(tmp_path: Path) -> None:
    text = BASE + (
        "price_overrides:\n"
        "  - {id: a, scope: account, target: C1, offer: basic, valid_to: 2026-06-01}\n"
        "  - {id: b, scope: account, target: C1, offer: basic, valid_from: 2026-05-31}\n"
    )
    (tmp_path / "catalog.yaml").write_text(text)
    (told,) = problems(tmp_path)
    assert "'a' (number 1) prices data for the same account 'C1' from 2026-05-31 on" in told
    (tmp_path / "catalog.yaml").write_text(text.replace("2026-05-31", "2026-06-01"))
    assert len(read_catalog(tmp_path).catalog.price_overrides) == 2


def test_rates_with_and_without_dates_get_advice(tmp_path: Path) -> None:
    text = BASE.replace(
        "[{rate: 8}]", "[{rate: 7, valid_from: 2026-01-01, valid_to: 2026-03-01}, {rate: 8}]"
    )
    (tmp_path / "catalog.yaml").write_text(text)
    _, advice = catalogs.lint(tmp_path)
    assert [(each.code, each.where) for each in advice if each.code.startswith("rate")] == [
        ("rate_without_dates", "basic/s")
    ]
