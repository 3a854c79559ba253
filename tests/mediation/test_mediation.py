"""Keys over months and feeds, restating feeds, sessions and counters (RULEBOOK §5)."""

from __future__ import annotations

from random import Random

import pytest

from .records import Mediated, Row, policy, record, sessions


def test_a_key_sent_again_in_the_neighbouring_month_bills_once() -> None:
    got = Mediated(
        [
            record("2026-10-31T23:59:58", 100, key="k"),
            record("2026-11-01T00:00:03", 100, key="k", file=2),
            record("2026-11-02T00:00:00", 7, key="other"),
        ]
    )
    got.check_conservation()
    assert got.quantities == [100, 7]
    assert [row["usage_month"] for row in got.conflicts] == ["2026-11"]
    assert (got.conflicts[0]["kept_file_key"], got.conflicts[0]["kept_line_no"]) == (1, 1)


def test_the_owner_of_a_key_is_the_same_from_every_month() -> None:
    """Three months in a row: each sees all versions, the least quantity holds."""
    got = Mediated(
        [
            record("2026-09-30T23:00:00", 30, key="k", file=1),
            record("2026-10-01T00:00:00", 10, key="k", file=2),
            record("2026-11-01T00:00:00", 20, key="k", file=3),
        ]
    )
    got.check_conservation()
    assert got.quantities == [10]
    assert {row["kept_file_key"] for row in got.conflicts} == {2}


def test_feeds_of_a_family_share_their_keys_and_others_do_not() -> None:
    rows = [
        record("2026-10-05T10:00:00", 50, key="k", file=1),
        record("2026-10-05T10:00:00", 50, key="k", file=2, feed_id="g"),
    ]
    assert Mediated(rows).quantities == [50, 50]
    family = [policy("f", family="carrier"), policy("g", family="carrier")]
    got = Mediated(rows, family)
    got.check_conservation()
    assert got.quantities == [50]
    assert len(got.duplicates) == 1
    assert got.duplicates[0]["reason_code"] is None


def test_the_newest_version_of_a_restating_feed_holds_whatever_its_month() -> None:
    rows = [
        record("2026-10-31T23:59:58", 100, key="k", file=5),
        record("2026-11-01T00:00:01", 140, key="k", file=6),
        record("2026-10-31T23:59:58", 100, key="k", file=7),
        record("2026-10-09T00:00:00", 9, key="untouched", file=5),
    ]
    got = Mediated(rows, [policy(restating=True)], versions={5: 1, 6: 3, 7: 2})
    got.check_conservation()
    assert got.quantities == [9, 140]
    assert sorted((r["file_key"], r["reason_code"]) for r in got.duplicates) == [
        (5, "restated"),
        (7, "restated"),
    ]
    assert {row["kept_file_key"] for row in got.duplicates} == {6}


def test_in_one_file_of_a_restating_feed_the_later_line_holds() -> None:
    rows = [
        record("2026-10-03T00:00:00", 5, key="k", line=1),
        record("2026-10-03T00:00:00", 8, key="k", line=2),
    ]
    assert Mediated(rows, [policy(restating=True)]).quantities == [8]


# ---------------------------------------------------------------- sessions


def part(at: str, quantity: int, kind: str, number: int | None = None, **more: object) -> Row:
    session = more.pop("session", "s1")
    return record(
        at,
        quantity,
        key=f"{session}/{kind}/{number}/{at}",
        session_key=session,
        part=kind,
        sequence_no=number,
        **more,
    )


def test_partial_records_make_one_event_at_the_first_of_them() -> None:
    """MD-05: complete on the final cause without a gap, in whatever order and files."""
    rows = [
        part("2026-10-03T12:00:00", 30, "stop", 3, file=1),
        part("2026-10-03T10:00:00", 10, "start", 1, file=2),
        part("2026-10-03T11:00:00", 20, "interim", 2, file=3),
    ]
    got = Mediated(rows, [sessions("sum")])
    got.check_conservation()
    assert got.quantities == [60]
    assert (got.usage[0]["file_key"], str(got.usage[0]["event_start"])) == (
        2,
        "2026-10-03 10:00:00",
    )
    assert len(got.merged) == 2
    assert sorted((r["file_key"], r["counted_quantity"]) for r in got.parts) == [
        (1, 30),
        (2, 10),
        (3, 20),
    ]
    assert {(r["event_file_key"], r["event_line_no"]) for r in got.parts} == {(2, 1)}


