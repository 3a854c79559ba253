"""Each target's file, to the byte, and the rules that its linter holds journals to."""

from __future__ import annotations

import csv
import io
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.export import (
    PostedJournal,
    documents,
    export_files,
    export_problems,
)
from iotbill_pipelines.engine.post.fx import conversion
from iotbill_pipelines.engine.post.journals import (
    Cell,
    JournalDraft,
    Line,
    build_journals,
    external_id,
    reversed_lines,
)
from iotbill_pipelines.engine.post.terms import (
    Entity,
    ExportTarget,
    FxRate,
    GlAccount,
    GlRule,
    JournalType,
    LedgerTerms,
    check_ledger,
)
from iotbill_pipelines.engine.terms import TermsError
from iotbill_pipelines.storage.ledger import _write_journal
from tests.conftest import ROOT

GOLDEN = Path(__file__).parent / "golden"
OCTOBER = Month(2026, 10)
TARGETS = "netsuite sap oracle d365_fo d365_bc quickbooks xero journal_csv journal_xlsx".split()


@pytest.fixture(scope="module")
def terms() -> LedgerTerms:
    return read_ledger(ROOT / "configs" / "ledger")


def cell(number: int, amount: int, **values: Any) -> Cell:
    usual = {
        "entity_id": "NL01",
        "currency": "EUR",
        "account_id": "C1",
        "level": "retail",
        "product_id": "data",
        "kind": "usage",
        "gl_class": "usage",
        "tax_code": "standard",
    }
    return Cell(cell_no=number, charges=1, amount_minor=amount, **(usual | values))


def posted(draft: JournalDraft, revision: int = 1) -> PostedJournal:
    return PostedJournal(
        external_id(draft.entity_id, draft.period, draft.journal_type, revision),
        draft.entity_id,
        draft.currency,
        draft.period,
        draft.journal_type,
        draft.journal_date,
        draft.memo,
        draft.lines,
        revision,
    )


def a_journal(terms: LedgerTerms, currency: str = "EUR") -> PostedJournal:
    (draft,), _ = build_journals(
        [
            cell(1, 40001, currency=currency),
            cell(2, 36000, product_id="sub", gl_class="recurring", currency=currency),
            cell(3, -8000, account_id="C2, Ltd.", currency=currency),
        ],
        terms.journals[0],
        OCTOBER,
        terms,
    )
    return posted(draft)


# ------------------------------------------------------------------------------ golden files


@pytest.mark.parametrize("currency", ["EUR", "USD"])
@pytest.mark.parametrize("name", TARGETS)
def test_files_are_the_golden_ones(
    terms: LedgerTerms, tmp_path: Path, name: str, currency: str
) -> None:
    journal = a_journal(terms, currency)
    (file,), export = _write_journal(journal, terms.target(name), terms, tmp_path)
    assert export.sha256 == file.sha256
    if name == "journal_xlsx":
        book = openpyxl.load_workbook(file.path)
        rows = [[cell.value for cell in row] for row in book.worksheets[0].iter_rows()]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        text = buffer.getvalue()
    else:
        text = file.path.read_bytes().decode("utf-8")
        assert text.count("\n") == text.count("\r\n")
        text = text.replace("\r\n", "\n")
    golden = GOLDEN / f"{name}_{currency}.txt"
    assert text == golden.read_text("utf-8")


def test_every_target_has_golden_files(terms: LedgerTerms) -> None:
    assert sorted(target.id for target in terms.targets) == sorted(TARGETS)


def table(name: str, currency: str = "EUR") -> list[list[str]]:
    with (GOLDEN / f"{name}_{currency}.txt").open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def test_oracle_positions_are_those_of_glinterface() -> None:
    first = table("oracle")[0]
    assert len(first) == 68
    positions = {
        1: "NEW",
        3: "2026/10/31",
        6: "EUR",
        7: "2026/10/31",
        8: "A",
        9: "NL01",
        10: "1200",
    }
    positions |= {39: "760.01", 40: "", 41: "760.01", 42: "", 43: "NL01-2026-10-REVENUE-001"}
    positions |= {46: "NL01-2026-10-REVENUE-001", 49: "", 52: "account C1", 64: "User", 66: "1.00"}
    assert {place: first[place - 1] for place in positions} == positions
    rounded = table("oracle", "USD")
    assert sum(Decimal(row[38] or 0) - Decimal(row[39] or 0) for row in rounded) == 0
    assert sum(Decimal(row[40] or 0) - Decimal(row[41] or 0) for row in rounded) == 0


