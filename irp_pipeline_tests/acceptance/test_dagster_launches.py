"""A cycle launched as people launch it, in processes of its own: by the command line of Dagster, by ``irp run``, and in
the UI with its daemon; and what is left when such processes are cancelled or killed.

All of it is on a PostgreSQL server of the tests' own, with the repository's ``dagster.yaml``. Its address carries a
password that can be recognised, and the last but one test searches for it in all that Dagster has kept.
"""

import json
import os
import shutil
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from dagster import DagsterInstance
from sqlalchemy import URL

from irp_pipeline import embedded, settings
from irp_pipeline.definitions import definitions
from irp_pipeline.demo import write_sample
from irp_pipeline.helpers.cycle import create_cycle, find_cycle, get_cycle_by_name, reopen_cycle
from irp_pipeline.helpers.database import dispose_engine, execute_scalar, fetch_all, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.workbook import Workbook, read_workbook, write_workbook
from irp_pipeline_tests.support.browser import browser, needs_browser
from irp_pipeline_tests.support.processes import (
    REPOSITORY,
    SECONDS,
    Process,
    children_of,
    is_alive,
    started,
)
from irp_pipeline_tests.support.waiting import wait_until

WAITING = "irp_pipeline_tests.acceptance.waiting_definitions"
CYCLE = "Q1-2024"
STEPS = 14
PASSWORD = "correct-horse-battery-staple"  # the password of every address in the environment

