"""Messages: who gets which, recording them before they are sent, and sending each once.

They go to a real web server and a real mail server.
"""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all, fetch_one
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.messages import (
    Event,
    Message,
    MessagesError,
    Outcome,
    Service,
    Services,
    batches_ended_badly,
    find_services,
    record_message,
    recorded_keys,
    send_due,
    stuck_jobs,
    waiting_batches,
)
from irp_pipeline.helpers.messages.sending import FIRST_PAUSE_SECONDS, GIVEN_UP_SECONDS
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.made_up_cycle import make_batch, workbook
from irp_pipeline_tests.support.message_servers import SECRET, MailServer, WebServer, mail_server, web_server

FAILED = Message(key="run/1f0c/failed", event=Event.FAILED, title="Q1-2024 failed", body="No <event>\nirp history")


@pytest.fixture(autouse=True)
def _empty(test_schema: str) -> Iterator[None]:
    yield
    execute_command("DELETE FROM irp_message")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def services(monkeypatch: pytest.MonkeyPatch, value: str) -> Services:
    monkeypatch.setenv("IRP_MESSAGES", value)
    found = find_services()
    assert found is not None
    return found


def send(to: Services) -> Outcome:
    outcome = Outcome()
    send_due(to.usable, time.monotonic() + 60, outcome)
    return outcome


def only_row() -> dict[str, Any]:
    row = fetch_one("SELECT *, extract(epoch FROM due_ts - clock_timestamp())::float8 AS pause FROM irp_message")
    assert row is not None
    return row


# --- who gets which -----------------------------------------------------------------------------------------------


def test_without_a_setting_there_are_no_services(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("IRP_MESSAGES", raising=False)
    assert find_services() is None


def test_tags_say_which_service_gets_what(monkeypatch: pytest.MonkeyPatch):
    found = services(
        monkeypatch, "failed,stuck=json://127.0.0.1/a mailto://127.0.0.1?from=a@example.com finished=json://127.0.0.1/b"
    )
    assert found.problems == ()
    assert found.told(Event.FAILED) == ["json 1", "mailto 1"]
    assert found.told(Event.FINISHED) == ["mailto 1", "json 2"]
    assert found.told(Event.STUCK) == ["json 1", "mailto 1"]


@pytest.mark.parametrize(
    "content",
    [
        "# of the team\nfailed=json://127.0.0.1/a\njson://127.0.0.1/b\n",
        "urls:\n  - json://127.0.0.1/a:\n      tag: failed\n  - json://127.0.0.1/b\n",
    ],
    ids=["text", "YAML"],
)
def test_a_configuration_of_apprise_can_be_named_instead(content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "people"
    file.write_text(content)
    found = services(monkeypatch, str(file))
    assert found.problems == ()
    assert found.told(Event.FAILED) == ["json 1", "json 2"]
    assert found.told(Event.STUCK) == ["json 2"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"nosuch://{SECRET}", "is not a URL that apprise can use"),
        (f"slack://{SECRET}", "is not a URL that apprise can use"),
        (f"{SECRET}:://x", "is not a URL that apprise can use"),
        (f"broken=json://127.0.0.1/{SECRET}", "has tags, but none of failed, finished, stuck"),
    ],
)
def test_a_wrong_url_is_named_by_its_place_without_its_content_and_the_others_work(
    entry: str, problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG):
        found = services(monkeypatch, f"json://127.0.0.1/a {entry}")
    assert [service.name for service in found.usable] == ["json 1"]
    (told,) = found.problems
    assert told.startswith(f"Entry 2 of IRP_MESSAGES {problem}")
    assert SECRET not in told + caplog.text


def test_a_wrong_file_is_told_without_its_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(MessagesError, match="No such file") as caught:
        services(monkeypatch, str(tmp_path / SECRET))
    assert SECRET not in str(caught.value)
    file = tmp_path / "people"
    file.write_text(f"json://127.0.0.1/a\nslack://{SECRET}\n")
    with caplog.at_level(logging.DEBUG):
        found = services(monkeypatch, str(file))
    assert [service.name for service in found.usable] == ["json 1"]
    assert len(found.problems) == 1
    assert SECRET not in found.problems[0] + caplog.text


# --- sending ------------------------------------------------------------------------------------------------------