def test_sap_has_technical_names_above_labels_and_a_batch_id() -> None:
    rows = table("sap")
    assert rows[0][:2] == ["Batch ID", "NL012610REV001"]
    assert rows[1] == "BUKRS BLART BLDAT BUDAT MONAT BKTXT WAERS XBLNR LDGRP".split()
    assert rows[2][0] == "*Company Code (4)"
    assert rows[3][2:5] == ["20261031", "20261031", "10"]
    assert rows[4] == "BUKRS HKONT SGTXT WRSOL WRHAB MWSKZ KOSTL PRCTR SEGMENT".split()
    assert rows[6][:5] == ["NL01", "1200", "account C1", "760.01", ""]


def test_gl_04_a_voucher_of_dynamics_balances() -> None:
    header, *rows = table("d365_fo")
    named = [dict(zip(header, row, strict=True)) for row in rows]
    assert header[:4] == ["JOURNALBATCHNUMBER", "LINENUMBER", "JOURNALNAME", "DESCRIPTION"]
    assert named[0]["ACCOUNTDISPLAYVALUE"] == "1200---"
    assert {row["TRANSDATE"] for row in named} == {"31-Oct-2026"}
    assert named[0]["CREDITAMOUNT"] == "0.00"
    debits = sum(Decimal(row["DEBITAMOUNT"]) for row in named)
    assert debits == sum(Decimal(row["CREDITAMOUNT"]) for row in named) == Decimal("760.01")


@pytest.mark.parametrize(("name", "column"), [("d365_bc", "amount"), ("xero", "Amount")])
def test_signed_amounts_add_up_to_nothing(name: str, column: str) -> None:
    header, *rows = table(name)
    assert sum(Decimal(row[header.index(column)]) for row in rows) == 0


# ------------------------------------------------------------------------- currency (GL-02)


def test_gl_02_lines_are_converted_one_by_one_and_the_residue_goes_to_an_account(
    terms: LedgerTerms,
) -> None:
    rates = [FxRate(date=date(2026, 10, 30), base="USD", quote="EUR", rate="0.5", source="T")]
    exact = terms.model_copy(update={"fx": rates})
    cells = [cell(n, 1, account_id=f"C{n}", currency="USD") for n in (1, 2, 3)]
    (draft,), _ = build_journals(cells, exact.journals[0], OCTOBER, exact)
    # three debits of half a cent round to a cent each, their sum of 1.5 cents to 2
    assert [
        (
            x.account,
            x.debit_minor,
            x.credit_minor,
            x.functional_debit_minor,
            x.functional_credit_minor,
        )
        for x in draft.lines
    ] == [
        ("1200", 1, 0, 1, 0),
        ("1200", 1, 0, 1, 0),
        ("1200", 1, 0, 1, 0),
        ("4100", 0, 3, 0, 2),
        ("7900", 0, 0, 0, 1),
    ]
    assert {(x.fx_rate, x.fx_date, x.fx_source) for x in draft.lines} == {
        (Decimal("0.5"), date(2026, 10, 30), "T")
    }
    without = exact.model_copy(update={"fx_rounding_account": None})
    with pytest.raises(TermsError, match="name the account that takes them"):
        build_journals(cells, without.journals[0], OCTOBER, without)
    # an ERP that converts itself is not shown a line without an amount
    (document,) = documents(posted(draft), terms.target("netsuite"), exact)
    assert [line.account for line in document.lines] == ["1200", "1200", "1200", "4100"]
    (document,) = documents(posted(draft), terms.target("oracle"), exact)
    assert document.lines[-1].account == "7900"