# Read like any portfolio in a database, but nothing comes before the gate is open.
GATE = 4_217
GATED_LOCATIONS = f"""
SELECT '1' AS "PortNumber", 'A1' AS "AccNumber", 'L1' AS "LocNumber", 'GB' AS "CountryCode",
       'WTC' AS "LocPerilsCovered", 'GBP' AS "LocCurrency", 51.5 AS "Latitude", -0.1 AS "Longitude",
       5100 AS "ConstructionCode", 1050 AS "OccupancyCode", 250000 AS "BuildingTIV", 0 AS "OtherTIV",
       50000 AS "ContentsTIV", 0 AS "BITIV"
  FROM (SELECT pg_advisory_xact_lock_shared({GATE}) AS gate) opened
"""
ACCOUNTS = """
SELECT '1' AS "PortNumber", 'A1' AS "AccNumber", 'GBP' AS "AccCurrency", 'P1' AS "PolNumber",
       'WTC' AS "PolPerilsCovered"
"""


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """An ``IRP_HOME`` with a server of its own, for this process and all that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="irp-launches-"))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DB_SCHEMA", "DAGSTER_HOME", "IRP_EXECUTOR", "DB_SERVER", "IRP_DAGSTER_DATABASE_URL"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(folder))
        url = embedded.ensure_running(folder).set(password=PASSWORD)
        environment.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))
        environment.setenv("IRP_SOURCE_GATE_URL", url.render_as_string(hide_password=False))
        environment.setenv("IRP_SOURCE_AWAY_URL", f"postgresql://ada:{PASSWORD}@127.0.0.1:1/ledger")
        environment.setenv("IRP_MESSAGES", f"json://127.0.0.1:1/{PASSWORD}")
        dispose_engine()
        init_database("public")
        yield folder
        dispose_engine()
    embedded.stop(folder)
    shutil.rmtree(folder)


# --- processes ----------------------------------------------------------------------------------------------------


def job_execute(
    folder: Path, schema: str, job: str = "run_cycle", module: str = "irp_pipeline.definitions", **variables: Any
) -> Any:
    """``dagster job execute`` of a cycle, in the Dagster instance of the repository."""
    config = folder / "run.yaml"
    config.write_text(f"resources:\n  database:\n    config:\n      db_schema: {schema}\n")
    tags = json.dumps({"dagster/partition": CYCLE})
    command = ["dagster", "job", "execute", "-m", module, "-j", job, "--tags", tags, "-c", str(config)]
    return started(*command, DAGSTER_HOME=str(REPOSITORY), **variables)


def irp_run(schema: str, *options: str, **variables: Any) -> Any:
    return started("irp_pipeline.cli", "run", CYCLE, "--db-schema", schema, *options, **variables)


# --- cycles and what is recorded of them --------------------------------------------------------------------------


def open_sample(schema: str) -> Path:
    """An open cycle with the sample in its folder."""
    folder = open_empty(schema)
    put_sample(folder)
    return folder


def put_sample(folder: Path) -> None:
    """Put the sample into a folder, with its deterministic analysis only: the others take minutes."""
    path = write_sample(folder)
    content = read_workbook(path, models_dir=settings.models_folder()).to_json()
    content["analyses"] = [analysis for analysis in content["analyses"] if analysis["loss_factor"]]
    content["groupings"] = []
    write_workbook(path, Workbook.model_validate(content), overwrite=True)


def open_gated(schema: str, database: str = "GATE") -> Path:
    """An open cycle, the extract of which waits at the gate."""
    folder = open_empty(schema)
    content = {
        "metadata": {"currency": "GBP"},
        "portfolios": [
            {"name": "gated", "source": "sql", "database": database, "location": GATED_LOCATIONS.strip(),
             "account": ACCOUNTS.strip()}
        ],
        "analyses": [
            {"name": "ten", "portfolio": "gated", "engine": "oasis_deterministic", "loss_factor": [0.1],
             "perspectives": ["GUL"]}
        ],
        "groupings": [],
    }  # fmt: skip
    write_workbook(folder / "configuration.xlsx", Workbook.model_validate(content))
    return folder


def open_at_the_gate(schema: str) -> Path:
    """A gated cycle, the stage Setup of which is done: ``--only extract_exposure`` runs the step that waits."""
    folder = open_gated(schema)
    done = definitions.get_job_def("setup").execute_in_process(
        run_config={
            "resources": {"database": {"config": {"db_schema": schema}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        tags={"dagster/partition": CYCLE},
    )
    assert done.success
    return folder


def extract(schema: str, *options: str, **variables: Any) -> Any:
    """``irp run`` of the step that waits at the gate."""
    return irp_run(schema, "--only", "extract_exposure", *options, **variables)


def open_empty(schema: str) -> Path:
    init_database(schema)
    with schema_context(schema):
        create_cycle(CYCLE)
    folder = settings.cycle_dir(schema, CYCLE)
    folder.mkdir(parents=True)
    return folder


def step_runs(schema: str, name: str | None = None) -> list[dict[str, Any]]:
    """The step runs of a schema, or those of one step, in the order of stages, steps and runs."""
    return fetch_all(
        """
        SELECT s.step_name, r.status, r.error_message, r.pid, r.dagster_run_id, r.output_data
          FROM irp_step_run r JOIN irp_step s ON s.id = r.step_id JOIN irp_stage g ON g.id = s.stage_id
         WHERE %s::text IS NULL OR s.step_name = %s ORDER BY g.stage_num, s.step_num, r.run_num
        """,
        (name, name),
        schema=schema,
    )


def statuses(schema: str, name: str | None = None) -> list[str]:
    return [run["status"] for run in step_runs(schema, name)]


def contents(schema: str) -> dict[str, str]:
    """Every row of every table with the transaction that wrote it, and every sequence."""
    tables = fetch_all("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s", (schema,))
    found = {
        row["name"]: execute_scalar(
            f"SELECT md5(coalesce(string_agg(t.xmin::text || t::text, ';' ORDER BY t.ctid), '')) "
            f'FROM "{schema}"."{row["name"]}" t'
        )
        for row in tables
    }
    sequences = fetch_all("SELECT sequencename AS name, last_value FROM pg_sequences WHERE schemaname = %s", (schema,))
    return found | {row["name"]: str(row["last_value"]) for row in sequences}


def connect(url: URL) -> psycopg2.extensions.connection:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection: psycopg2.extensions.connection = psycopg2.connect(address)
    connection.autocommit = True
    return connection


def run_status(dagster_run_id: str) -> str:
    """How Dagster's own records say that a run ended."""
    with closing(connect(settings.dagster_database_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT status FROM runs WHERE run_id = %s", (dagster_run_id,))
        row = cursor.fetchone()
        assert row is not None
        return str(row[0])


@contextmanager
def closed_gate() -> Iterator[Callable[[], None]]:
    """Keep the gate closed; yield what opens it."""
    with closing(connect(settings.database_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (GATE,))

        def open_gate() -> None:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (GATE,))

        yield open_gate


def someone_waits_at_the_gate() -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
    return bool(execute_scalar(waiting, (GATE,)))


# --- the command lines --------------------------------------------------------------------------------------------


def test_definitions_load_without_a_database(tmp_path: Path):
    # In a folder without dagster.yaml, so that Dagster's own storage is none of ours either.
    nowhere = "postgresql://nobody@127.0.0.1:1/nowhere"
    command = ["dagster", "definitions", "validate", "-m", "irp_pipeline.definitions"]
    with started(*command, folder=tmp_path, IRP_DATABASE_URL=nowhere) as process:
        assert process.end() == 0, process.output
        assert "Validation successful" in process.output


def test_dagster_job_execute_runs_a_cycle_and_a_second_time_skips_it():
    folder = open_sample("job_execute")
    for status in ("COMPLETED", "SKIPPED"):
        with job_execute(folder, "job_execute") as process:
            assert process.end() == 0, process.output
        newest = step_runs("job_execute")[-1]
        assert newest["status"] == status
        assert run_status(newest["dagster_run_id"]) == "SUCCESS"
    assert statuses("job_execute") == ["COMPLETED", "SKIPPED"] * STEPS


def test_dg_launch_runs_a_cycle_that_is_a_partition(monkeypatch: pytest.MonkeyPatch):
    open_sample("dg_launch")
    monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY))
    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("cycles", [CYCLE])
    config = json.dumps({"resources": {"database": {"config": {"db_schema": "dg_launch"}}}})
    command = ["dagster_dg_cli.cli", "launch", "--job", "run_cycle", "--partition", CYCLE, "--config-json", config]
    with started(*command) as process:
        assert process.end() == 0, process.output
    assert statuses("dg_launch") == ["COMPLETED"] * STEPS


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_a_run_in_another_schema_leaves_public_as_it_was(executor: str):
    schema = f"test_cycle_{executor}"
    with schema_context("public"):
        if get_cycle_by_name(CYCLE) is None:
            create_cycle(CYCLE)
    folder = open_sample(schema)
    (folder / "go").touch()
    before = contents("public")
    with irp_run(schema, IRP_EXECUTOR=executor) as process:
        assert process.end() == 0, process.output
    with job_execute(folder, schema, "waiting", WAITING, IRP_EXECUTOR=executor) as process:
        assert process.end() == 0, process.output
    assert contents("public") == before
    assert statuses(schema) == ["COMPLETED"] * (STEPS + 2)
    assert execute_scalar("SELECT left_in FROM irp_trace", schema=schema) == schema
    workers = {run["pid"] for run in step_runs(schema)}
    assert len(workers) == (2 if executor == "in_process" else STEPS + 2)


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_ctrl_c_ends_irp_run_and_its_query_as_cancelled_and_the_next_one_goes_on(executor: str):
    schema = f"interrupted_{executor}"
    open_gated(schema)
    with closed_gate(), irp_run(schema, IRP_EXECUTOR=executor) as process:
        wait_until(someone_waits_at_the_gate, "the extract waits", process)
        process.send_to_all(signal.SIGINT)
        assert process.end() == 130, process.output  # the query is cancelled: nobody opens the gate
        assert "CANCELED" in process.output
        wait_until(lambda: not someone_waits_at_the_gate(), "the query has ended")
    (run,) = step_runs(schema, "Extract exposure")
    assert run["status"] == "FAILED"
    assert run["error_message"].startswith("cancelled")
    assert run_status(run["dagster_run_id"]) == "CANCELED"
    with irp_run(schema) as process:
        assert process.end() == 0, process.output
    assert statuses(schema, "Create batches") == ["COMPLETED", "SKIPPED"]
    assert statuses(schema, "Extract exposure") == ["FAILED", "COMPLETED"]


