"""`iotbill feed lint`: every error at once with line and cure; risks, unless a reason is given."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotbill_pipelines.operations.feed_tools.linting import LintReport, lint
from iotbill_pipelines.operations.feed_tools.patterns import common_name
from tests.conftest import ROOT
from tests.feeds.harness import CSV_FEED

CLEAN = (
    CSV_FEED.replace('"*.csv"', '"demo_*.csv"')
    .replace("[trim, integer]", "[trim, {units: {unit: B}}]")
    .replace('["=uid_value", "=event_start"]', "[id]")
    + "expect: {min_records: 1}\n# lint: accept no_control_totals: the carrier has none\n"
)


def check(folder: Path, *texts: str) -> LintReport:
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"feed{number}.yaml"
        path.write_text(text)
        paths.append(path)
    return lint(paths)


def codes(report: LintReport) -> set[str]:
    return {note.code for note in report.notes}


def test_a_careful_feed_is_clean(tmp_path: Path) -> None:
    report = check(tmp_path, CLEAN)
    assert report.notes == ()
    assert [n.accepted for n in report.accepted] == ["the carrier has none"]


def test_errors_of_one_file_come_together_with_line_and_cure(tmp_path: Path) -> None:
    """A mapping that does not compile, an unknown column and an unknown step are three errors."""
    broken = (
        CLEAN.replace("  usage_class: {value: data}", "  usage_class: {value: data}\n  imzi: sim")
        .replace("quantity: {from: bytes", "vendor_cost: {from: bytes}\n  quantity: {from: bytes")
        .replace("expect:", "attributes: {size: {from: bytes, steps: [integer, trim]}}\nexpect:")
    )
    report = check(tmp_path, broken)
    found = {(n.key, n.line): (n.rule, n.what_to_do) for n in report.errors}
    assert found[("fields.imzi", 13)][0].startswith("is not a column of usage_record")
    assert found[("fields.vendor_cost", 14)] == (
        "a text cannot fill DECIMAL(30,12)", "end it with step decimal"
    )  # fmt: skip
    assert found[("attributes.size.steps[1]", 17)] == ("trim takes a text, but gets a integer", "")
    assert len(report.errors) == 3 and not report.warnings


def test_a_missing_field_does_not_hide_the_others(tmp_path: Path) -> None:
    lines = [
        line for line in CLEAN.splitlines()
        if not line.startswith(("  quantity:", "  uid_type:"))
    ]  # fmt: skip
    report = check(tmp_path, "\n".join(lines))
    assert [n.rule for n in report.errors] == [
        "uid_type of usage_record must be mapped",
        "quantity of usage_record must be mapped",
    ]
    assert all(n.what_to_do == "add it" for n in report.errors)


@pytest.mark.parametrize(
    ("change", "code", "key"),
    [
        (("[id]", '["=uid_value", "=event_start"]'), "no_vendor_key", "dedup.key"),
        (("zone: UTC\n", ""), "no_zone", "fields.event_start"),
        (("zone: UTC", "zone: Europe/Berlin"), "local_clock", "fields.event_start"),
        (("{units: {unit: B}}", "integer"), "unit_not_declared", "fields.quantity"),
        (("expect: {min_records: 1}", ""), "no_expectations", ""),
        (('"demo_*.csv"', '"*.csv"'), "broad_files", "files[0]"),
        (("unit: B", "unit: MB, round: up"), "rounding_per_record", "fields.quantity"),
        (
            ("min_records: 1", "max_null_percent: {apn: 1}"),
            "unknown_target",
            "expect.max_null_percent.apn",
        ),
        (("min_records: 1", "max_quantity: {sms: 1}"), "unknown_target", "expect.max_quantity.sms"),
        (("expect:", "attributes: {apn: apn}\nexpect:"), "unknown_target", "attributes.apn"),
        (
            ("expect:", "attributes: {a: {from: x, steps: [{map: {table: {a: b}, default: c}}]}}\n"
             "expect:"),
            "map_default",
            "attributes.a",
        ),
        (("[trim, imsi]", "[{iccid: {luhn: none}}]"), "check_digit_off", "fields.uid_value"),
        (("accept no_control_totals:", "accept no_zone:"), "no_control_totals", "format"),
        (("accept no_control_totals: the carrier has none", "accept no_control_totals"),
         "useless_accept", ""),
    ],
)  # fmt: skip
def test_what_is_legal_but_risky(
    tmp_path: Path, change: tuple[str, str], code: str, key: str
) -> None:
    assert change[0] in CLEAN
    report = check(tmp_path, CLEAN.replace(*change))
    assert (code, key) in {(n.code, n.key) for n in report.warnings}
    assert not report.errors and all(n.rule and n.what_to_do for n in report.warnings)


def test_units_are_asked_for_where_a_class_is_measured(tmp_path: Path) -> None:
    """A message is a message; what a branch's class is follows from the condition it stands on."""
    both = CLEAN.replace(
        "usage_class: {value: data}",
        "usage_class: {from: kind, steps: [{map: {table: {D: data, S: sms}}}]}",
    ).replace(
        "quantity: {from: bytes, steps: [trim, {units: {unit: B}}]}",
        "quantity:\n    choose:\n"
        "      - {when: {field: kind, equals: D}, from: bytes, steps: [{units: {unit: B}}]}\n"
        "      - {when: {field: kind, equals: S}, from: bytes, steps: [integer]}",
    )
    assert check(tmp_path, both).notes == ()
    swapped = both.replace("equals: S", "equals: X").replace("equals: D", "equals: S")
    swapped = swapped.replace("equals: X", "equals: D")
    assert [n.key for n in check(tmp_path, swapped).warnings] == ["fields.quantity.choose[1]"]


