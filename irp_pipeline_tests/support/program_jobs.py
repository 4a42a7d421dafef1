"""Jobs of an engine whose program does what its request says: what the tests of workers stand on.

Each job is a row of ``irp_job`` in a batch of its own cycle. A worker is a thread of the test, or a process that a test
can kill: ``python -c`` with :data:`WORKER_PROCESS`.
"""

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from irp_pipeline import settings
from irp_pipeline.engines import ENGINES, EngineDeclaration, JobPhase, JobState
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_insert, fetch_one, transaction
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
from irp_pipeline.workers.worker import Worker
from irp_pipeline_tests.support.waiting import wait_until

ENGINE = "program"
CYCLE = "Q1-2024"
ENDED = {JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED}
PATIENCE_SECONDS = 60

# What each kind of job does, as Python text; `folder` is its folder, and it may start others.
WAYS: Final = {
    "well": "print('computed'); done({'answer': 42})",
    "works for some seconds": "time.sleep(5); done({})",
    "counts": "open(folder / 'runs', 'a').write('run\\n'); time.sleep(0.2); done({})",
    "fails": "print('reading'); print('no location matches the model', file=sys.stderr); sys.exit(3)",
    "says why": "(folder / 'error.txt').write_text('The account table is empty'); sys.exit(1)",
    "garbage": "sys.stdout.buffer.write(bytes(range(256)) + b'\\nlast \\x1b[31mwords\\xff\\n\\x00\\n'); sys.exit(1)",
    "no result": "pass",
    "garbage result": "(folder / 'outcome.json').write_text('{\\xff')",
    "hangs": "subprocess.Popen(['sleep', '600'], start_new_session=True); subprocess.run(['sleep', '600'])",
    "fills": "open(folder / 'big', 'wb').write(os.urandom(3_000_000)); time.sleep(600)",
    "needs memory": "subprocess.run([sys.executable, '-c', 'import signal; x = b\"1\" * 300_000_000; signal.pause()'])",
    "kills itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "leaves a child": "subprocess.Popen(['sleep', '600'], start_new_session=True); done({})",
    "environment": "done({'environment': dict(os.environ), 'path': sys.path})",
    "files": "(folder / 'a.bin').write_bytes(b'abc'); done({'files': {'a': 'a.bin'}})",
    "writes outcome": "(folder / 'outcome.json').write_bytes(bytes.fromhex(request['outcome']))",
    "links its outcome": "(folder / 'outcome.json').symlink_to('/dev/zero')",
    "makes a pipe": "os.mkfifo(folder / 'outcome.json')",
    "links a file": "(folder / 'a').symlink_to('/etc/passwd'); done({'files': {'a': 'a'}})",
    "huge": "open(folder / 'outcome.json', 'wb').truncate(5_000_000_000)",
    "says rubbish": "(folder / 'doing.txt').write_bytes(bytes(range(256)) * 1000); time.sleep(600)",
    "says a pipe": "os.mkfifo(folder / 'doing.txt'); (folder / 'ready').touch(); time.sleep(600)",
    "fails with rubbish": "(folder / 'error.txt').write_bytes(b'no\\x00 model\\x1b[2J\\n\\xff' * 5000); sys.exit(1)",
    "pretends": "(folder / 'result.json').mkdir(); done({})",
    "writes a file": "(folder / 'made').mkdir(); (folder / 'made' / 'x').touch(); done({})",
    "reads": "time.sleep(0.5); done({'read': (folder / 'inputs' / 'location.csv').read_text()})",
}
PROGRAM = """
import json, os, pathlib, signal, subprocess, sys, time
from irp_pipeline.engines.program import end_with_worker
end_with_worker()
folder = pathlib.Path(sys.argv[-1])
def done(result): (folder / "outcome.json").write_text(json.dumps(result))
request = json.loads((folder / "request.json").read_text())["request"]
exec(request["does"])
"""

WORKER_PROCESS = """
import json, logging, signal, sys
logging.basicConfig(level=logging.WARNING)
from irp_pipeline.engines import leases
from irp_pipeline.workers import worker as workers
from irp_pipeline_tests.support.program_jobs import register_engine
options = json.loads(sys.argv[1])
leases.LEASE_SECONDS = options.pop("lease_seconds", leases.LEASE_SECONDS)
workers._HEARTBEAT_SECONDS = options.pop("heartbeat_seconds", workers._HEARTBEAT_SECONDS)
register_engine()
worker = workers.Worker(**options)
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
print("works", flush=True)
worker.run()
"""


