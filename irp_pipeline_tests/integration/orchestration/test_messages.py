"""The sensor that sends messages, with real runs in a Dagster instance and a web server that takes the messages."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, SkipReason, build_sensor_context

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.batch import list_batches
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.messages import MessagesError
from irp_pipeline.helpers.result import get_results
from irp_pipeline.helpers.sign_off import approve, find_sign_off, reject
from irp_pipeline.orchestration import sensors
from irp_pipeline.report.display import amount
from irp_pipeline_tests.support.made_up_cycle import record_exposure, record_results
from irp_pipeline_tests.support.message_servers import SECRET, WebServer, web_server
from irp_pipeline_tests.support.small_engine import CYCLE, Launcher, cycle_id

UI = "https://irp.example.com"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, test_schema: str) -> Iterator[WebServer]:
    """A web server that is told everything. Other tests' schemas, on the same server, are not looked at."""
    monkeypatch.setattr(sensors, "list_initialised_schemas", lambda: [test_schema])
    monkeypatch.setenv("IRP_UI_URL", f"{UI}/")
    with web_server() as server:
        monkeypatch.setenv("IRP_MESSAGES", server.url)
        yield server
    execute_command("DELETE FROM irp_message")
    execute_command("DELETE FROM irp_cycle")


class Sensor:
    """The sensor with its cursor, which begins when it is first asked."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.cursor: str | None = None
        self._instance = instance

    def tick(self, cursor: str | None = None) -> str:
        with build_sensor_context(
            instance=self._instance, definitions=definitions, cursor=cursor or self.cursor, sensor_name="messages"
        ) as context:
            result = sensors.messages(context)
            assert isinstance(result, SkipReason)
            self.cursor = context.cursor
        return result.skip_message or ""


@pytest.fixture
def sensor(instance: DagsterInstance) -> Sensor:
    return Sensor(instance)


def test_a_failed_run_is_told_once_with_the_step_the_reason_and_what_to_do(
    web: WebServer, sensor: Sensor, launch: Launcher, test_schema: str
):
    assert not launch(cycle="Q1-2041").success  # before messages were switched on
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    before = sensor.cursor
    result = launch(cycle="Q1-2042")
    assert not result.success
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    assert sensor.tick(before) == "Sent 0 messages; 0 problems"  # the daemon died before it kept the cursor
    (posted,) = web.posted
    assert posted["title"] == "Q1-2042 failed at setup.initialize_environment"
    lines = posted["message"].splitlines()
    assert lines[0] == f"Job run_cycle, schema {test_schema}."
    assert lines[1].startswith("There is no cycle 'Q1-2042'")
    assert lines[-3:] == [
        f"Why: irp history Q1-2042 --db-schema {test_schema} --full",
        f"Once it is mended: irp run Q1-2042 --db-schema {test_schema}",
        f"The run: {UI}/runs/{result.run_id}",
    ]
    assert SECRET not in json.dumps(fetch_all("SELECT to_jsonb(m) AS row FROM irp_message m"), default=str)


def test_a_finished_cycle_is_told_with_its_report_and_a_step_alone_is_not(
    web: WebServer, sensor: Sensor, launch: Launcher, folder: Any, test_schema: str
):
    sensor.tick()
    result = launch()
    assert result.success
    assert launch(only="control_totals").success
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    (posted,) = web.posted
    assert posted["title"] == f"{CYCLE} is complete"
    assert posted["message"].splitlines() == [
        f"Schema {test_schema}.",
        f"Report: {folder / 'report' / 'report.html'}",
        f"To see it: irp report {CYCLE} --db-schema {test_schema} --open",
        f"The run: {UI}/runs/{result.run_id}",
    ]


def test_the_message_about_a_finished_cycle_has_its_main_figures(
    web: WebServer, sensor: Sensor, launch: Launcher, finished: int, test_schema: str
):
    record_exposure(CYCLE)
    record_results(CYCLE, finished)
    sensor.tick()
    assert launch(only="cycle_report").success
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    (posted,) = web.posted
    lines = posted["message"].splitlines()
    figures = get_results(finished)
    main = figures[(figures["analysis_name"] == "everything") & (figures["perspective"] == "RI")]
    (average,) = main[main["metric"] == "AAL"]["loss"]
    assert lines[lines.index("everything, RI:") + 1] == f"Average annual loss: {amount(average)} EUR"
    assert any(line.startswith("1-in-100 OEP") for line in lines)


def test_a_batch_that_fails_is_told_if_no_run_follows_it(
    web: WebServer, sensor: Sensor, launch: Launcher, folder: Any, jobs: Any, test_schema: str
):
    sensor.tick()
    jobs.behave(low="fails")
    assert not launch().success
    assert sensor.tick() == "Sent 1 messages; 0 problems"  # the run, not its batch
    (batch,) = list_batches(cycle_id())
    assert batch["status"] == "FAILED"
    # It fails again, after the run.
    execute_command("UPDATE irp_batch SET completed_ts = clock_timestamp() + interval '1 second'")
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    told = web.posted[-1]
    assert told["title"] == f"{CYCLE}: batch {batch['id']} is FAILED"
    assert "the footprint has no such event" in told["message"]
    assert f"irp batch show {batch['id']} --db-schema {test_schema}" in told["message"]


def test_a_stuck_job_is_told_once(web: WebServer, sensor: Sensor, finished: int, test_schema: str):
    execute_command("UPDATE irp_batch SET status = 'ACTIVE', completed_ts = NULL WHERE id = %s", (finished,))
    execute_command(
        """
        UPDATE irp_job SET status = 'RUNNING', lease_token = 'token', host = 'calc-3', pid = 1, pid_started = '1',
               begun_ts = clock_timestamp() - interval '1 hour',
               heartbeat_ts = clock_timestamp() - interval '10 minutes'
         WHERE id = (SELECT min(id) FROM irp_job WHERE batch_id = %s)
        """,
        (finished,),
    )
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    (posted,) = web.posted
    job = execute_scalar("SELECT min(id) FROM irp_job WHERE batch_id = %s", (finished,))
    assert posted["title"] == f"{CYCLE}: job {job} (property_wind) has not been heard of for 10 min 00 s"
    assert f"irp job cancel {job} --db-schema {test_schema}" in posted["message"]


def test_an_approval_that_is_wanted_is_told_once_for_the_same_figures(
    web: WebServer, sensor: Sensor, launch: Launcher, folder: Any, jobs: Any, change_workbook: Any, test_schema: str,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("IRP_MESSAGES", f"approval={web.url}")
    jobs.behave()
    change_workbook(lambda content: content["metadata"].update(export_after_approval=True))
    sensor.tick()
    assert launch().success
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    (posted,) = web.posted
    seen = find_sign_off(cycle_id()).short_hash
    assert posted["title"] == f"{CYCLE} waits for approval"
    assert posted["message"].splitlines() == [
        f"Schema {test_schema}. Its results are not written into files before that.",
        f"Waiting for approval of {seen}",
        f"The report: irp report {CYCLE} --db-schema {test_schema} --open",
        f"To approve: irp approve {CYCLE} --db-schema {test_schema} --seen {seen}",
        f"Or: irp reject {CYCLE} --db-schema {test_schema} --reason TEXT",
    ]
    reject(CYCLE, "no flood", seen)
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    execute_command("UPDATE irp_analysis_result SET loss = loss + 1")
    assert sensor.tick() == "Sent 1 messages; 0 problems"
    assert "Void, since figures changed. It was: rejected by" in web.posted[-1]["message"]
    approve(CYCLE)
    assert sensor.tick() == "Sent 0 messages; 0 problems"


def test_a_service_gets_only_what_its_tags_say(
    web: WebServer, sensor: Sensor, launch: Launcher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IRP_MESSAGES", f"finished,stuck={web.url}")
    sensor.tick()
    assert not launch(cycle="Q1-2042").success
    assert sensor.tick() == "Sent 0 messages; 0 problems"
    assert execute_scalar("SELECT count(*) FROM irp_message") == 0


def test_without_a_setting_nothing_is_recorded_and_nothing_is_asked(
    web: WebServer, sensor: Sensor, launch: Launcher, monkeypatch: pytest.MonkeyPatch
):
    sensor.tick()
    monkeypatch.delenv("IRP_MESSAGES")
    monkeypatch.setattr(sensors, "list_initialised_schemas", _must_not_be_asked)
    assert not launch(cycle="Q1-2042").success
    assert sensor.tick() == "IRP_MESSAGES is not set, so nobody is told anything"
    assert sensor.cursor == ""  # switched on later, it begins then
    assert execute_scalar("SELECT count(*) FROM irp_message") == 0


def _must_not_be_asked() -> list[str]:
    raise AssertionError("the database was asked")


def test_a_setting_that_cannot_be_used_fails_the_tick_and_loses_nothing(
    web: WebServer, sensor: Sensor, launch: Launcher, monkeypatch: pytest.MonkeyPatch
):
    sensor.tick()
    assert not launch(cycle="Q1-2042").success
    with monkeypatch.context() as wrong:
        wrong.setenv("IRP_MESSAGES", f"/nowhere/{SECRET}")
        with pytest.raises(MessagesError) as caught:
            sensor.tick()
        assert SECRET not in str(caught.value)
        wrong.setenv("IRP_MESSAGES", f"{web.url} nosuch://{SECRET}")
        assert sensor.tick() == "Sent 1 messages; 1 problems"
    assert len(web.posted) == 1


def test_a_message_that_cannot_be_recorded_is_recorded_later(
    web: WebServer, sensor: Sensor, launch: Launcher, monkeypatch: pytest.MonkeyPatch
):
    sensor.tick()
    assert not launch(cycle="Q1-2042").success
    with monkeypatch.context() as wrong:
        wrong.setenv("IRP_UI_URL", "no address")
        assert sensor.tick() == "Sent 0 messages; 1 problems"
    assert settings.ui_url() == UI
    assert sensor.tick() == "Sent 1 messages; 0 problems"