def test_feeds_that_could_take_the_same_file(tmp_path: Path) -> None:
    other = CLEAN.replace("id: demo", "id: other").replace("demo_*.csv", "demo_2026*.csv")
    report = check(tmp_path, CLEAN, other)
    [note] = report.notes
    assert note.code == "overlapping_files" and "'demo_2026.csv'" in note.rule
    apart = other.replace("demo_2026*.csv", "other_2026*.csv")
    assert check(tmp_path, CLEAN, apart).notes == ()


def test_one_id_belongs_to_one_feed(tmp_path: Path) -> None:
    report = check(tmp_path, CLEAN, CLEAN.replace("demo_*", "other_*"))
    assert [(n.key, n.severity) for n in report.notes] == [("id", "error")]


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ("a*.csv", "*b.csv", True), ("a*.csv", "b*.csv", False), ("a?c", "ab*", True),
        ("a[0-9]*", "ax*", False), ("*", "", True), ("a[!b]", "ab", False),
        ("a[bc]", "a[cd]", True),
    ],
)  # fmt: skip
def test_names_in_common(first: str, second: str, common: bool) -> None:
    name = common_name(first, second)
    assert (name is not None) == common
    assert name is None or (fnmatchcase(name, first) and fnmatchcase(name, second))


@settings(max_examples=200, deadline=None)
@given(st.text("ab*?.", max_size=6), st.text("ab*?.", max_size=6), st.text("ab.", max_size=6))
def test_names_in_common_are_right_and_complete(first: str, second: str, name: str) -> None:
    found = common_name(first, second)
    if found is not None:
        assert fnmatchcase(found, first) and fnmatchcase(found, second)
    elif fnmatchcase(name, first):
        assert not fnmatchcase(name, second)


def test_the_feeds_that_ship_have_nothing_to_say() -> None:
    report = lint(sorted((ROOT / "configs" / "feeds").glob("*.yaml")))
    assert [f"{n.file}:{n.line} {n.code} {n.rule}" for n in report.notes] == []


def test_records_of_one_row_need_keys_of_their_own(tmp_path: Path) -> None:
    wide = CLEAN.replace("type: delimited", "type: delimited, unpivot: [up, down]")
    abreast = CLEAN.replace("type: delimited", "type: ndjson, parallel: [time, bytes]")
    for text, told in ((wide, "$column"), (abreast, "$piece")):
        [note] = check(tmp_path, text).notes
        assert (note.code, note.what_to_do) == ("shared_key", f"add {told} to the key")
        assert not check(tmp_path, text.replace("key: [id]", f"key: [id, {told}]")).notes