def rate(day: str, base: str, quote: str, value: str) -> FxRate:
    return FxRate(date=date.fromisoformat(day), base=base, quote=quote, rate=value, source=day)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([rate("2026-10-30", "USD", "EUR", "0.9")], "0.9"),
        ([rate("2026-10-30", "EUR", "USD", "1.25")], "0.8"),
        # the newest up to the day, and the direct one of two of a day
        ([rate("2026-10-29", "USD", "EUR", "0.7"), rate("2026-11-01", "USD", "EUR", "0.6"),
          rate("2026-10-30", "EUR", "USD", "1.25"), rate("2026-10-30", "USD", "EUR", "0.81")],
         "0.81"),
        ([rate("2026-10-24", "USD", "EUR", "0.9")], "0.9"),
        ([rate("2026-10-23", "USD", "EUR", "0.9")], None),
        ([rate("2026-10-30", "USD", "GBP", "0.9")], None),
        ([], None),
    ],
)  # fmt: skip
def test_the_newest_rate_up_to_the_day_counts(
    terms: LedgerTerms, rates: list[FxRate], expected: str | None
) -> None:
    priced = terms.model_copy(update={"fx": rates})
    if expected is None:
        with pytest.raises(TermsError, match="no rate from USD to EUR for 2026-10-31"):
            conversion(priced, "USD", "EUR", date(2026, 10, 31))
    else:
        found = conversion(priced, "USD", "EUR", date(2026, 10, 31))
        assert found.rate == Decimal(expected)


