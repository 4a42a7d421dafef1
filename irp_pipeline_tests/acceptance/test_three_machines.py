"""Commands, a worker, and the UI with its daemon on three machines with files of their own: all work from any of them.

They share one database, through the network, and one object store. The first cycle was opened on ``a`` alone, and moved
as ``docs/workers.md`` says: its commands are read from the page. That cycle is launched on ``a``, repaired from ``b``
while its jobs are computed on ``c``, and ended from ``c``. The run of another one ends before its jobs, and the daemon
on ``b`` continues it.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from irp_pipeline import embedded
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import dispose_engine, fetch_all
from irp_pipeline_tests.support.blocks import ROOT, blocks_under, commands
from irp_pipeline_tests.support.distributions import write_distribution
from irp_pipeline_tests.support.gate import database_gate
from irp_pipeline_tests.support.machines import BRIDGE_ADDRESS, machines
from irp_pipeline_tests.support.processes import REPOSITORY, SECONDS, Process, started
from irp_pipeline_tests.support.s3_server import s3_server
from irp_pipeline_tests.support.small_engine import PROGRAM, Jobs
from irp_pipeline_tests.support.waiting import wait_until

# The commands of the page, block by block, as words.
TAKE_ALONG, (_, *ENVIRONMENT), BRING_BACK, [WORKER], [UI], [RUN], ANYWHERE = (
    [shlex.split(command, comments=True) for command, _ in commands(block)]
    for block in blocks_under(ROOT / "docs" / "workers.md", "From one machine to three")
)
REPAIRED, CONTINUED, CANCELLED = "Q1-2024", "Q2-2024", "Q3-2024"
LOSSES = {"low": 40, "middle": 200, "high": 400}
BEFORE_SUBMIT = [
    "Initialize environment", "Validate configuration", "Create batches", "Extract exposure", "Control totals",
    "Validate exposure", "Build portfolios", "Profile exposure",
]  # fmt: skip
FROM_SUBMIT_ON = ["Submit jobs", "Track jobs", "Group results", "Check losses", "Export results", "Cycle report"]
ENDED_RUNS = {"runsOrError": {"results": [{"status": "SUCCESS"}, {"status": "FAILURE"}]}}
BUCKET = "example-risk"
# The program of the small engine, which says where it runs, as an engine that every process knows by its entry point.
PROGRAM_OF_JOBS = f'import socket\nprint("computed on", socket.gethostname(), flush=True)\n{PROGRAM}'
ENGINE = f"""
import sys
from dataclasses import replace
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.engines.oasis.declaration import DETERMINISTIC

def make(folder):
    return LocalEngine(folder, [sys.executable, "-c", {PROGRAM_OF_JOBS!r}], Limits({SECONDS}, 1e9))

SMALL = replace(DETERMINISTIC, name="small", make=make, examples=())
"""
# What a browser on a machine asks the webserver there.
QUESTION = """
import json, sys, urllib.request
content = json.dumps({"query": sys.argv[1]}).encode()
request = urllib.request.Request("http://127.0.0.1:3000/graphql", content, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
RUNS = f"""{{
  runsOrError(filter: {{tags: [{{key: "dagster/partition", value: "{CONTINUED}"}}]}}) {{
    ... on Runs {{results {{status}}}}
  }}
}}"""


class Machine:
    """A machine with an ``IRP_HOME`` of its own.

    Args:
        prefix: what to write before a command to run it there.
        variables: what its environment has besides this process's.
    """

    def __init__(self, prefix: Sequence[str], variables: dict[str, str]) -> None:
        self._prefix = prefix
        self._variables = variables
        self.home = Path(variables["IRP_HOME"])

    def starts(self, *command: str, **variables: str) -> Any:
        """Start a module there, within the block."""
        environment: dict[str, Any] = self._variables | variables
        return started(*command, folder=self.home, wrapper=self._prefix, **environment)

    def irp(self, *arguments: object, status: int = 0) -> Any:
        """Run a command there; return what it answers."""
        ended = self._python("-m", "irp_pipeline.cli", *(str(argument) for argument in arguments), "--json")
        assert ended.returncode == status, ended.stdout + ended.stderr
        return json.loads(ended.stdout) if ended.stdout else ended.stderr

    def do(self, words: Sequence[str]) -> None:
        """Run a command of the page there."""
        assert words[0] == "irp"
        self.irp(*words[1:])

    def ask_ui(self, query: str) -> Any:
        """Ask the webserver that runs there."""
        ended = self._python("-c", QUESTION, query)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)["data"]

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._prefix, sys.executable, *arguments],
            env={**os.environ, **self._variables},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture(scope="module")