def register_engine(limits: Limits | None = None) -> None:
    """Make the engine known to this process."""

    def make(folder: Path) -> LocalEngine:
        return LocalEngine(folder, [sys.executable, "-c", PROGRAM], limits or Limits(3600, 1e9), ["NUMBA_*"])

    ENGINES.register(EngineDeclaration(ENGINE, "does what it is told.", make))


def the_engine() -> LocalEngine:
    """Return the engine for the jobs of the cycle in the current schema."""
    engine = ENGINES.declared()[ENGINE].make(settings.cycle_dir(get_current_schema(), CYCLE) / "jobs")
    assert isinstance(engine, LocalEngine)
    return engine


def make_batch() -> int:
    """Make the cycle with a batch of no jobs, unless it is there; return the id of the batch."""
    found = fetch_one("SELECT id FROM irp_batch")
    if found is not None:
        return int(found["id"])
    cycle_id = create_cycle(CYCLE)
    configuration_id = execute_insert(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status, configuration_data)
        VALUES (%s, 'configuration.xlsx', %s, '/data', 'ACTIVE', '{}')
        """,
        (cycle_id, uuid.uuid4().hex),
    )
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 3, "Create batches")
    return int(
        execute_insert(
            """
            INSERT INTO irp_batch (configuration_id, batch_type, step_id, status) VALUES (%s, 'ANALYSIS', %s, 'ACTIVE')
            """,
            (configuration_id, step_id),
        )
    )


def hand_over(does: Mapping[str, str], **more: Any) -> dict[str, str]:
    """Hand over jobs with the transaction that records them as SUBMITTED.

    Args:
        does: what each does, as Python text, by its key.
        **more: more entries of their requests.

    Returns:
        What the engine refuses.
    """
    batch_id = make_batch()
    with transaction():
        for key, text in does.items():
            configuration_id = execute_insert(
                "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s)",
                (batch_id, {"name": key, "engine": ENGINE}),
            )
            execute_insert(
                """
                INSERT INTO irp_job (batch_id, job_configuration_id, job_key, request_data, status, submitted_ts)
                VALUES (%s, %s, %s, %s, 'SUBMITTED', clock_timestamp())
                """,
                (batch_id, configuration_id, key, {"does": text, **more}),
            )
        return the_engine().submit({key: {"does": text, **more} for key, text in does.items()})


def wait_for(*keys: str, phases: set[JobPhase] = ENDED, seconds: float = PATIENCE_SECONDS) -> dict[str, JobState]:
    """Wait until jobs are in one of some phases; return their states by key."""
    engine = the_engine()
    states: dict[str, JobState] = {}

    def are_there() -> bool:
        nonlocal states
        states = engine.states(keys)
        return all(state.phase in phases for state in states.values())

    wait_until(are_there, seconds=seconds)
    return states


def run_by_program(monkeypatch: pytest.MonkeyPatch, home: Path, engine: str, program: str, environment: str) -> None:
    """Let a program, as Python text, run the jobs of a declared engine, with files of one's own.

    Args:
        monkeypatch: takes everything back.
        home: the folder of the installation.
        engine: the name of the engine, whose declaration otherwise stays.
        program: the program of a job.
        environment: the names of the variables that it needs, with commas between them.
    """
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(home))
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")  # the worker is a thread here, which knows the engine of the tests
    monkeypatch.setenv("IRP_JOB_ENV", environment)
    by_program = replace(
        ENGINES.declared()[engine],
        make=lambda folder: LocalEngine(folder, [sys.executable, "-c", program], Limits(60, 1e9)),
    )
    monkeypatch.setitem(ENGINES._loaded(), engine, by_program)


@contextmanager
def worker_thread(slots: int = 2, **options: Any) -> Iterator[Worker]:
    """Run a worker in this process during the block."""
    worker = Worker(slots, grace_seconds=0, **options)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="worker")
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


@contextmanager
def worker_process(
    slots: int = 2, *, wrapper: list[str] | None = None, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a worker as a process during the block; it is killed at the end, unless it has ended."""
    text = json.dumps({"slots": slots, **options})
    process = subprocess.Popen(
        [*(wrapper or []), sys.executable, "-c", WORKER_PROCESS, text],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