def test_currencies_without_cents_convert_and_a_reversal_cancels(terms: LedgerTerms) -> None:
    rates = [rate("2026-10-30", "JPY", "EUR", "0.0061"), rate("2026-10-30", "KWD", "EUR", "3.01")]
    priced = terms.model_copy(update={"fx": rates})
    yen = conversion(priced, "JPY", "EUR", date(2026, 10, 31))
    dinar = conversion(priced, "KWD", "EUR", date(2026, 10, 31))
    assert (yen.minor(1000), yen.minor(-1000), dinar.minor(1000)) == (610, -610, 301)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,base,quote,rate\n", r"fx.csv:1: the first line names the columns"),
        ("date,base,quote,rate,source\n2026-10-30,EUR,USD,x,T\n", r"fx.csv:2: rate: .*'x' was"),
        ("date,base,quote,rate,source\n2026-10-30,EUR,USD,0,T\n", r"fx.csv:2: rate: .*'0' was"),
        ("date,base,quote,rate,source\n2026-10-30,EUR\n", r"fx.csv:2: give 5 values"),
        (
            "date,base,quote,rate,source\n2026-10-30,EUR,USD,1,T\n2026-10-30,EUR,USD,2,T\n",
            r"fx.csv:3: line 2 has the rate of 2026-10-30, EUR, USD",
        ),
    ],
)
def test_a_table_of_rates_that_cannot_be_used_names_line_and_value(
    tmp_path: Path, text: str, said: str
) -> None:
    folder = tmp_path / "ledger"
    (folder / "fx").mkdir(parents=True)
    (folder / "ledger.yaml").write_text((ROOT / "configs/ledger/ledger.yaml").read_text())
    (folder / "fx" / "fx.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_ledger(folder)


def test_the_ecb_s_file_is_read_as_published_and_crosses_through_the_euro(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "configs" / "ledger", folder)
    (folder / "fx" / "sample.csv").unlink()
    history = folder / "fx" / "eurofxref-hist.csv"
    text = "Date,USD,JPY,EEK,GBP,\n2026-10-30,1.0812,164.30,N/A,0.8340,\n2026-10-29,1.08,1,N/A,,\n"
    history.write_text(text)
    terms = read_ledger(folder)
    day = date(2026, 10, 31)
    dollar = conversion(terms, "USD", "EUR", day)
    assert (dollar.rate, dollar.date) == (Decimal("0.924898261191"), date(2026, 10, 30))
    assert dollar.source == "ECB euro reference rates (inverse)"
    assert conversion(terms, "EUR", "JPY", day).rate == Decimal("164.30")
    cross = conversion(terms, "USD", "GBP", day)
    assert (cross.rate, cross.source) == (
        Decimal("0.771365149834"),
        "ECB euro reference rates (through EUR)",
    )
    with pytest.raises(TermsError, match="no rate from EEK to EUR"):
        conversion(terms, "EEK", "EUR", day)
    for wrong, said in (
        (text.replace("1.0812", "1,08x"), r"hist.csv:2: JPY: '08x' is no rate"),
        (text.replace("2026-10-29", "2026-10-30"), r"hist.csv:3: Date: line 2 has 2026-10-30"),
        (text.replace("2026-10-29", "29 Oct"), r"hist.csv:3: Date: '29 Oct' is no date"),
    ):
        history.write_text(wrong)
        with pytest.raises(ConfigError, match=said):
            read_ledger(folder)


def test_the_ecb_s_history_comes_from_a_library_too_and_own_tables_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "configs" / "ledger", folder)
    ledger = folder / "ledger.yaml"
    ledger.write_text("fx_library: currency_converter\n" + ledger.read_text())
    sunday = date(2020, 1, 5)
    found = conversion(read_ledger(folder), "EUR", "USD", sunday)
    # as the ECB published them on Friday, 3 January 2020
    assert (found.rate, found.date, found.source) == (
        Decimal("1.1147"), date(2020, 1, 3), "ECB euro reference rates"
    )  # fmt: skip
    own = "date,base,quote,rate,source\n2020-01-03,EUR,USD,1.12,bank\n"
    (folder / "fx" / "own.csv").write_text(own)
    assert conversion(read_ledger(folder), "EUR", "USD", sunday).source == "bank"

    monkeypatch.setattr("iotbill_pipelines.config.ledger.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"ledger.yaml:1: fx_library: no package currency_conv"):
        read_ledger(folder)


# --------------------------------------------------------------------------- splits (GL-06)


def by_invoice(terms: LedgerTerms, count: int) -> PostedJournal:
    journal_type = terms.journals[0].model_copy(update={"unit": "invoice"})
    cells = [
        cell(2 * n + k, 500, unit=f"I{n:04}", account_id=f"C{n}", **product)
        for n in range(count)
        for k, product in enumerate(({}, {"product_id": "sub", "gl_class": "recurring"}))
    ]
    (draft,), _ = build_journals(cells, journal_type, OCTOBER, terms)
    return posted(draft)


def test_gl_06_a_long_journal_is_split_at_whole_invoices(terms: LedgerTerms) -> None:
    journal = by_invoice(terms, 700)
    assert len(journal.lines) == 2100
    parts = documents(journal, terms.target("sap"), terms)
    assert [len(part.lines) for part in parts] == [999, 999, 102]
    for part in parts:
        assert sum(line.debit_minor - line.credit_minor for line in part.lines) == 0
    assert [part.id for part in parts] == [f"NL01-2026-10-REVENUE-001-{n:02}" for n in (1, 2, 3)]
    assert [part.number for part in parts] == [f"NL012610REV001{n:02}" for n in (1, 2, 3)]
    assert [line for part in parts for line in part.lines] == list(journal.lines)
    assert list(export_problems(journal, terms.target("sap"), terms)) == []
    names = [file.name for file in export_files(journal, terms.target("sap"), terms)]
    assert names[0] == "NL01-2026-10-REVENUE-001-01.sap.csv"


def test_vouchers_share_files_up_to_the_file_s_limit(terms: LedgerTerms) -> None:
    target = terms.target("d365_fo").model_copy(update={"maximum_lines_per_file": 100})
    journal = by_invoice(terms, 40)
    files = export_files(journal, target, terms)
    assert [sum(len(d.lines) for d in file.documents) for file in files] == [99, 21]
    assert max(len(d.lines) for file in files for d in file.documents) == 9
    assert len({d.number for file in files for d in file.documents}) == 14


def test_what_balances_only_together_and_is_too_long_is_told(terms: LedgerTerms) -> None:
    cells = [cell(n, 1, account_id=f"C{n}") for n in range(12)]
    (draft,), _ = build_journals(cells, terms.journals[0], OCTOBER, terms)
    (problem,) = export_problems(posted(draft), terms.target("d365_fo"), terms)
    assert "13 lines that balance only together, d365_fo takes 10" in problem.message
    assert "unit: account" in problem.what_to_do


def test_the_ledger_for_dynamics_is_the_shipped_one_in_vouchers_of_an_account(
    tmp_path: Path, terms: LedgerTerms
) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "configs" / "ledger", folder)
    example = ROOT / "configs" / "examples" / "d365_fo" / "ledger.yaml"
    shutil.copy(example, folder / "ledger.yaml")
    dynamics = read_ledger(folder)
    assert {journal.unit for journal in dynamics.journals} == {"account"}
    assert dynamics.exports == ["d365_fo", "journal_xlsx"]
    whole = [journal.model_copy(update={"unit": "journal"}) for journal in dynamics.journals]
    same = {"journals": whole, "exports": terms.exports}
    assert dynamics.model_copy(update=same) == terms
    cells = [
        cell(4 * n + k, 100 + k, unit=f"C{n:04}", account_id=f"C{n:04}", product_id=f"p{k}")
        for n in range(700)
        for k in range(4)
    ]
    (draft,), _ = build_journals(cells, dynamics.journals[0], OCTOBER, dynamics)
    journal, target = posted(draft), dynamics.target("d365_fo")
    assert lint(journal, target, dynamics) == []
    parts = documents(journal, target, dynamics)
    assert {len(part.lines) for part in parts} == {10}
    assert {sum(x.debit_minor - x.credit_minor for x in part.lines) for part in parts} == {0}