def place(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """The machines, with an environment that this process shares; the first cycle was opened on ``a`` alone."""
    folder = tmp_path_factory.mktemp("machines")
    home = Path(tempfile.mkdtemp(prefix="irp-three-"))
    engine = {"irp_pipeline.engines": {"small": "small_engine_of_tests:SMALL"}}
    distribution = write_distribution(folder / "engine", "irp-small-engine", engine, small_engine_of_tests=ENGINE)
    with ExitStack() as stack:
        prefixes = stack.enter_context(machines("a", "b", "c"))
        gate = stack.enter_context(s3_server(BRIDGE_ADDRESS))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name in (
            "DAGSTER_HOME", "DB_SERVER", "IRP_DATABASE_URL", "IRP_DAGSTER_DATABASE_URL", "IRP_EXECUTOR",
            "IRP_MESSAGES",
        ):  # fmt: skip
            environment.delenv(name, raising=False)
        environment.setenv("PYTHONPATH", str(distribution))
        for name in ("a", "b", "c"):
            (folder / name).mkdir()
        alone = Machine([], {"IRP_HOME": str(folder / "a")})
        alone.irp("db", "init")
        alone.irp("cycle", "create", REPAIRED)
        prepared(sample, folder / "a" / "cycles" / "public" / REPAIRED)
        for words in TAKE_ALONG:
            alone.do(words)
        stack.callback(shutil.rmtree, home)
        stack.callback(embedded.stop, home)
        stack.callback(dispose_engine)
        server = embedded.ensure_running(home)
        for name, value in {
            "IRP_HOME": str(home),
            **dict(word.split("=", 1) for _, word in ENVIRONMENT),
            "IRP_DATABASE_URL": server.render_as_string(hide_password=False),
            "IRP_JOB_ENV": "WAYS_OF_JOBS,LOSSES_OF_JOBS",
            "WAYS_OF_JOBS": str(folder / "ways.json"),
            "LOSSES_OF_JOBS": str(folder / "losses.parquet"),
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": f"http://{BRIDGE_ADDRESS}:{gate.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            environment.setenv(name, value)
        pq.write_table(pa.table({"loss_factor": [1.0], "LocNumber": ["1"], "gul": [1.0]}), os.environ["LOSSES_OF_JOBS"])
        dispose_engine()
        s3fs.S3FileSystem.clear_instance_cache()  # they remember the server that the environment named
        stack.callback(s3fs.S3FileSystem.clear_instance_cache)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET, region_name="eu-west-1")
        way = stack.enter_context(database_gate(server, BRIDGE_ADDRESS))
        database = way.url.render_as_string(hide_password=False)
        made = {
            name: Machine(prefix, {"IRP_HOME": str(folder / name), "IRP_DATABASE_URL": database})
            for name, prefix in prefixes.items()
        }
        for words in BRING_BACK:
            made["a"].do(words)
        yield made


@pytest.fixture(scope="module")
def worker(place: dict[str, Machine]) -> Iterator[Process]:
    """The only worker, on machine ``c``."""
    with place["c"].starts("irp_pipeline.cli", *WORKER[1:]) as process:
        wait_until(lambda: "Taking jobs" in process.output, "the worker takes jobs", process)
        yield process


@pytest.fixture
def jobs(place: dict[str, Machine], worker: Process) -> Jobs:
    return Jobs(Path(os.environ["WAYS_OF_JOBS"]))


@pytest.fixture
def a(place: dict[str, Machine]) -> Machine:
    return place["a"]


@pytest.fixture
def b(place: dict[str, Machine]) -> Machine:
    return place["b"]


@pytest.fixture
def c(place: dict[str, Machine]) -> Machine:
    return place["c"]


def prepared(sample: Path, folder: Path) -> Path:
    """Make a folder with the sample for the engine of these tests."""
    shutil.copytree(sample, folder)
    workbook = folder / "configuration.xlsx"
    cells = openpyxl.load_workbook(workbook)
    for row in cells["Analyses"].iter_rows():
        for cell in row:
            if cell.value == "oasis_deterministic":
                cell.value = "small"
    cells.save(workbook)
    return folder


def open_cycle(cycle: str, sample: Path, folder: Path) -> None:
    """Open a cycle, and put the sample into its place in the store, as a person does."""
    create_cycle(cycle)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.put(f"{prepared(sample, folder)}/", f"{BUCKET}/irp/public/{cycle}/", recursive=True)


def losses(machine: Machine, cycle: str) -> dict[str, float]:
    return {figure["analysis_name"]: figure["loss"] for figure in machine.irp("results", cycle)["figures"]}


def report(machine: Machine, cycle: str) -> str:
    """Return the report that a machine writes from the records and the store; its cycle must be complete."""
    answer = machine.irp("report", cycle)
    page = Path(answer["report"])
    assert answer["state"] == "COMPLETED"
    assert page.is_relative_to(machine.home)
    return page.read_text(encoding="utf-8")


def has(cycle: str, **wanted: str) -> bool:
    """Say whether the records have these statuses for jobs of a cycle, by analysis."""
    rows = fetch_all(
        """
        SELECT f.job_configuration_data ->> 'name' AS name, j.status FROM irp_job j
          JOIN irp_job_configuration f ON f.id = j.job_configuration_id JOIN irp_batch b ON b.id = j.batch_id
          JOIN irp_configuration k ON k.id = b.configuration_id JOIN irp_cycle c ON c.id = k.cycle_id
         WHERE c.cycle_name = %s AND NOT j.skipped
        """,
        (cycle,),
    )
    return wanted.items() <= {row["name"]: row["status"] for row in rows}.items()


def hosts(cycle: str) -> dict[str, str]:
    """Return the machine that completed each step last."""
    rows = fetch_all(
        """
        SELECT s.step_name, r.host FROM irp_step_run r JOIN irp_step s ON s.id = r.step_id
          JOIN irp_stage g ON g.id = s.stage_id JOIN irp_cycle c ON c.id = g.cycle_id
         WHERE c.cycle_name = %s AND r.status = 'COMPLETED'
         ORDER BY r.id
        """,
        (cycle,),
    )
    return {row["step_name"]: row["host"] for row in rows}


def test_a_cycle_of_a_is_repaired_from_b_and_ended_from_c(a: Machine, b: Machine, c: Machine, jobs: Jobs):
    jobs.behave(middle="waits", high="waits")
    with a.starts("irp_pipeline.cli", *RUN[1:]) as run:
        wait_until(lambda: has(REPAIRED, low="FINISHED", middle="RUNNING", high="RUNNING"), "low has ended", run)

        steps = {step["step_name"]: step["last_status"] for step in b.irp("status", REPAIRED)["steps"]}
        assert steps["Submit jobs"] == "COMPLETED"
        assert steps["Track jobs"] == "ACTIVE"
        assert "in process 1 on host a" in b.irp("run", REPAIRED, status=1)
        listed = b.irp("job", "list", REPAIRED)["jobs"]
        ids = {job["job_configuration_data"]["name"]: job["id"] for job in listed}

        def log_on_b(analysis: str) -> str:
            return str(b.irp("job", "log", ids[analysis])["log"])

        assert log_on_b("low") == "computed on c\n"
        wait_until(lambda: log_on_b("middle") == "computed on c\n", "the log of a job at work is there", run)

        asked = b.irp("job", "cancel", ids["middle"])["job"]
        assert asked["status"] in {"CANCEL_REQUESTED", "CANCELLING", "CANCELLED"}
        wait_until(lambda: has(REPAIRED, middle="CANCELLED"), "middle is cancelled", run)
        batch = b.irp("batch", "recon", asked["batch_id"])["batch"]
        assert batch["job_counts"] == {"FINISHED": 1, "CANCELLED": 1, "RUNNING": 1}
        jobs.behave()
        assert run.end() == 1
        assert f"middle (job {ids['middle']}, CANCELLED)" in run.output

    resubmitted = b.irp("job", "resubmit", ids["middle"])["job"]
    assert resubmitted["parent_job_id"] == ids["middle"]
    ended = c.irp("run", REPAIRED)
    assert ended["status"] == "SUCCESS"
    skipped = [step["step"] for step in ended["steps"] if step["status"] == "skipped"]
    assert len(skipped) == len(BEFORE_SUBMIT)  # all before Submit, which sees that a job was handed over
    assert hosts(REPAIRED) == {**dict.fromkeys(BEFORE_SUBMIT, "a"), **dict.fromkeys(FROM_SUBMIT_ON, "c")}
    assert jobs.runs() == ["high", "low", "middle"]
    for words in ANYWHERE:
        b.do(words)
    assert losses(b, REPAIRED) == LOSSES
    assert REPAIRED in report(b, REPAIRED)


def test_the_daemon_of_b_continues_a_cycle_whose_run_on_a_ended_before_its_jobs(
    a: Machine, b: Machine, c: Machine, jobs: Jobs, sample: Path, tmp_path: Path
):
    open_cycle(CONTINUED, sample, tmp_path / "cycle")
    jobs.behave(middle="waits")
    before = jobs.runs()
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({
        "resources": {"database": {"config": {"db_schema": "public"}}},
        "ops": {"monitor": {"ops": {"track_jobs": {"config": {"patience_minutes": 0}}}}},
    }))  # fmt: skip
    command = ["dagster", "job", "execute", "-m", "irp_pipeline.definitions", "-j", "run_cycle", "-c", str(config)]
    tags = json.dumps({"dagster/partition": CONTINUED})
    with a.starts(*command, "--tags", tags, DAGSTER_HOME=str(REPOSITORY)) as run:
        assert run.end() == 1, run.output
        assert "are still under way" in run.output
    jobs.behave()
    with b.starts("irp_pipeline.cli", *UI[1:]) as ui:
        wait_until(lambda: "The UI is ready" in ui.output, "the UI is ready", ui)
        wait_until(lambda: "Cycle report" in hosts(CONTINUED), "the daemon has continued the cycle", ui)
        wait_until(lambda: b.ask_ui(RUNS) == ENDED_RUNS, "the UI shows that the run has ended", ui)
    assert hosts(CONTINUED) == {**dict.fromkeys(BEFORE_SUBMIT, "a"), "Submit jobs": "a",
                                **dict.fromkeys(FROM_SUBMIT_ON[1:], "b")}  # fmt: skip
    assert jobs.runs() == sorted([*before, "high", "low", "middle"])
    assert losses(a, CONTINUED) == LOSSES
    assert CONTINUED in report(c, CONTINUED)


def test_the_ui_of_b_cancels_a_run_of_the_command_line_of_a(
    a: Machine, b: Machine, jobs: Jobs, sample: Path, tmp_path: Path
):
    open_cycle(CANCELLED, sample, tmp_path / "cycle")
    jobs.behave(middle="waits")
    with (
        b.starts("irp_pipeline.cli", *UI[1:]) as ui,
        a.starts("irp_pipeline.cli", "run", CANCELLED) as run,
    ):
        wait_until(lambda: "The UI is ready" in ui.output, "the UI is ready", ui)
        wait_until(lambda: has(CANCELLED, middle="RUNNING"), "a job runs", run)
        (found,) = b.ask_ui(RUNS.replace(CONTINUED, CANCELLED).replace("status", "runId"))["runsOrError"]["results"]
        asked = b.ask_ui(f'mutation {{terminateRun(runId: "{found["runId"]}") {{__typename}}}}')
        assert asked == {"terminateRun": {"__typename": "TerminateRunSuccess"}}
        assert run.end() == 130, run.output
        assert "CANCELED" in run.output
    jobs.behave()