def test_a_message_arrives_once_by_the_web_and_by_mail(
    web: WebServer, mail: MailServer, monkeypatch: pytest.MonkeyPatch
):
    both = services(monkeypatch, f"{web.url} {mail.url}")
    assert record_message(FAILED, both.told(Event.FAILED)) == 2
    assert record_message(FAILED, both.told(Event.FAILED)) == 0
    assert recorded_keys([FAILED.key, "run/other/failed"]) == {FAILED.key}
    assert send(both) == Outcome(2, {})
    assert send(both) == Outcome(0, {})
    (posted,) = web.posted
    assert (posted["title"], posted["message"]) == (FAILED.title, FAILED.body)
    ((recipients, received),) = mail.mails
    assert recipients == ["risk@example.com"]
    assert received["Subject"] == FAILED.title
    plain = received.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().split() == FAILED.body.split()


def test_two_senders_at_once_send_a_message_once(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    to = services(monkeypatch, web.url)
    for number in range(10):
        record_message(Message(key=str(number), event=Event.FAILED, title=str(number), body="failed"), ["json 1"])
    together = threading.Barrier(4)
    outcomes = [Outcome() for _ in range(4)]
    schema = get_current_schema()

    def work(outcome: Outcome) -> None:
        with schema_context(schema):
            together.wait()
            send_due(to.usable, time.monotonic() + 60, outcome)

    threads = [threading.Thread(target=work, args=(outcome,)) for outcome in outcomes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(posted["title"]) for posted in web.posted) == list(range(10))
    assert sum(outcome.sent for outcome in outcomes) == 10


def test_nobody_else_sends_a_message_while_it_is_being_sent(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    to = services(monkeypatch, web.url)
    record_message(FAILED, ["json 1"])
    meanwhile: list[Outcome] = []
    schema = get_current_schema()

    def other_sender() -> None:
        with schema_context(schema):
            meanwhile.append(send(to))

    web.on_post = other_sender
    assert send(to).sent == 1
    assert meanwhile == [Outcome(0, {})]
    assert len(web.posted) == 1


def test_a_sender_may_be_killed_at_any_point_and_the_message_still_arrives(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
):
    to = services(monkeypatch, web.url)
    arrivals = []
    for point in range(1, 100):
        web.posted.clear()
        record_message(FAILED, ["json 1"])
        died = dies(lambda: send(to), point, also=[(Service, "send")])
        arrived = len(web.posted)
        claimed = only_row()["status"] == "SENDING"
        assert send(to).sent == int(died and arrived == 0 and not claimed)  # a claim holds until its deadline
        if claimed:
            assert len(web.posted) == arrived
            execute_command("UPDATE irp_message SET due_ts = clock_timestamp()")
            assert send(to).sent == 1
            assert web.posted[-1]["message"].endswith("Sent in attempt 2: it may have arrived before.")
        assert only_row()["status"] == "SENT"
        arrivals.append(len(web.posted))
        execute_command("DELETE FROM irp_message")
        if not died:
            break
    assert arrivals[-1] == 1
    assert set(arrivals) == {1, 2}  # twice only if it was killed after it was taken and before that was noted


def test_a_service_that_is_away_is_tried_again_after_a_growing_pause_and_does_not_hold_up_others(
    web: WebServer, mail: MailServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    web.status = 503
    both = services(monkeypatch, f"{web.url} {mail.url}")
    record_message(FAILED, ["json 1", "mailto 1"])
    pauses = []
    for attempt in range(1, 4):
        with caplog.at_level(logging.DEBUG):
            outcome = send(both)
        assert outcome.problems == {"json 1": "the service answered with status 503"}
        assert outcome.sent == int(attempt == 1)
        assert send(both) == Outcome(0, {})
        row = fetch_one(
            "SELECT status, attempts, extract(epoch FROM due_ts - clock_timestamp())::float8 AS pause, problem "
            "FROM irp_message WHERE service = 'json 1'"
        )
        assert row is not None
        assert (row["status"], row["attempts"]) == ("WAITING", attempt)
        pauses.append(row["pause"])
        execute_command("UPDATE irp_message SET due_ts = clock_timestamp() WHERE status = 'WAITING'")
    assert [round(pause / FIRST_PAUSE_SECONDS) for pause in pauses] == [1, 2, 4]
    assert len(mail.mails) == 1
    assert SECRET not in caplog.text
    web.status = 200
    assert send(both).sent == 1


def test_messages_for_a_service_that_failed_wait_together(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    web.status = 500
    to = services(monkeypatch, web.url)
    for number in range(3):
        record_message(Message(key=str(number), event=Event.STUCK, title="", body="stuck"), ["json 1"])
    send(to)
    send(to)
    assert len(web.posted) == 1


def test_after_a_day_a_message_is_given_up(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    web.status = 500
    to = services(monkeypatch, web.url)
    record_message(FAILED, ["json 1", "json 2"])
    send(to)
    execute_command(
        "UPDATE irp_message SET created_ts = created_ts - make_interval(secs => %s), due_ts = clock_timestamp()",
        (GIVEN_UP_SECONDS + 1,),
    )
    assert send(to) == Outcome(0, {})
    assert len(web.posted) == 1
    assert fetch_all("SELECT service, status, problem FROM irp_message ORDER BY service") == [
        {"service": "json 1", "status": "FAILED", "problem": "the service answered with status 500"},
        {"service": "json 2", "status": "FAILED", "problem": "it was not sent in time"},
    ]


@pytest.mark.parametrize("scheme", ["json://127.0.0.1:{}/x", "mailto://127.0.0.1:{}?from=a@example.com&cto=300"])
def test_a_service_that_does_not_answer_takes_seconds(scheme: str, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = services(monkeypatch, scheme.format(silent.getsockname()[1]))
        record_message(FAILED, [to.usable[0].name])
        began = time.monotonic()
        assert list(send(to).problems.values()) == ["the service did not take it"]
        assert time.monotonic() - began < 15


# --- what no run tells --------------------------------------------------------------------------------------------


@pytest.fixture
def batch(own_files: None) -> int:
    """A batch of three jobs that were submitted just now; none has begun."""
    batch_id = make_batch("Q1-2024", workbook())
    execute_command("UPDATE irp_batch SET status = 'ACTIVE', submitted_ts = now() WHERE id = %s", (batch_id,))
    execute_command("UPDATE irp_job SET status = 'SUBMITTED', submitted_ts = now() WHERE batch_id = %s", (batch_id,))
    return batch_id


def begin(analysis: str, heartbeat_seconds: float, seconds: float) -> None:
    """Let a job have begun a while ago."""
    execute_command(
        """
        UPDATE irp_job j SET status = 'RUNNING', lease_token = 'token', host = 'calc-3', pid = 1, pid_started = '1',
               heartbeat_ts = now() - make_interval(secs => %s), begun_ts = now() - make_interval(secs => %s)
          FROM irp_job_configuration c
         WHERE c.id = j.job_configuration_id AND c.job_configuration_data ->> 'name' = %s
        """,
        (heartbeat_seconds, seconds, analysis),
    )


def test_a_job_is_stuck_if_it_is_not_heard_of_or_takes_long(batch: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_JOB_HOURS", "2")
    assert stuck_jobs() == []
    begin("property_wind", 5, 3000)
    assert stuck_jobs() == []
    begin("commercial_wind", 400, 3000)
    begin("property_stress", 5, 3700)
    found = {job.analysis: job for job in stuck_jobs()}
    assert {name: (job.is_silent, round(job.seconds), job.host) for name, job in found.items()} == {
        "commercial_wind": (True, 400, "calc-3"),
        "property_stress": (False, 3700, "calc-3"),
    }
    assert {job.cycle_name for job in found.values()} == {"Q1-2024"}
    execute_command("UPDATE irp_job SET status = 'FAILED'")
    assert stuck_jobs() == []


def test_a_batch_is_stuck_if_its_jobs_wait_and_none_is_at_work(batch: int):
    assert waiting_batches() == []
    execute_command("UPDATE irp_job SET submitted_ts = now() - interval '61 minutes'")
    (waiting,) = waiting_batches()
    assert (waiting.batch_id, waiting.cycle_name, waiting.jobs) == (batch, "Q1-2024", 3)
    begin("property_wind", 5, 60)
    assert waiting_batches() == []


def test_batches_that_ended_badly_since_a_time_are_found(batch: int):
    execute_command("UPDATE irp_job SET status = 'FAILED', error_message = 'no such event'")
    execute_command("UPDATE irp_batch SET status = 'FAILED', completed_ts = now() WHERE id = %s", (batch,))
    at = execute_scalar("SELECT completed_ts FROM irp_batch WHERE id = %s", (batch,))
    (bad,) = batches_ended_badly(at - (at - at.replace(year=at.year - 1)))
    assert (bad.batch_id, bad.status, bad.jobs, bad.error) == (batch, BatchStatus.FAILED, 3, "no such event")
    assert batches_ended_badly(at) == []


def test_a_setting_of_the_ui_that_holds_a_password_is_refused_without_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_UI_URL", f"https://ada:{SECRET}@irp.example.com")
    with pytest.raises(settings.SettingsError, match="IRP_UI_URL") as caught:
        settings.ui_url()
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("IRP_UI_URL", "https://irp.example.com/")
    assert settings.ui_url() == "https://irp.example.com"