def test_a_gap_waits_in_suspense_until_it_times_out() -> None:
    """MD-06: released with what there is, and flagged; the missing part then changes it."""
    rows = [
        part("2026-10-03T10:00:00", 10, "start", 1),
        part("2026-10-03T12:00:00", 30, "stop", 3),
    ]
    waiting = Mediated(rows, [sessions("sum")], newest="2026-10-04T11:00:00")
    waiting.check_conservation()
    assert waiting.quantities == []
    assert len(waiting.incomplete) == 2
    assert "a part between numbers 1 and 3" in waiting.incomplete[0]["detail"]
    released = Mediated(rows, [sessions("sum")], newest="2026-10-04T12:00:01")
    released.check_conservation()
    assert released.quantities == [40]
    assert released.flags == ["timeout_release"]
    whole = Mediated([*rows, part("2026-10-03T11:00:00", 20, "interim", 2)], [sessions("sum")])
    assert whole.quantities == [60]
    assert whole.flags == [None]


def test_a_held_session_stays_in_suspense_after_its_timeout() -> None:
    rows = [part("2026-10-03T10:00:00", 10, "start", 1)]
    got = Mediated(rows, [sessions("sum", on_timeout="hold")], newest="2026-12-01T00:00:00")
    assert len(got.incomplete) == 1
    assert "has timed out" in got.incomplete[0]["detail"]


def test_a_missing_head_shows_where_the_first_number_is_declared() -> None:
    rows = [part("2026-10-03T12:00:00", 30, "stop", 2)]
    assert Mediated(rows, [sessions("sum")]).quantities == [30]
    assert Mediated(rows, [sessions("sum", first_sequence=1)]).quantities == []


def test_a_session_over_two_months_is_billed_in_the_first() -> None:
    rows = [
        part("2026-10-31T22:00:00", 10, "start", 1, file=1),
        part("2026-11-01T03:00:00", 20, "interim", 2, file=2),
        part("2026-11-01T09:00:00", 5, "stop", 3, file=3),
    ]
    got = Mediated(rows, [sessions("sum")])
    got.check_conservation()
    assert [(row["usage_month"], row["quantity"]) for row in got.usage] == [("2026-10", 35)]
    assert {row["part_month"] for row in got.parts} == {"2026-10", "2026-11"}
    assert {row["usage_month"] for row in got.parts} == {"2026-10"}


def test_time_from_invite_to_bye_and_nothing_for_a_call_without_end() -> None:
    rows = [
        part("2026-10-03T10:00:09", 0, "start", session="call1", file=1),
        part("2026-10-03T10:00:37.2", 0, "stop", session="call1", file=2),
        part("2026-10-03T10:00:10", 0, "start", session="call2", file=1),
    ]
    got = Mediated(rows, [sessions("elapsed")], newest="2026-12-01T00:00:00")
    got.check_conservation()
    assert got.quantities == [29]  # the second that had begun counts
    assert len(got.incomplete) == 1
    assert "its final record" in got.incomplete[0]["detail"]


def test_a_key_used_again_is_another_session() -> None:
    rows = [
        part("2026-10-03T10:00:00", 0, "start"),
        part("2026-10-03T11:00:00", 70, "stop"),
        part("2026-10-03T12:00:00", 0, "start"),
        part("2026-10-03T13:00:00", 30, "stop"),
        part("2026-10-09T10:00:00", 4, "interim"),
        part("2026-10-09T11:00:00", 9, "stop"),
    ]
    assert Mediated(rows, [sessions("cumulative")]).quantities == [70, 30, 9]


def test_cumulative_sessions_count_the_last_reading_and_what_a_reset_took() -> None:
    """Interim readings are cumulative: their sum over-counts (RADIUS)."""
    rows = [
        part("2026-10-03T10:00:00", 0, "start"),
        part("2026-10-03T10:30:00", 100, "interim"),
        part("2026-10-03T11:00:00", 250, "interim"),
        part("2026-10-03T11:30:00", 40, "interim"),
        part("2026-10-03T12:00:00", 60, "stop"),
    ]
    got = Mediated(rows, [sessions("cumulative")])
    got.check_conservation()
    assert got.quantities == [310]
    assert got.flags == ["counter_reset"]


