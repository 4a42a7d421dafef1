"""Two hundred notebook steps with errors, timeouts and kills: the records are right, and no process is left behind."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from irp_pipeline import settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.db_context import carry_schema
from irp_pipeline.helpers.lost_runs import close_lost_runs
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.process import MARK_OF_NOTEBOOK
from irp_pipeline_tests.support.notebooks import run_step, step_of, write_notebook
from irp_pipeline_tests.support.waiting import wait_until

CYCLE = "Q1-2024"
AT_ONCE = 4
WORKERS, STEPS_OF_WORKER = 3, 10
GOOD, WRONG, SLOW, KILLED = 60, 50, 30, 30
ALL = GOOD + WRONG + SLOW + KILLED + WORKERS * STEPS_OF_WORKER

CHILD = "import subprocess; child = subprocess.Popen(['sleep', '3600'], start_new_session=True)"
CELLS = {
    "good": ["from irp_pipeline.notebook import irp_output", "irp_output(mark=mark)"],
    "wrong": ["losses = {}", "losses[mark]"],
    "slow": [CHILD, "import time; time.sleep(3600)"],
    "killed": [CHILD, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    "lost": [CHILD, "open(f'{folder}/{mark}', 'w').close(); import time; time.sleep(3600)"],
}


@pytest.fixture
def cycle_id(own_files: None, test_schema: str) -> Iterator[int]:
    settings.make_irp_home()
    yield create_cycle(CYCLE)
    execute_command("DELETE FROM irp_cycle")


def left() -> list[psutil.Process]:
    """The processes of notebooks of this test."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK_OF_NOTEBOOK, "").startswith(str(settings.irp_home())):
                found.append(process)
    return found


@pytest.mark.timeout(1800)
def test_two_hundred_notebooks(cycle_id: int, test_schema: str, tmp_path: Path) -> None:
    assert ALL == 200
    folder = tmp_path / "begun"
    folder.mkdir()
    paths = {
        kind: write_notebook(tmp_path / f"{kind}.ipynb", f"folder = {str(folder)!r}", *cells)
        for kind, cells in CELLS.items()
    }
    counts = {"good": GOOD, "wrong": WRONG, "slow": SLOW, "killed": KILLED}
    names = [(kind, f"own.notebook:{kind}{number}") for kind, count in counts.items() for number in range(count)]
    random.Random(7).shuffle(names)

    def run(kind: str, key: str) -> None:
        number = int(key.removeprefix(f"own.notebook:{kind}"))
        # From the first moment of the process to the middle of a cell, anything may be cut off.
        minutes = (1 + number) / 400 if kind == "slow" else None
        step = step_of(paths[kind], key, parameters={"mark": key}, timeout_minutes=minutes)
        with suppress(NotebookStepError):
            run_step(step, cycle_id, CYCLE)

    lost = [f"own.notebook:lost{number}" for number in range(WORKERS * STEPS_OF_WORKER)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(carry_schema(run), kind, key) for kind, key in names]:
            done.result()
    assert left() == []
    for number in range(WORKERS):
        keys = lost[number * STEPS_OF_WORKER :][:STEPS_OF_WORKER]
        about = [str(paths["lost"]), str(cycle_id), CYCLE, *keys]
        worker = subprocess.Popen(
            [sys.executable, "-m", "irp_pipeline_tests.support.notebook_worker", *about],
            env={**os.environ, "DB_SCHEMA": test_schema},
        )
        try:
            wait_until(lambda keys=keys: all((folder / key).exists() for key in keys), seconds=300)  # type: ignore[misc]
        finally:
            if number == 0:  # what executes the notebooks dies at the same moment, and only their kernels are left
                worker.send_signal(signal.SIGSTOP)
                for process in psutil.Process(worker.pid).children():
                    process.send_signal(signal.SIGKILL)
            worker.kill()
            worker.wait()
        if number == 0:
            wait_until(lambda: not any("kernel" in " ".join(process.cmdline()) for process in left()))
            for process in left():  # what a kernel started outlives it only if nobody is left to see to that
                process.kill()
        wait_until(lambda: left() == [])
    assert len(close_lost_runs()) == len(lost)

    rows = fetch_all(
        """
        SELECT st.step_key, r.status, r.error_message, r.output_data, r.run_num, r.completed_ts
          FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
        """
    )
    assert {(row["step_key"], row["run_num"]) for row in rows} == {(key, 1) for key in [key for _, key in names] + lost}
    assert all(row["completed_ts"] for row in rows)
    told = {
        "good": "",
        "wrong": "stopped in cell 3 (In [4]): KeyError: ",
        "slow": ": it ran longer than its limit of ",
        "killed": ": its kernel was killed by SIGKILL, as the system does when memory runs out",
        "lost": "worker lost: process ",
    }
    for row in rows:
        key = row["step_key"]
        kind = key.removeprefix("own.notebook:").rstrip("0123456789")
        assert (key, row["status"]) == (key, "COMPLETED" if kind == "good" else "FAILED")
        first = (row["error_message"] or "").partition("\n")[0]
        assert told[kind] in first, row
        assert kind != "wrong" or first.endswith(f"KeyError: {key!r}"), row
        assert row["output_data"] == ({"mark": key} if kind == "good" else None), row
    kept = settings.cycle_dir(test_schema, CYCLE) / "executed_notebooks" / "own"
    assert len([*kept.glob("*.ipynb")]) == GOOD
    assert len([*kept.glob("failed/wrong*.ipynb")]) == WRONG
