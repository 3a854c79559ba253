"""Alerts against real servers: each incident told once, again after a while, and when it clears."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.main import get_command

from iotbill_pipelines.cli.main import app
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations import incidents
from iotbill_pipelines.operations.alerts import (
    Sent,
    list_alerts,
    send_alerts,
    send_test,
)
from iotbill_pipelines.operations.close import CLOSE_STAGES
from iotbill_pipelines.operations.status import status as status_of
from iotbill_pipelines.operations.workspace import Workspace
from iotbill_pipelines.storage import ledger, statements
from tests.alerts.servers import Hook, Mailbox, mail_server, web_server

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"SMTP_PASSWORD": "p@ss/word", "HOOK_PATH": "secret-path"}


@dataclass
class Company:
    """A workspace whose time and troubles the test makes."""

    ws: Workspace
    times: list[datetime]

    def later(self, **amount: float) -> None:
        self.times.append(self.times[-1] + timedelta(**amount))

    def sql(self, statement: str, **values: object) -> None:
        with self.ws.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def policy(self, text: str) -> None:
        (self.ws.configs / "alerts.yaml").write_text(text)

    def file(self, name: str, state: str, feed: str | None = "emnify_usage", key: int = 1) -> None:
        self.sql(
            "insert into feed_file (file_key, sha256, feed_id, original_name, size_bytes,"
            " landed_at, received_day, state, error, archive_path)"
            " values (:key, :sha, :feed, :name, 10, :at, :day, :state, 'bad_footer: line 7', 'x')"
            " on conflict (file_key) do update set state = excluded.state,"
            " records_in = 0, kept = 0, ignored = 0, rejected = 0",
            key=key, sha=f"{key}", feed=feed, name=name, state=state, at=self.times[-1],
            day=self.times[-1].date(),
        )  # fmt: skip

    def gate(
        self,
        gate: str,
        severity: str,
        outcome: str = "failed",
        period: str = "2026-10",
        entity: str | None = None,
    ) -> None:
        self.sql(
            "insert into gate_result (period, gate, outcome, severity, figure, message, what_to_do,"
            " recorded_at, entity_id) values (:period, :gate, :outcome, :severity, '3 records',"
            " 'x.csv: in 5, out 2', 'ingest again', :at, :entity)",
            period=period, gate=gate, outcome=outcome, severity=severity, at=self.times[-1],
            entity=entity,
        )  # fmt: skip

    def send(self) -> list[Sent]:
        return send_alerts(self.ws, SECRETS.get)

    def codes(self) -> list[str]:
        return sorted(incident.code for incident in list_alerts(self.ws))


@pytest.fixture
def company(tmp_path: Path, postgres_url: str) -> Iterator[Company]:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs" / "feeds", configs / "feeds")
    times = [datetime(2026, 11, 3, 8, tzinfo=UTC)]
    ws = Workspace.open(
        tmp_path / "home", configs, postgres_url, clock=lambda: times[-1], migrate=True
    )
    yield Company(ws, times)
    ws.close()


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_server() as server:
        yield server


def mail_to(box: Mailbox, *recipients: str) -> str:
    return (
        f"mailto://bill:{{SMTP_PASSWORD}}@127.0.0.1:{box.port}"
        f"?from=billing@example.com&to={','.join(recipients)}&mode=insecure"
    )


Everything = Callable[..., str]


def everything_to(box: Mailbox, **more: object) -> str:
    lines = [f"{key}: {value}" for key, value in more.items()]
    return "\n".join(
        [f'channels: {{mail: "{mail_to(box, "f@example.com")}"}}', "routes: [{to: [mail]}]", *lines]
    )


def test_an_incident_is_told_once_with_figure_and_evidence_and_again_when_it_clears(
    company: Company, mail: Mailbox
) -> None:
    company.policy(everything_to(mail))
    company.gate("conservation", "block")
    assert company.send() == [Sent("mail", 1, 0, 0)]
    (recipients, message), = mail.mails  # fmt: skip
    assert recipients == ["f@example.com"]
    assert message["Subject"] == "iotbill: 1 new (conservation)"
    text = mail.texts()[0]
    for told in ("BLOCK conservation", "2026-10: x.csv: in 5, out 2", "figure: 3 records",
                 "to do: ingest again", "evidence: iotbill status 2026-10"):  # fmt: skip
        assert told in text
    assert set(mail.logins) == {("bill", "p@ss/word")}
    company.later(hours=1)
    company.gate("conservation", "block")
    assert company.send() == []
    company.gate("conservation", "info", "passed")
    assert company.send() == [Sent("mail", 0, 0, 1)]
    assert "CLEARED\n\nconservation: 2026-10" in mail.texts()[1].replace("\r", "")
    assert company.send() == []
    company.gate("conservation", "block")  # the same trouble, anew
    assert company.send() == [Sent("mail", 1, 0, 0)]


def test_what_stays_open_is_told_again_after_the_quiet_interval(
    company: Company, mail: Mailbox
) -> None:
    company.policy(everything_to(mail, repeat_after_hours=24))
    company.file("emnify_1.ndjson", "quarantined")
    company.gate("contract_ends", "warn")  # a reminder of a date, told once
    assert company.send() == [Sent("mail", 2, 0, 0)]
    company.later(hours=23)
    company.file("emnify_2.ndjson", "quarantined", key=2)
    assert company.send() == [Sent("mail", 1, 0, 0)]
    company.later(hours=1)
    assert company.send() == [Sent("mail", 0, 1, 0)]
    assert "STILL OPEN" in mail.texts()[-1] and "emnify_1.ndjson" in mail.texts()[-1]
    assert company.send() == []
    company.policy(everything_to(mail, repeat_after_hours=0))
    company.later(days=30)
    assert company.send() == []


def test_a_warning_that_turns_into_a_block_is_told_at_once(company: Company, mail: Mailbox) -> None:
    company.policy(everything_to(mail))
    company.gate("suspense", "warn")
    company.send()
    company.later(minutes=1)
    company.gate("suspense", "block")
    assert company.send() == [Sent("mail", 1, 0, 0)]
    company.later(minutes=1)
    company.gate("suspense", "warn")
    assert company.send() == []


def test_incidents_are_routed_by_code_severity_feed_and_owner(
    company: Company, mail: Mailbox, hook: Hook
) -> None:
    company.policy(
        f"""