# ------------------------------------------------------------------------------ the linter


def lint(journal: PostedJournal, target: ExportTarget, terms: LedgerTerms) -> list[str]:
    return [problem.message for problem in export_problems(journal, target, terms)]


@pytest.mark.parametrize("name", TARGETS)
def test_the_sample_journal_keeps_every_target_s_rules(terms: LedgerTerms, name: str) -> None:
    assert lint(a_journal(terms), terms.target(name), terms) == []


def test_every_kind_of_rule_is_checked(terms: LedgerTerms) -> None:
    journal = a_journal(terms)
    target = terms.target("sap")
    nameless = tuple(
        Line(**{**vars(line), "name": None, "account": "12-00/0000000"}) for line in journal.lines
    )
    broken = PostedJournal(**{**vars(journal), "lines": nameless})
    said = lint(broken, target, terms)
    assert any(
        "G/L Account (10) is 13 characters long ('12-00/0000000'), 10 are taken" in m for m in said
    )
    assert any("G/L Account (10) '12-00/0000000' does not look like [0-9A-Z]+" in m for m in said)
    assert any("has no name, which quickbooks wants" in m
               for m in lint(broken, terms.target("quickbooks"), terms))  # fmt: skip
    one = PostedJournal(**{**vars(journal), "lines": journal.lines[:1]})
    said = lint(one, terms.target("netsuite"), terms)
    assert "1 lines, netsuite wants at least 2" in said
    assert "debits 76001 and credits 0 differ" in said
    empty = [Entity(id="NL01", name=" ", currency="EUR")]
    said = lint(journal, terms.target("netsuite"), terms.model_copy(update={"entities": empty}))
    assert any("line 1: Subsidiary is empty" in message for message in said)
    long = [Entity(id="NETHERLANDS1", name="x", currency="EUR", code=None)]
    far = PostedJournal(**{**vars(journal), "entity_id": "NETHERLANDS1"})
    said = lint(far, target, terms.model_copy(update={"entities": long}))
    assert any("header: *Company Code (4) is 12 characters long" in message for message in said)
    assert any("Reference Document Number (16) is 22" in message for message in said)


def test_currencies_with_more_decimals_than_the_target_takes_are_told(terms: LedgerTerms) -> None:
    journal = PostedJournal(**{**vars(a_journal(terms)), "currency": "KWD"})
    assert "KWD has 3 decimals, xero takes 2" in lint(journal, terms.target("xero"), terms)