def test_a_killed_step_worker_fails_its_run_and_the_next_one_takes_over():
    folder = open_gated("step_worker")
    with closed_gate() as open_gate:
        with job_execute(folder, "step_worker", IRP_EXECUTOR="multiprocess") as process:
            wait_until(someone_waits_at_the_gate, "the extract waits", process)
            (run,) = step_runs("step_worker", "Extract exposure")
            assert run["pid"] != process.pid
            os.kill(run["pid"], signal.SIGKILL)
            assert process.end() != 0
        assert run_status(run["dagster_run_id"]) == "FAILURE"
        open_gate()
    assert_next_run_takes_over("step_worker")


def test_a_step_worker_ends_when_its_run_is_killed():
    folder = open_gated("run_worker")
    with closed_gate() as open_gate, job_execute(folder, "run_worker", IRP_EXECUTOR="multiprocess") as process:
        wait_until(someone_waits_at_the_gate, "the extract waits", process)
        process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
        open_gate()
        wait_until(lambda: statuses("run_worker", "Extract exposure") != ["ACTIVE"], "the step has ended")
    (run,) = step_runs("run_worker", "Extract exposure")
    assert run["status"] == "FAILED"
    assert run["error_message"].startswith("cancelled")


def assert_next_run_takes_over(schema: str) -> None:
    with extract(schema) as process:
        assert process.end() == 0, process.output
    lost, done = step_runs(schema, "Extract exposure")
    assert lost["status"] == "FAILED"
    assert lost["error_message"].startswith("worker lost")
    assert done["status"] == "COMPLETED"