channels:
  finance: "{mail_to(mail, "finance@example.com", "cfo@example.com")}"
  roaming: "json://127.0.0.1:{hook.port}/{{HOOK_PATH}}"
  nobody: "json://127.0.0.1:{hook.port}/nobody"
owners:
  - {{owner: roaming, feeds: ["emnify_*"]}}
  - {{owner: finance, codes: ["*"]}}
routes:
  - {{severities: [block], to: [finance]}}
  - {{owners: [roaming], to: [roaming]}}
  - {{codes: [file_unrecognised], to: [roaming, finance]}}
  - {{feeds: ["nothing_*"], to: [nobody]}}
"""
    )
    company.gate("journals", "block")
    company.gate("suspense", "warn")
    company.file("emnify_1.ndjson", "quarantined")
    company.file("bics_usage_1.csv", "quarantined", "bics_usage", 2)
    company.file("what.bin", "unrecognised", None, 3)
    assert company.send() == [Sent("finance", 2, 0, 0), Sent("roaming", 2, 0, 0)]
    recipients = [address for addresses, _ in mail.mails for address in addresses]
    assert sorted(recipients) == ["cfo@example.com", "finance@example.com"]
    ((path, call),) = hook.calls
    assert path == "/secret-path"
    assert call["title"] == "iotbill: 2 new"
    assert call["type"] == "warning"
    assert "WARN file_quarantined [roaming]: emnify_1.ndjson" in call["message"]
    assert "what.bin" in call["message"]
    assert "bics_usage_1.csv" not in call["message"]
    told = {(one.code, one.subject.split()[0]): one for one in list_alerts(company.ws)}
    assert {key: one.channels for key, one in told.items()} == {
        ("journals", "2026-10"): ("finance",),
        ("suspense", "2026-10"): (),
        ("file_quarantined", "emnify_1.ndjson"): ("roaming",),
        ("file_quarantined", "bics_usage_1.csv"): (),
        ("file_unrecognised", "what.bin"): ("roaming", "finance"),
    }


def test_many_incidents_are_one_message_that_stays_readable(
    company: Company, mail: Mailbox
) -> None:
    company.policy(everything_to(mail, most_listed=10))
    for number in range(300):
        company.file(f"emnify_{number:03}.ndjson", "quarantined", key=number)
    company.gate("tie_out", "block")
    assert company.send() == [Sent("mail", 301, 0, 0)]
    (text,) = mail.texts()
    assert text.index("tie_out") < text.index("emnify_000")
    assert text.count("evidence:") == 10
    assert "... and 291 more: iotbill alerts list" in text
    company.sql("update feed_file set state = 'landed'")
    assert company.send() == [Sent("mail", 0, 0, 300)]
    assert "... and 290 more" in mail.texts()[1]


def test_a_channel_that_fails_is_tried_later_and_holds_up_no_other(
    company: Company, mail: Mailbox, hook: Hook
) -> None:
    company.policy(
        f'channels: {{mail: "{mail_to(mail, "f@example.com")}",'
        f' hook: "json://127.0.0.1:{hook.port}/{{HOOK_PATH}}"}}\nroutes: [{{to: [hook, mail]}}]'
    )
    hook.status = 500
    company.file("emnify_1.ndjson", "quarantined")
    told, failed = company.send()
    assert told == Sent("mail", 1, 0, 0)
    assert failed.channel == "hook"
    assert "500" in (failed.error or "")
    assert "secret-path" not in (failed.error or "")
    assert company.send() == []  # the first pause is a minute
    company.later(minutes=1)
    assert [one.channel for one in company.send()] == ["hook"]
    company.later(minutes=1)
    assert company.send() == []  # the second is two
    assert send_alerts(company.ws, SECRETS.get, now_or_never=True)[0].error
    hook.status = 200
    company.file("emnify_1.ndjson", "ingested")
    company.file("emnify_2.ndjson", "quarantined", key=2)
    company.later(hours=1)
    assert company.send() == [Sent("mail", 1, 0, 1), Sent("hook", 1, 0, 0)]
    assert len(hook.calls) == 1
    assert "emnify_1" not in hook.calls[0][1]["message"]


def test_mail_that_is_refused_and_secrets_that_are_not_set_are_told(
    company: Company, mail: Mailbox
) -> None:
    company.policy(everything_to(mail))
    assert send_test(company.ws, SECRETS.get) == [Sent("mail", 0, 0, 0)]
    assert "alerts of iotbill arrive here" in mail.texts()[0]
    mail.refusing = True
    assert (send_test(company.ws, SECRETS.get, "mail")[0].error or "") != ""
    (unset,) = send_test(company.ws, {}.get)
    assert unset.error == "the environment variable SMTP_PASSWORD is not set; channel mail needs it"
    with pytest.raises(ValueError, match="there is no channel 'x'; there are: mail"):
        send_test(company.ws, SECRETS.get, "x")


def test_closed_books_and_waived_gates_alarm_nobody(company: Company) -> None:
    company.gate("conservation", "block", period="2026-08")
    company.gate("conservation", "block", period="2026-09")
    company.sql("insert into legal_entity values ('NL01', 'Ours', 'EUR')")
    for period in ("2026-08", "2026-09"):
        company.sql(
            "insert into period (entity_id, period, state, changed_at)"
            " values ('NL01', :period, 'open', now())",
            period=period,
        )
    for state in ("soft_closed", "in_review", "closed"):
        with Session(company.ws.engine) as session, session.begin():
            ledger.set_period_state(
                session, "NL01", Month(2026, 8), state, actor="ann", at=company.times[-1]
            )
    assert [one.subject for one in list_alerts(company.ws)] == ["2026-09"]
    company.sql(
        "insert into gate_result (period, gate, outcome, severity, message, recorded_at, waived_by,"
        " waive_reason) values ('2026-09', 'conservation', 'waived', 'block', 'x', now(), 'Ann',"
        " 'known')"
    )
    assert list_alerts(company.ws) == []
    assert len(list_alerts(company.ws, cleared=True)) == 1


def test_a_gate_of_each_entity_fails_until_it_passes_for_that_entity(company: Company) -> None:
    for entity in ("DE01", "NL01"):
        company.sql("insert into legal_entity values (:entity, 'Ours', 'EUR')", entity=entity)

    def standing() -> tuple[list[str], str]:
        (month,) = status_of(company.ws, Month(2026, 10)).months
        (told,) = [gate.outcome for gate in month.gates if gate.gate == "gl_balances"]
        (listed,) = [one.outcome for one in month.checklist if one.gate == "gl_balances"]
        assert told == listed
        return [one.subject for one in list_alerts(company.ws)], told

    company.gate("gl_balances", "block", entity="DE01")
    company.gate("gl_balances", "info", "passed", entity="NL01")
    assert standing() == (["2026-10 DE01"], "failed")
    company.gate("gl_balances", "info", "passed", entity="DE01")
    assert standing() == ([], "passed")


def test_a_run_that_broke_is_an_incident_until_one_succeeds(company: Company) -> None:
    insert = (
        "insert into run (run_id, kind, period, started_at, status, actor, code_version, detail)"
        " values (:id, 'close', '2026-10', :at, :status, 'x', 'x', cast(:detail as jsonb))"
    )
    company.sql(
        insert, id="a", at=company.times[-1], status="failed",
        detail='{"stage": "rate_usage", "error": "disk full"}',
    )  # fmt: skip
    (incident,) = list_alerts(company.ws)
    assert (incident.code, incident.severity) == ("run_failed", "block")
    assert "2026-10 stopped at rate_usage: disk full" in incident.message
    company.later(hours=1)
    company.sql(insert, id="b", at=company.times[-1], status="succeeded", detail=None)
    assert list_alerts(company.ws) == []


def test_missing_deliveries_by_day_and_by_number(company: Company) -> None:
    (company.ws.configs / "deliveries.yaml").write_text(
        r"""
