"""Workers on two machines with files of their own, one database and one object store; then everything fails once."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from irp_pipeline import settings, store
from irp_pipeline.engines import ENGINES, JobPhase, leases
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.workers.presence import list_workers
from irp_pipeline_tests.support.gate import DatabaseGate, Gate, database_gate
from irp_pipeline_tests.support.machines import BRIDGE_ADDRESS, machines
from irp_pipeline_tests.support.program_jobs import (
    hand_over,
    register_engine,
    the_engine,
    wait_for,
    worker_process,
)
from irp_pipeline_tests.support.s3_server import s3_server
from irp_pipeline_tests.support.waiting import wait_until

pytest_plugins = ["irp_pipeline_tests.support.s3_server"]

RUNNING = {JobPhase.RUNNING}
LEASE_SECONDS = 6
OUTAGE_SECONDS = float(os.environ.get("IRP_TESTS_OUTAGE_SECONDS", "10"))
"""How long the object store is away."""
# A job says where it ran, and leaves a file; what it writes into the log of all runs shows whether it ran twice.
WORK = """
import socket
open(request["runs"], "a").write(request["name"] + "\\n")
time.sleep(request["seconds"])
(folder / "losses.csv").write_text(request["name"])
done({"host": socket.gethostname(), "files": {"losses": "losses.csv"}})
"""


@dataclass
class Place:
    """Two machines, and what stands between them and the server and the store.

    Attributes:
        workers: the process of each machine's worker, as this machine sees it.
        database, files: the ways there.
        runs: what ran, a line each.
    """

    workers: dict[str, psutil.Process]
    database: DatabaseGate
    files: Gate
    runs: Path

    def hand_over(self, *names: str, seconds: float) -> None:
        for name in names:
            hand_over({name: WORK}, name=name, seconds=seconds, runs=str(self.runs))

    def hosts(self, *names: str) -> dict[str, str]:
        rows = fetch_all("SELECT job_key, host FROM irp_job WHERE job_key = ANY(%s)", (list(names),))
        return {row["job_key"]: row["host"] for row in rows}


@pytest.fixture
def place(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Machines ``a`` and ``b`` with a worker of two slots each; this process submits and tracks as a third one."""
    with ExitStack() as stack:
        prefixes = stack.enter_context(machines("a", "b"))
        gate = stack.enter_context(s3_server(BRIDGE_ADDRESS))
        way = stack.enter_context(database_gate(settings.database_url(), BRIDGE_ADDRESS))
        for name, value in {
            "IRP_DATABASE_URL": settings.database_url().render_as_string(hide_password=False),
            "IRP_HOME": str(tmp_path / "home"),
            "IRP_JOB_SLOTS": "0",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": f"http://{BRIDGE_ADDRESS}:{gate.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "IRP_FILES_URL": "s3://machines/irp",
        }.items():
            monkeypatch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()  # they remember the server that the environment named
        stack.callback(s3fs.S3FileSystem.clear_instance_cache)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("machines", region_name="eu-west-1")
        monkeypatch.setattr(ENGINES, "_declared", {})
        monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE_SECONDS)
        register_engine()
        workers = {}
        for name, prefix in prefixes.items():
            environment = {
                "IRP_HOME": str(tmp_path / name),
                "IRP_DATABASE_URL": way.url.render_as_string(hide_password=False),
            }
            options: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "heartbeat_seconds": 1}
            process = stack.enter_context(worker_process(2, wrapper=prefix, environment=environment, **options))
            workers[name] = psutil.Process(process.pid).children(recursive=True)[-1]
        yield Place(workers, way, gate, tmp_path / "runs")
        execute_command("DELETE FROM irp_cycle")


def test_run_a_cycle_together_and_lose_nothing_whatever_fails(place: Place) -> None:
    twelve = [f"job-{number}" for number in range(12)]
    place.hand_over(*twelve, seconds=1)
    states = wait_for(*twelve)
    assert {state.phase for state in states.values()} == {JobPhase.FINISHED}
    ran_on = {name: (state.result or {})["host"] for name, state in states.items()}
    assert ran_on == place.hosts(*twelve)
    assert set(ran_on.values()) == {"a", "b"}
    for name in twelve:  # this machine has none of the files, and fetches them
        file = (states[name].result or {})["files"]["losses"]
        found = store.fetch_job_file(the_engine().folder(name), file["path"], file["sha256"])
        assert found.read_text() == name
    assert {worker.host for worker in list_workers()} == {"a", "b"}

    # The server is restarted: connections end, and are made again.
    place.hand_over("restart-1", "restart-2", seconds=3)
    wait_for("restart-1", "restart-2", phases=RUNNING)
    place.database.refuse()
    place.database.open()
    assert {state.phase for state in wait_for("restart-1", "restart-2").values()} == {JobPhase.FINISHED}

    # The object store is away as jobs end: they are reported when it is back.
    place.hand_over("store-1", "store-2", seconds=1)
    wait_for("store-1", "store-2", phases=RUNNING)
    place.files.refuse()
    time.sleep(OUTAGE_SECONDS)
    assert {state.phase for state in the_engine().states(["store-1", "store-2"]).values()} == RUNNING
    place.files.open()
    assert {state.phase for state in wait_for("store-1", "store-2").values()} == {JobPhase.FINISHED}

    # One machine is lost, the other one freezes past its lease and thaws.
    place.hand_over("lost-1", "lost-2", "lost-3", "lost-4", seconds=30)
    keys = [f"lost-{number}" for number in range(1, 5)]
    wait_for(*keys, phases=RUNNING)
    on_a = [key for key, host in place.hosts(*keys).items() if host == "a"]
    assert len(on_a) == 2
    place.workers["a"].kill()
    place.workers["b"].send_signal(signal.SIGSTOP)
    states = wait_for(*keys)
    assert {state.phase for state in states.values()} == {JobPhase.FAILED}
    for key, state in states.items():
        assert f"on host {'a' if key in on_a else 'b'} " in str(state.message)
    place.workers["b"].send_signal(signal.SIGCONT)
    place.hand_over("after", seconds=0)
    assert wait_for("after")["after"].phase is JobPhase.FINISHED
    assert place.hosts("after") == {"after": "b"}
    assert the_engine().states(keys) == states  # what thawed recorded nothing

    wait_until(lambda: not any(worker.jobs for worker in list_workers()))
    ran = Counter(place.runs.read_text().split())
    assert set(ran.values()) == {1}
    assert ran.keys() - {*keys} == {*twelve, "restart-1", "restart-2", "store-1", "store-2", "after"}