# ----------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": [{"header": "A", "field": "date", "constant": "x"}]}, "give either field"),
        ({"columns": [{"header": "A", "template": "{line.nothing}"}]}, "names line.nothing, which"),
        ({"columns": [{"header": "A", "field": "memo", "cut": True}]}, "cut goes with max_length"),
        ({"columns": [{"header": "A", "field": "memo", "pattern": "("}]}, "pattern cannot be read"),
        ({"columns": [{"header": "A", "field": "memo", "format": "YYYY"}]}, "have a format"),
        ({"format": "xlsx", "header": False}, "a workbook is a table"),
        ({"header_columns": [{"header": "A", "field": "line.memo"}]}, "not of its lines"),
        (
            {"header_columns": [{"header": "A", "field": "memo"}], "documents_per_file": "many"},
            "holds one document",
        ),
    ],
)
def test_targets_that_contradict_themselves_are_refused(change: dict[str, Any], said: str) -> None:
    usual = {"id": "x", "format": "csv", "columns": [{"header": "A", "field": "memo"}]}
    with pytest.raises(ValueError, match=said):
        ExportTarget.model_validate(usual | change)


def test_journal_types_that_contradict_themselves_are_refused(terms: LedgerTerms) -> None:
    usual = {"type": "X_Y", "level": "retail", "debit": "receivable", "credit": "revenue"}
    for change, said in (
        ({"source": "unbilled"}, "amounts reverse"),
        ({"source": "booked", "reverses": True}, "amounts reverse"),
        ({"source": "booked", "unit": "invoice"}, "goes with source: invoiced"),
        ({"source": "unbilled", "reverses": True, "level": "vendor"}, "is of level retail"),
        ({"source": "unbilled", "reverses": True, "type": "UNBILLED_X"}, "at most 8 letters"),
    ):
        with pytest.raises(ValueError, match=said):
            JournalType.model_validate(usual | change)
    revision = terms.journals[0].model_copy(update={"type": "REVERSE"})
    problems = check_ledger(terms.model_copy(update={"journals": [terms.journals[0], revision]}))
    assert "give it a code" in next(problems).rule
    problems = check_ledger(terms.model_copy(update={"exports": ["nothing"]}))
    assert "no target 'nothing'" in next(problems).rule


# --------------------------------------------------------------- worked examples of journals


GL = LedgerTerms(
    entities=[Entity(id="NL01", name="Ours", currency="EUR")],
    accounts=[GlAccount(number=n, name=n) for n in "1200 1250 2100 4000 4100 5000 9990".split()],
    suspense_account="9990",
    gl_map=[
        GlRule(role="receivable", account="1200"),
        GlRule(role="unbilled", account="1250"),
        GlRule(role="revenue", when={"gl_class": "recurring"}, account="4000"),
        GlRule(role="revenue", when={"gl_class": "usage"}, account="4100"),
    ],
    journals=[
        JournalType(type="REVENUE", level="retail", source="invoiced", debit="receivable",
                    credit="revenue"),
        JournalType(type="UNBILLED", level="retail", source="unbilled", reverses=True,
                    debit="unbilled", credit="revenue"),
    ],
)  # fmt: skip


def test_gl_07_a_credit_note_swaps_sides() -> None:
    (draft,), _ = build_journals(
        [cell(1, -8000, gl_class="recurring")], GL.journals[0], OCTOBER, GL
    )
    assert [(x.account, x.debit_minor, x.credit_minor) for x in draft.lines] == [
        ("1200", 0, 8000),
        ("4000", 8000, 0),
    ]


def test_gl_03_an_accrual_and_what_posts_it_back() -> None:
    (draft,), _ = build_journals([cell(1, 432109)], GL.journals[1], Month(2026, 3), GL)
    assert [(x.account, x.debit_minor, x.credit_minor) for x in draft.lines] == [
        ("1250", 432109, 0),
        ("4100", 0, 432109),
    ]
    back = reversed_lines(draft.lines)
    assert [(x.account, x.debit_minor, x.credit_minor) for x in back] == [
        ("1250", 0, 432109),
        ("4100", 432109, 0),
    ]
    assert reversed_lines(back) == draft.lines
