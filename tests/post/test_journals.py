"""GL mapping, balanced journals and ERP rows, on plain values."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotbill_pipelines.config.documents import ConfigError
from iotbill_pipelines.config.ledger import read_ledger
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.post.export import (
    PostedJournal,
    export_files,
    export_problems,
    export_rows,
    format_date,
)
from iotbill_pipelines.engine.post.journals import Cell, build_journals, external_id
from iotbill_pipelines.engine.post.terms import LedgerTerms, map_account

ROOT = Path(__file__).resolve().parents[2]
OCTOBER = Month(2026, 10)


@pytest.fixture(scope="module")
def terms() -> LedgerTerms:
    return read_ledger(ROOT / "configs" / "ledger")


def cell(number: int, amount: int, **values: str) -> Cell:
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


cells = st.lists(
    st.tuples(
        st.integers(-(10**12), 10**12),
        st.sampled_from(["C1", "C2", "C3"]),
        st.sampled_from(["usage", "recurring", "nowhere"]),
        st.sampled_from(["EUR", "USD"]),
    ),
    max_size=12,
)


@given(cells)
def test_every_journal_balances_and_every_cell_is_on_its_lines(
    terms: LedgerTerms, rows: list[tuple[int, str, str, str]]
) -> None:
    given_cells = [
        cell(number, amount, account_id=account, gl_class=gl_class, currency=currency)
        for number, (amount, account, gl_class, currency) in enumerate(rows, 1)
    ]
    drafts, unmapped = build_journals(given_cells, terms.journals[0], OCTOBER, terms)
    assert {found.cell for found in unmapped} == {c for c in given_cells if c.gl_class == "nowhere"}
    for draft in drafts:
        members = [c for c in given_cells if c.currency == draft.currency]
        assert sum(x.debit_minor for x in draft.lines) == sum(x.credit_minor for x in draft.lines)
        for line in draft.lines:
            assert min(line.debit_minor, line.credit_minor) == 0 < draft.total_minor
            behind = [member for member in members if line.line_no in draft.cells[member.cell_no]]
            net = line.debit_minor - line.credit_minor
            assert abs(net) == abs(sum(member.amount_minor for member in behind))
        assert set(draft.cells) == {member.cell_no for member in members}
    again, _ = build_journals(reversed(given_cells), terms.journals[0], OCTOBER, terms)
    assert [draft.content_hash for draft in again] == [draft.content_hash for draft in drafts]


def test_the_rule_with_the_most_conditions_wins(terms: LedgerTerms) -> None:
    special = terms.gl_map[2].model_copy(
        update={"when": {"gl_class": "usage", "product": "data"}, "account": "4000"}
    )
    more = terms.model_copy(update={"gl_map": [special, *terms.gl_map]})
    charge = cell(1, 1).attributes
    assert map_account(terms, "revenue", charge).account == "4100"  # type: ignore[union-attr]
    assert map_account(more, "revenue", charge).account == "4000"  # type: ignore[union-attr]
    assert map_account(terms, "revenue", {**charge, "gl_class": "other"}) is None


def test_netsuite_rows_are_those_of_the_rulebook(terms: LedgerTerms) -> None:
    (draft,), _ = build_journals([cell(1, 76001)], terms.journals[0], OCTOBER, terms)
    journal = PostedJournal(
        external_id("NL01", OCTOBER, "REVENUE", 1),
        "NL01",
        "EUR",
        OCTOBER,
        "REVENUE",
        date(2026, 10, 31),
        draft.memo,
        draft.lines,
    )
    netsuite = next(target for target in terms.targets if target.id == "netsuite")
    prefix = "Journal Entry - Line: "
    assert [column.header.removeprefix(prefix) for column in netsuite.columns] == (
        "External ID/Date/Posting Period/Subsidiary/Currency/Exchange Rate/Memo"
        "/Account/Debit/Credit/Memo/Name/Department/Class/Location"
    ).split("/")
    (file,) = export_files(journal, netsuite, terms)
    rows = export_rows(file, netsuite, terms)
    assert [[str(value or "") for value in row] for row in rows] == [
        [
            *("NL01-2026-10-REVENUE-001", "31/10/2026", "Oct 2026", "Sample Connect B.V.", "EUR"),
            *("1.00", "Connectivity revenue 2026-10", "1200 Accounts receivable", "760.01", ""),
            *("account C1", "C1", "", "", ""),
        ],
        [
            *("NL01-2026-10-REVENUE-001", "31/10/2026", "Oct 2026", "Sample Connect B.V.", "EUR"),
            *("1.00", "Connectivity revenue 2026-10", "4100 Usage revenue", "", "760.01"),
            *("product data", "", "", "Connectivity", ""),
        ],
    ]
    assert list(export_problems(journal, netsuite, terms)) == []


def test_dates_are_written_alike_on_every_machine() -> None:
    assert format_date(date(2026, 3, 5), "DD/MM/YYYY MMM YY") == "05/03/2026 Mar 26"


BROKEN = [
    (
        'account: "4100"',
        'account: "4101"',
        r"ledger.yaml:\d+: gl_map\[3\].account: account '4101' is not in accounts",
    ),
    (
        "gl_class: recurring}",
        "gl_class: usage}",
        r"ledger.yaml:\d+: gl_map\[3\]: ties with the rule revenue: gl_class=usage -> 4000",
    ),
    ("role: receivable,", "role: recievable,", "'recievable' is not allowed"),
    ('suspense_account: "9990"', 'suspense_account: "1"', r"suspense_account: account '1'"),
    ("source: booked", "sauce: booked", "did you mean 'source'"),
]


@pytest.mark.parametrize(("old", "new", "said"), BROKEN)
def test_errors_name_file_line_and_rule(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "configs" / "ledger", folder)
    file = folder / "ledger.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        read_ledger(folder)


def test_rules_that_could_both_match_tie_unless_one_takes_both(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(ROOT / "configs" / "ledger", folder)
    file = folder / "ledger.yaml"
    rule = '  - {role: revenue, when: {product: data}, account: "4100"}\n'
    text = file.read_text().replace("gl_map:\n", "gl_map:\n" + rule)
    file.write_text(text)
    with pytest.raises(ConfigError, match="ties with the rule revenue: product=data -> 4100"):
        read_ledger(folder)
    classes = ("recurring", "usage", "overage", "one_time")
    both = "".join(
        f'  - {{role: revenue, when: {{product: data, gl_class: {name}}}, account: "4100"}}\n'
        for name in classes
    )
    file.write_text(text.replace("gl_map:\n", "gl_map:\n" + both))
    assert len(read_ledger(folder).gl_map) == 21