deliveries:
  - {feed: emnify_usage, name: 'emnify_(?P<day>\d{8})', due: {days: 1, hour: 6}}
  - feed: bics_usage
    name: 'bics_(?P<day>\d{8})_(?P<number>\d+)'
    files: 2
    due: {days: 0, hour: 23}
    until: 2026-11-01
  - {feed: telfix_usage, name: 'telfix_(?P<day>\d{8})', every: weekday, since: 2026-10-30}
"""
    )
    names = ["emnify_20261028.ndjson", "emnify_20261101.ndjson"]
    names += ["bics_20261031_001.csv", "bics_20261031_002.csv"]
    names += ["bics_20261101_001.csv", "bics_20261101_004.csv"]
    for key, name in enumerate(names):
        company.file(name, "landed", f"{name.split('_')[0]}_usage", key)
    found = {one.feed_id: one for one in list_alerts(company.ws)}
    # 3 November, 08:00: emnify's 2 November is due since 06:00, telfix's Monday at noon
    emnify = [one for one in list_alerts(company.ws) if one.feed_id == "emnify_usage"]
    assert sorted((one.subject, one.figure) for one in emnify) == [
        ("since 2026-10-29", "3 files"),
        ("since 2026-11-02", "1 files"),
    ]
    assert "0 of 3 files came for 2026-10-29 to 2026-10-31" in max(o.message for o in emnify)
    assert "left out: 2026-11-01 no. 2, 2026-11-01 no. 3" in found["bics_usage"].message
    assert found["telfix_usage"].subject == "since 2026-10-30"  # a Friday; the weekend is free
    company.later(hours=5)
    assert "0 of 2 files came for 2026-10-30 to 2026-11-02" in next(
        one.message for one in list_alerts(company.ws) if one.feed_id == "telfix_usage"
    )
    company.file("emnify_20261102.ndjson", "quarantined", key=20)  # it came, though unread
    assert sorted(one.code for one in list_alerts(company.ws) if one.feed_id == "emnify_usage") == [
        "delivery_missing",
        "file_quarantined",
    ]


def test_a_file_without_its_companion_is_told_after_its_grace_and_clears(
    company: Company, mail: Mailbox
) -> None:
    company.policy(everything_to(mail, companion_grace_minutes=90))
    company.file("use_1.csv", "landed")
    company.sql("update feed_file set error = :waits", waits=statements.WAITING)
    company.later(minutes=89)
    assert company.send() == []
    company.later(minutes=1)
    assert company.send() == [Sent("mail", 1, 0, 0)]
    assert "use_1.csv came on 2026-11-03 08:00 UTC without the companion" in mail.texts()[0]
    company.file("use_1.csv", "ingested")
    assert company.send() == [Sent("mail", 0, 0, 1)]


def test_sources_that_cannot_be_reached_have_their_grace(company: Company) -> None:
    (company.ws.configs / "sources").mkdir()
    (company.ws.configs / "sources" / "a.yaml").write_text("id: a\nurl: file:///srv/a\n")
    company.sql(
        "insert into remote_source (source_id, polled_at, succeeded_at, error, refused)"
        " values ('a', :now, :ok, 'a cannot be reached', array['''../x'': leads outside']),"
        " ('removed', :now, null, 'gone', '{}')",
        now=company.times[-1], ok=company.times[-1] - timedelta(minutes=14),
    )  # fmt: skip
    assert company.codes() == ["source_name_refused"]
    company.later(minutes=1)
    assert company.codes() == ["source_name_refused", "source_unreachable"]
    company.sql("update remote_source set error = null, refused = '{}'")
    assert company.codes() == []


def test_claims_near_their_deadline_and_variances_over_tolerance(company: Company) -> None:
    company.sql("insert into legal_entity values ('NL01', 'Ours', 'EUR')")
    for number, (deadline, status) in enumerate(
        [
            (date(2026, 11, 17), "open"),
            (date(2026, 11, 18), "open"),
            (date(2026, 11, 2), "open"),
            (date(2026, 11, 2), "sent"),
        ]
    ):
        company.sql(
            "insert into dispute (dispute_id, entity_id, accounting_period, usage_period,"
            " vendor_id, charge_code, cause, currency, billed_minor, expected_minor,"
            " difference_minor, evidence, deadline, status, opened_at, updated_at)"
            " values (:id, 'NL01', '2026-10', '2026-10',"
            " 'bics', :id, 'rate', 'EUR', 500, 95, 405, 'x', :deadline, :status, now(), now())",
            id=f"d{number}", deadline=deadline, status=status,
        )  # fmt: skip
    found = {one.subject: one for one in list_alerts(company.ws)}
    assert {(one.severity, one.figure) for one in found.values()} == {
        ("block", "EUR 4.05"),
        ("warn", "EUR 4.05"),
    }
    assert set(found) == {"bics 2026-11-17 EUR", "bics 2026-11-02 EUR"}
    assert "had to be sent by 2026-11-02" in found["bics 2026-11-02 EUR"].message
    assert found["bics 2026-11-02 EUR"].evidence == (
        "iotbill dispute list --vendor bics --status open"
    )
    company.sql("insert into run (run_id, kind, started_at, status, actor, code_version)"
                " values ('r', 'close', now(), 'started', 'a', 'c')")  # fmt: skip
    for vendor, variance in (("bics", 51), ("emnify", 50), ("xl", -51)):
        company.sql(
            "insert into vendor_reconciliation (entity_id, accounting_period, vendor_id, currency,"
            " expected_minor, invoiced_minor, variance_minor, tolerated_minor, disputed_minor,"
            " unexplained_minor, lines, matched_lines, status, run_id, reconciled_at)"
            " values ('NL01', '2026-10', :vendor, 'EUR', 1000, 1000 + :variance, :variance, 0, 0,"
            " 0, 1, 0, 'disputed', 'r', now())",
            vendor=vendor, variance=variance,
        )  # fmt: skip
    told = [one for one in list_alerts(company.ws) if one.code == "vendor_variance"]
    assert [(one.subject, one.figure) for one in sorted(told, key=lambda one: one.subject)] == [
        ("2026-10 bics EUR", "EUR 0.51"),
        ("2026-10 xl EUR", "EUR -0.51"),
    ]
    company.policy("variance_percent: 4.9")
    codes = [one.code for one in list_alerts(company.ws)]
    assert codes.count("vendor_variance") == 3


def test_slack_hears_of_an_incident_and_of_its_end(
    company: Company, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{hook.port}/services")
    hook.answer = b"ok"  # what Slack says to a message that it takes
    parts = {"SLACK_A": "T1JJ3T3L2", "SLACK_B": "A1BRTD4JD", "SLACK_C": "TIiajkdnlazkcOXrIdevi7FQ"}
    company.policy(
        'channels: {chat: "slack://{SLACK_A}/{SLACK_B}/{SLACK_C}/#roaming"}\nroutes: [{to: [chat]}]'
    )
    company.file("emnify_1.ndjson", "quarantined")
    assert send_alerts(company.ws, parts.get) == [Sent("chat", 1, 0, 0)]
    company.file("emnify_1.ndjson", "ingested")
    assert send_alerts(company.ws, parts.get) == [Sent("chat", 0, 0, 1)]
    (path, opened), (_, cleared) = hook.calls
    assert path == "/services/" + "/".join(parts.values())
    assert opened["channel"] == "#roaming"
    assert "emnify_1.ndjson could not be used" in str(opened)
    assert "CLEARED" in str(cleared)


def test_a_customer_whose_sims_cost_more_than_it_pays(company: Company) -> None:
    """Told once its margin turns negative, cleared when it is not any more."""
    company.sql("insert into legal_entity values ('NL01', 'Ours', 'EUR')")
    company.sql(
        "insert into run (run_id, kind, started_at, status, actor, code_version)"
        " values ('r', 'close', now(), 'started', 'a', 'c')"
    )
    company.sql(
        "insert into period (entity_id, period, state, changed_at)"
        " values ('NL01', '2026-10', 'open', now())"
    )
    number = iter(range(1, 20))

    def book(level: str, service: str, account: str, minor: int) -> None:
        company.sql(
            "insert into booked_charge (id, entry_no, run_id, level, entity_id, account_id,"
            " service_id, charge_id, product_id, kind, gl_class, tax_code, usage_period,"
            " billing_period, accounting_period, records, quantity, currency, amount_minor, reason,"
            " cause, price_ids, booked_at) values (:id, 1, 'r', :level, 'NL01', :account, :service,"
            " 'c' || :id, 'p', 'usage', 'usage', 'standard', '2026-10', '2026-10', '2026-10', 1, 1,"
            " 'EUR', :minor, 'initial', 'test', '', now())",
            id=next(number), level=level, account=account, service=service, minor=minor,
        )  # fmt: skip

    book("retail", "S1", "C1", 3_50)
    book("retail", "S2", "C2", 3_50)
    book("vendor", "S1", "V", 2_40)
    book("vendor", "S2", "V", 2_40)
    assert "margin_negative" not in company.codes()
    book("vendor", "S2", "V", 3_70)
    (told,) = [one for one in list_alerts(company.ws) if one.code == "margin_negative"]
    assert (told.subject, told.figure, told.severity) == ("2026-10 C2", "EUR -2.60", "warn")
    assert told.evidence == "iotbill margins 2026-10 --by sim --negative --customer C2"
    book("retail", "S2", "C2", 2_60)
    assert "margin_negative" not in company.codes()
    book("vendor", "S3", "V", 2)  # nobody is billed for it: its holder bears it
    company.sql(
        "insert into reference_service (service_id, account_id, known_from, source)"
        " values ('S3', 'C2', now(), 'test')"
    )
    (told,) = [one for one in list_alerts(company.ws) if one.code == "margin_negative"]
    assert told.figure == "EUR -0.02"


def test_commands_that_lead_to_evidence_are_there() -> None:
    """Of incidents in general by reading the source, of gates by their table."""
    source = Path(incidents.__file__).read_text()
    named = set(re.findall(r"iotbill ((?:[a-z][a-z-]+ ?){1,2})", source))
    root = get_command(app)
    for words in sorted(named):
        command, steps = root, words.split()
        while steps and hasattr(command, "commands"):
            assert steps[0] in command.commands, words
            command = command.commands[steps.pop(0)]
        assert words == "close " or not hasattr(command, "commands"), words
    gates = {gate.code for stage in CLOSE_STAGES for gate in stage.gates}
    assert set(incidents._SHOWN_BY) <= gates
    for shown in incidents._SHOWN_BY.values():
        command, steps = root, shown.format(period="2026-10").split()[1:]
        while hasattr(command, "commands"):
            command = command.commands[steps.pop(0)]
        assert command.make_context("it", steps)  # what is missing or unknown would be an error