# --- the UI -------------------------------------------------------------------------------------------------------


class Ui:
    """The webserver of ``irp ui``, asked what the pages in a browser ask."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_ready(self) -> bool:
        query = """
            {workspaceOrError {... on Workspace {locationEntries {loadStatus locationOrLoadError {__typename}}}}
             instance {daemonHealth {allDaemonStatuses {required healthy}}}}
        """
        try:
            answer = self.ask(query)
        except (OSError, urllib.error.URLError):
            return False
        locations = answer["workspaceOrError"]["locationEntries"]
        daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        return (
            [entry["loadStatus"] for entry in locations] == ["LOADED"]
            and all(daemon["healthy"] for daemon in daemons if daemon["required"])
        )  # fmt: skip

    def launch(self, job: str, config: Mapping[str, Any], cycle: str | None = None) -> str:
        """Launch a job as the launchpad does; return the run's id."""
        answer = self.ask(
            """
            mutation ($params: ExecutionParams!) {
              launchRun(executionParams: $params) {
                __typename
                ... on LaunchRunSuccess {run {runId}}
                ... on RunConfigValidationInvalid {errors {message}}
                ... on PythonError {message}
              }
            }
            """,
            params={
                "selector": {
                    "repositoryLocationName": "irp_pipeline.definitions",
                    "repositoryName": "__repository__",
                    "jobName": job,
                },
                "runConfigData": config,
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": cycle}] if cycle else []},
                "mode": "default",
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def run_cycle(self, schema: str) -> str:
        return self.run_stage("run_cycle", schema)

    def run_stage(self, job: str, schema: str) -> str:
        """Launch the job of a stage, or that of all of them."""
        return self.launch(job, {"resources": {"database": {"config": {"db_schema": schema}}}}, CYCLE)

    def status(self, run_id: str) -> str:
        return str(self.run(run_id)["status"])

    def run(self, run_id: str) -> dict[str, Any]:
        query = """
            query ($id: ID!) {runOrError(runId: $id) {... on Run {status tags {key value} runConfigYaml
              eventConnection(limit: 1000) {events {__typename ... on MessageEvent {message}
              ... on ErrorEvent {error {message stack causes {message}}}}}}}}
        """
        answer: dict[str, Any] = self.ask(query, id=run_id)["runOrError"]
        return answer

    def wait_for(self, run_id: str, status: str) -> None:
        def as_expected() -> bool:
            now = self.status(run_id)
            ended = {"SUCCESS", "FAILURE", "CANCELED"}
            assert now == status or now not in ended, self.run(run_id)
            return now == status

        wait_until(as_expected, f"the run is {status}", self.process)

    def terminate(self, run_id: str) -> None:
        answer = self.ask("mutation ($id: String!) {terminateRun(runId: $id) {__typename}}", id=run_id)
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer

    def reexecute_from_failure(self, run_id: str) -> str:
        answer = self.ask(
            """
            mutation ($params: ReexecutionParams!) {
              launchRunReexecution(reexecutionParams: $params) {
                __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
              }
            }
            """,
            params={"parentRunId": run_id, "strategy": "FROM_FAILURE"},
        )["launchRunReexecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def backfill(self, cycles: Sequence[str]) -> str:
        """Launch a backfill of the job run_cycle as its tab Partitions does; return the backfill's id."""
        answer = self.ask(
            """
            mutation ($params: LaunchBackfillParams!) {
              launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}
                ... on PartitionKeysNotFoundError {message}
              }
            }
            """,
            params={
                "selector": {
                    "partitionSetName": "run_cycle_partition_set",
                    "repositorySelector": {
                        "repositoryLocationName": "irp_pipeline.definitions",
                        "repositoryName": "__repository__",
                    },
                },
                "partitionNames": cycles,
            },
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def runs_of_backfill(self, backfill_id: str) -> tuple[str, dict[str, str]]:
        """Return the status of a backfill, and that of its runs by cycle."""
        query = """
            query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {
              status}}
              runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {... on Runs {
              results {status tags {key value}}}}}
        """
        answer = self.ask(query, id=backfill_id)
        runs = {
            next(tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition"): str(run["status"])
            for run in answer["runsOrError"]["results"]
        }
        return str(answer["partitionBackfillOrError"]["status"]), runs

    def cycles_of_asset(self, asset: str) -> set[str]:
        query = """
            query ($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) {... on AssetNode {
              assetMaterializations {partition}}}}
        """
        answer = self.ask(query, key={"path": [asset]})["assetNodeOrError"]
        return {str(of["partition"]) for of in answer["assetMaterializations"]}

    def partitions(self) -> list[str]:
        query = """
            query ($selector: PipelineSelector!) {pipelineOrError(params: $selector) {... on Pipeline {
              partitionKeysOrError {partitionKeys}}}}
        """
        selector = {
            "repositoryLocationName": "irp_pipeline.definitions",
            "repositoryName": "__repository__",
            "pipelineName": "run_cycle",
        }
        keys = self.ask(query, selector=selector)["pipelineOrError"]["partitionKeysOrError"]["partitionKeys"]
        return [str(key) for key in keys]


@pytest.fixture(scope="module")
def ui(home: Path) -> Iterator[Ui]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As a script starts it with "&": it hears an interrupt all the same, and so do its runs.
    with started("irp_pipeline.cli", "ui", "--port", str(port), in_background=True) as process:
        page = Ui(process, port)
        wait_until(page.is_ready, "the UI is there", process)
        yield page
        left = children_of(process)
        process.send(signal.SIGINT)
        assert process.end() == 0, process.output
        assert not any(is_alive(one) for one in left)


def test_a_newcomer_opens_a_cycle_in_the_ui_and_runs_it(ui: Ui):
    name = "Q3-2024"
    opened = ui.launch("open_cycle", {"ops": {"open_cycle": {"config": {"name": name}}}})
    ui.wait_for(opened, "SUCCESS")
    assert name in ui.partitions()
    put_sample(settings.cycle_dir("public", name))
    run_id = ui.launch("run_cycle", {}, name)
    ui.wait_for(run_id, "SUCCESS")
    assert statuses("public") == ["COMPLETED"] * STEPS
    assert {run["dagster_run_id"] for run in step_runs("public")} == {run_id}
    tags = {tag["key"]: tag["value"] for tag in ui.run(run_id)["tags"]}
    assert tags["irp/schema"] == "public"
    assert tags["irp/lock"] == f"public/{name}"


def test_a_backfill_runs_each_of_its_cycles(ui: Ui):
    done, new = "Q3-2024", "Q4-2024"
    opened = ui.launch("open_cycle", {"ops": {"open_cycle": {"config": {"name": new}}}})
    ui.wait_for(opened, "SUCCESS")
    with schema_context("public"):
        archived = find_cycle(done)  # when the next one was opened
        assert archived is not None
        reopen_cycle(archived.id)
    put_sample(settings.cycle_dir("public", new))
    before = fetch_all("SELECT count(*) AS runs FROM irp_step_run WHERE status = 'COMPLETED'", schema="public")
    assert {done, new} <= set(ui.partitions())
    backfill = ui.backfill([done, new])

    def ended() -> bool:
        status, runs = ui.runs_of_backfill(backfill)
        assert status not in {"FAILED", "COMPLETED_FAILED", "CANCELED"}, runs
        return status in {"COMPLETED", "COMPLETED_SUCCESS"}

    wait_until(ended, "the backfill has ended", ui.process)
    assert ui.runs_of_backfill(backfill)[1] == dict.fromkeys((done, new), "SUCCESS")
    after = fetch_all("SELECT count(*) AS runs FROM irp_step_run WHERE status = 'COMPLETED'", schema="public")
    assert after[0]["runs"] - before[0]["runs"] == STEPS  # the first one's steps were done before
    assert {done, new} <= ui.cycles_of_asset("losses")


@needs_browser
def test_somebody_who_knows_dagster_finds_losses_lineage_checks_and_the_report_in_a_browser(ui: Ui):
    with browser() as page:

        def shows(path: str, *words: str) -> None:
            page.open(f"{ui.address}{path}", 1400, 1200)
            wait_until(lambda: seen(*words), f"{path} shows {', '.join(words)}", ui.process)

        def seen(*words: str) -> bool:
            time.sleep(0.5)  # asking for the text lets the page wait
            text = str(page.value_of("document.body.innerText"))
            return all(word in text for word in words)

        shows("/assets", "extract", "portfolio", "losses", "report")
        shows("/assets/losses?view=lineage", "portfolio", "losses", "report", "% filled")
        shows("/assets/losses?view=checks", "sanity_of_losses", "approval")
        shows("/assets/losses?view=partitions&partition=Q4-2024", "Q3-2024", "commercial_stress GUL LOSS at factor 0.1")
        shows("/assets/report?view=partitions&partition=Q4-2024", "Q3-2024", "summary")
        link = page.value_of("[...document.querySelectorAll('a')].map(a => a.href).find(a => a.includes('/irp/'))")
        page.open(str(link), 1400, 1200)
        wait_until(lambda: seen("Q4-2024"), f"{link} is the cycle's", ui.process)


def test_the_second_launch_of_a_cycle_waits_and_other_schemas_go_on(ui: Ui):
    open_gated("queue")
    open_sample("beside_the_queue")
    with closed_gate() as open_gate:
        first = ui.run_cycle("queue")
        wait_until(someone_waits_at_the_gate, "the extract waits", ui.process)
        second = ui.run_cycle("queue")
        beside = ui.run_cycle("beside_the_queue")
        ui.wait_for(beside, "SUCCESS")
        assert ui.status(second) == "QUEUED"
        assert ui.status(first) == "STARTED"
        open_gate()
        ui.wait_for(first, "SUCCESS")
        ui.wait_for(second, "SUCCESS")
    assert statuses("queue") == ["COMPLETED", "SKIPPED"] * STEPS
    assert statuses("beside_the_queue") == ["COMPLETED"] * STEPS


def test_a_run_cancelled_in_the_ui_goes_on_from_there_when_it_is_executed_again(ui: Ui):
    open_gated("cancelled")
    with closed_gate():
        run_id = ui.run_cycle("cancelled")
        wait_until(someone_waits_at_the_gate, "the extract waits", ui.process)
        ui.terminate(run_id)
        ui.wait_for(run_id, "CANCELED")  # the query is cancelled: nobody opens the gate
    (run,) = step_runs("cancelled", "Extract exposure")
    assert run["status"] == "FAILED"
    assert run["error_message"].startswith("cancelled")
    again = ui.reexecute_from_failure(run_id)
    ui.wait_for(again, "SUCCESS")
    assert statuses("cancelled", "Create batches") == ["COMPLETED"]
    assert statuses("cancelled", "Extract exposure") == ["FAILED", "COMPLETED"]
    assert statuses("cancelled", "Build portfolios") == ["COMPLETED"]


def test_a_run_of_dagster_job_execute_is_cancelled_in_the_ui(ui: Ui):
    folder = open_gated("executed")
    with closed_gate(), job_execute(folder, "executed") as process:
        wait_until(someone_waits_at_the_gate, "the extract waits", process)
        (step_run,) = step_runs("executed", "Extract exposure")
        ui.terminate(step_run["dagster_run_id"])
        ui.wait_for(step_run["dagster_run_id"], "CANCELED")
        process.end()
    (step_run,) = step_runs("executed", "Extract exposure")
    assert step_run["status"] == "FAILED"
    assert step_run["error_message"].startswith("cancelled")


def test_a_killed_run_worker_fails_its_run_and_the_next_one_takes_over(ui: Ui):
    open_gated("run_worker_of_ui")
    with closed_gate() as open_gate:
        run_id = ui.run_cycle("run_worker_of_ui")
        wait_until(someone_waits_at_the_gate, "the extract waits", ui.process)
        (run,) = step_runs("run_worker_of_ui", "Extract exposure")
        os.kill(run["pid"], signal.SIGKILL)
        ui.wait_for(run_id, "FAILURE")
        open_gate()
    assert_next_run_takes_over("run_worker_of_ui")


# --- what is kept -------------------------------------------------------------------------------------------------


def test_no_password_is_in_anything_that_dagster_keeps_or_shows(ui: Ui, home: Path):
    open_gated("ledger", database="AWAY")
    run_id = ui.run_cycle("ledger")
    ui.wait_for(run_id, "FAILURE")
    assert "AWAY" in (step_runs("ledger")[-1]["error_message"])  # its message is about the address
    kept = dict(kept_by_dagster(home))
    assert "ledger" in kept["runs"]  # what there is to find is found
    assert "rerun_completed" in kept["snapshots"]
    kept["recorded steps"] = json.dumps(step_runs("ledger"))
    kept["shown run"] = json.dumps(ui.run(run_id))
    kept["shown resources"] = json.dumps(
        ui.ask(
            """
            {repositoriesOrError {... on RepositoryConnection {nodes {allTopLevelResourceDetails {
              name configuredValues {key value type} configFields {name defaultValueAsJson}}}}}}
            """
        )
    )
    kept["terminal"] = ui.process.output
    assert [name for name, text in kept.items() if PASSWORD in text] == []


def kept_by_dagster(home: Path) -> Iterator[tuple[str, str]]:
    """All tables of Dagster's database, what is compressed there unpacked, its files, and those of cycles and jobs."""
    with closing(connect(settings.dagster_database_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT * FROM "{table}"')
            yield table, "\n".join(as_text(value) for row in cursor for value in row)
    for folder in ("dagster", "cycles", "engine"):
        for path in (home / folder).rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode(errors="replace")


def as_text(value: object) -> str:
    if not isinstance(value, memoryview):
        return str(value)
    data = bytes(value)
    with suppress(zlib.error):
        data = zlib.decompress(data)
    return data.decode(errors="replace")


def test_a_restart_of_postgresql_in_the_middle_of_a_step_loses_nothing(home: Path):
    folder = open_empty("restarted")
    with job_execute(folder, "restarted", "waiting", WAITING) as process:
        wait_until(lambda: "ACTIVE" in statuses("restarted", "Wait for word"), "the step waits", process)
        embedded.stop(home)
        embedded.ensure_running(home)
        (folder / "go").touch()
        assert process.end() == 0, process.output
    (run,) = step_runs("restarted", "Wait for word")
    assert run["status"] == "COMPLETED"
    assert run_status(run["dagster_run_id"]) == "SUCCESS"
