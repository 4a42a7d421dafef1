"""A risk engine of files, and batches of jobs for it: what the tests of jobs and batches stand on."""

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import irp_pipeline.workbook  # noqa: F401 - with the columns of all engines, before the tests put theirs in place
from irp_pipeline import settings
from irp_pipeline.engines import ENGINES, EngineDeclaration, JobPhase, JobState, NamedFile
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.batch import create_batch
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_insert, fetch_all
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step

ENGINE = "recording"
PORTFOLIO = "property"


RESULT: dict[str, Any] = {
    "figures": [{"perspective": "GUL", "metric": "AAL", "return_period": None, "loss_factor": None, "loss": 1.0}],
    "currency": "EUR",
    "files": {},
    "provenance": {},
}
"""A result, as short as one can be."""


class RecordingEngine:
    """Stands for a risk engine on this machine: it keeps each submission as a file named after the job's key.

    It computes nothing: a test says how a job goes on. Like any engine it takes a key once, whoever hands it over and
    how often, keeps what it took when processes die, and refuses a request that it cannot carry out: here, one whose
    analysis says so.
    """

    before_answering: Callable[[], object] | None = None
    calls = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        refused = {}
        for key, request in requests.items():
            if refusal := request["analysis"].get("refused"):
                refused[key] = str(refusal)
            else:
                self._take(key, request)
        return refused

    def wake(self) -> None: ...

    def _take(self, key: str, request: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._draft({"request": request, "phase": "QUEUED"})
        try:
            os.link(draft, self._file(key))  # all of it appears at once, and only if nothing is there
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def states(self, keys: Collection[str]) -> dict[str, JobState]:
        type(self).calls += 1
        states = {key: self._state(key) for key in keys}
        if self.before_answering is not None:
            type(self).before_answering()  # type: ignore[misc]
        return states

    def cancel(self, keys: Collection[str]) -> None:
        for key in keys:
            if self._state(key).phase in {JobPhase.QUEUED, JobPhase.RUNNING}:
                self.let(key, JobPhase.CANCELLED)

    def folder(self, key: str) -> Path:
        return self._folder / key

    def log(self, key: str) -> str:
        return "" if self._state(key).phase is JobPhase.UNKNOWN else f"took {key}\n"

    # What tests ask and say.

    def let(self, key: str, phase: JobPhase, message: str | None = None, result: dict[str, Any] | None = None) -> None:
        """Let a job that was taken go on; one that finishes has a result, whatever it is."""
        if phase is JobPhase.FINISHED and result is None:
            result = RESULT
        taken = json.loads(self._file(key).read_text()) | {"phase": phase, "message": message, "result": result}
        self._draft(taken).replace(self._file(key))

    def lose(self, key: str) -> None:
        """Forget a job."""
        self._file(key).unlink()

    def requests(self) -> dict[str, dict[str, Any]]:
        """Return the request of each key that was ever taken and not lost."""
        return {file.stem: json.loads(file.read_text())["request"] for file in self._folder.glob("*.json")}

    def phases(self) -> dict[str, str]:
        """Return the phase of each key."""
        return {file.stem: json.loads(file.read_text())["phase"] for file in self._folder.glob("*.json")}

    def _state(self, key: str) -> JobState:
        try:
            taken = json.loads(self._file(key).read_text())
        except FileNotFoundError:
            return JobState(JobPhase.UNKNOWN)
        return JobState(JobPhase(taken["phase"]), taken.get("message"), taken.get("result"))

    def _draft(self, taken: dict[str, Any]) -> Path:
        draft = self._folder / f"{uuid.uuid4()}.draft"
        draft.write_text(json.dumps(taken))
        return draft

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"


@contextmanager
def recording_engine(home: Path) -> Iterator[None]:
    """Register the engine, and keep the cycles' files in a folder of the tests; the server stays the suite's."""
    with pytest.MonkeyPatch.context() as patch:
        if settings.database_source() == "embedded":
            patch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
        patch.setenv("IRP_HOME", str(home))
        patch.setattr(ENGINES, "_declared", {})
        models = {"model": NamedFile(lambda path, analysis: file_sha256(path / "oasislmf.json"))}
        ENGINES.register(EngineDeclaration(ENGINE, "keeps what it gets.", RecordingEngine, files=models))
        yield


def engine_of(cycle: str) -> RecordingEngine:
    """Return the engine for the jobs of a cycle."""
    return RecordingEngine(settings.cycle_dir(get_current_schema(), cycle) / "jobs")


def write_portfolio(cycle: str, location: str = "LocNumber\n1\n", portfolio: str = PORTFOLIO) -> Path:
    """Write the OED files of a portfolio, as the Process stage does; return their folder."""
    folder = settings.cycle_dir(get_current_schema(), cycle) / "portfolios" / portfolio
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "location.csv").write_text(location)
    (folder / "account.csv").write_text("AccNumber\n1\n")
    return folder


def analyses(number: int, **more: Any) -> list[dict[str, Any]]:
    """Return the parameters of so many jobs."""
    return [{"name": f"a{n}", "portfolio": PORTFOLIO, "engine": ENGINE, **more} for n in range(number)]


def make_batch(wanted: list[dict[str, Any]], cycle: str = "Q1") -> int:
    """Make a cycle with its portfolio, a configuration and a batch with a job for each analysis."""
    cycle_id = create_cycle(cycle)
    write_portfolio(cycle)
    configuration = {"metadata": {"currency": "EUR"}, "portfolios": [{"name": PORTFOLIO}], "analyses": wanted}
    configuration_id = execute_insert(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status, configuration_data)
        VALUES (%s, 'configuration.xlsx', %s, '/data', 'ACTIVE', %s)
        """,
        (cycle_id, uuid.uuid4().hex, configuration),
    )
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 3, "Create batches")
    return create_batch(BatchType.ANALYSIS, configuration_id, step_id)


def archive_by_hand(cycle_id: int) -> None:
    """Archive a cycle as an old notebook does, past all that looks at its jobs."""
    execute_command("UPDATE irp_cycle SET status = 'ARCHIVED' WHERE id = %s", (cycle_id,))


def jobs_of(batch_id: int) -> list[dict[str, Any]]:
    """Return everything about the jobs of a batch, in order."""
    return fetch_all("SELECT * FROM irp_job WHERE batch_id = %s ORDER BY id", (batch_id,))


def log_of(batch_id: int) -> list[tuple[int, str]]:
    """Return the tracking log of a batch's jobs: which job went to which status."""
    rows = fetch_all(
        """
        SELECT l.job_id, l.status FROM irp_job_tracking_log l JOIN irp_job j ON j.id = l.job_id
         WHERE j.batch_id = %s ORDER BY l.id
        """,
        (batch_id,),
    )
    return [(row["job_id"], row["status"]) for row in rows]