def test_a_record_without_a_session_stands_alone() -> None:
    rows = [record("2026-10-03T10:00:00", 12, key="k", part="interim")]
    assert Mediated(rows, [sessions("sum")]).quantities == [12]


# ---------------------------------------------------------------- counters


def reading(at: str, quantity: int, **more: object) -> Row:
    return record(at, quantity, key=at, session_key="device", **more)


GROWTH = policy(combine="increments", counting="cumulative")


def test_counters_bill_what_they_grew_by_over_months_and_resets() -> None:
    rows = [
        reading("2026-10-30T00:00:00", 100),
        reading("2026-10-31T00:00:00", 180),
        reading("2026-11-01T00:00:00", 200),
        reading("2026-11-02T00:00:00", 15),
        reading("2026-11-03T00:00:00", 15),
    ]
    got = Mediated(rows, [GROWTH])
    got.check_conservation()
    assert got.quantities == [100, 80, 20, 15, 0]
    assert got.flags == [None, None, None, "counter_reset", None]
    baseline = Mediated(rows, [GROWTH | {"first_reading": "baseline"}])
    assert baseline.quantities == [0, 80, 20, 15, 0]
    assert baseline.flags[0] == "counter_baseline"


def test_counters_of_32_bits_wrap_each_on_its_own() -> None:
    top = 2**32
    rows = [
        reading("2026-10-01T00:00:00", top + 990, quantity_up=top - 10, quantity_down=1000),
        reading("2026-10-02T00:00:00", 1505, quantity_up=5, quantity_down=1500),
    ]
    got = Mediated(rows, [GROWTH | {"wrap_at": top}])
    assert got.quantities == [top + 990, 15 + 500]
    assert got.flags == [None, "counter_wrap"]


# ---------------------------------------------------------------- laws


def messy(chance: Random) -> list[Row]:
    """Sessions over the turn of a month, with copies, conflicts, gaps and lost ends."""
    rows = []
    for session in range(12):
        name = f"s{session}"
        hour = chance.randrange(0, 60)
        length = chance.randrange(1, 6)
        for number in range(1, length + 1):
            hour += chance.randrange(1, 6)
            day, clock = divmod(hour, 24)
            date = f"2026-10-{30 + day}" if day < 2 else f"2026-11-{day - 1:02d}"
            kind = "start" if number == 1 else "stop" if number == length else "interim"
            row = part(f"{date}T{clock:02d}:00:00", 10 * number, kind, number, session=name)
            rows += [row] * chance.choice([0, 1, 1, 1, 1, 2])
            if chance.random() < 0.1:
                rows.append(part(f"{date}T{clock:02d}:30:00", 5, kind, number, session=name)
                            | {"dedup_key": row["dedup_key"]})  # fmt: skip
    return rows


def spread(chance: Random, rows: list[Row]) -> list[Row]:
    shuffled = chance.sample(rows, len(rows))
    return [{**row, "file_key": chance.randrange(1, 5), "line_no": 0} for row in shuffled]


@pytest.mark.parametrize("counting", ["sum", "cumulative"])
@pytest.mark.parametrize("seed", range(4))
def test_order_and_files_change_nothing_and_every_record_has_one_fate(
    seed: int, counting: str
) -> None:
    chance = Random(seed)
    rows = messy(chance)
    results = []
    for _ in range(2):
        got = Mediated(spread(chance, rows), [sessions(counting)], newest="2026-11-04T00:00:00")
        got.check_conservation()
        results.append(got.comparable())
    assert results[0] == results[1]
    assert results[0][0]


@pytest.mark.parametrize("seed", range(3))
def test_keys_looked_for_in_parts_are_the_same(seed: int) -> None:
    chance = Random(seed)
    rows = spread(chance, messy(chance)) + [
        record("2026-10-31T23:59:58", number, key=f"k{chance.randrange(9)}") for number in range(20)
    ]
    whole, in_parts = (
        Mediated(rows, [sessions("sum")], newest="2026-11-04T00:00:00", groups_at_once=groups)
        for groups in (10**6, 7)
    )
    in_parts.check_conservation()
    assert len(rows) > 2 * 7
    assert in_parts.duplicates
    assert in_parts.conflicts
    assert in_parts.comparable() == whole.comparable()
