"""Programs of jobs: real processes that end well, fail, hang, fill their folder, or are killed."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from irp_pipeline.engines import JobPhase, JobState
from irp_pipeline.engines.environment import job_environment
from irp_pipeline.engines.folders import MARK, end_of_text
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.running import Ending, run_program
from irp_pipeline.storable import unstorable
from irp_pipeline_tests.support.program_jobs import PROGRAM, WAYS
from irp_pipeline_tests.support.waiting import wait_until

UNUSABLE = (
    "Its program ended well, but left an unusable result: outcome.json: It is not JSON: line 1, column 2: "
    "Expecting property name enclosed in double quotes"
)


class Programs:
    """Runs programs of jobs, each in a thread of its own."""

    def __init__(self, home: Path, limits: Limits, program: list[str]) -> None:
        self._jobs, self._limits, self._program = home / "jobs", limits, program
        self._threads: dict[str, threading.Thread] = {}
        self._endings: dict[str, Ending] = {}
        self._ends: dict[str, dict[str, Any]] = {}

    def folder(self, key: str) -> Path:
        return self._jobs / key

    def start(self, key: str, way: str, **more: Any) -> None:
        folder = self.folder(key)
        folder.mkdir(parents=True, mode=0o700)
        (folder / "inputs").mkdir(mode=0o700)
        environment = job_environment(["NUMBA_*"])

        def run() -> None:
            request = {"does": WAYS[way], **more}
            self._ends[key] = run_program(
                folder, self._program, self._limits, environment, request, lambda: self._endings.get(key)
            )

        self._threads[key] = threading.Thread(target=run, name=key)
        self._threads[key].start()

    def cancel(self, key: str) -> None:
        self._endings[key] = JobPhase.CANCELLED, "It was cancelled while it ran"

    def end_of(self, key: str) -> JobState:
        self._threads[key].join(60)
        end = self._ends[key]
        assert json.loads((self.folder(key) / "result.json").read_text()) == end
        return JobState(JobPhase(end["phase"]), end["message"], end["result"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    yield tmp_path
    left = of_jobs(tmp_path)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert left == []


@pytest.fixture
def programs(home: Path) -> Programs:
    return limited(home)


def limited(home: Path, seconds: float = 60, disk_bytes: float = 1e9, memory_bytes: float | None = None) -> Programs:
    return Programs(home, Limits(seconds, disk_bytes, memory_bytes), [sys.executable, "-c", PROGRAM])


def of_jobs(home: Path) -> list[psutil.Process]:
    """The processes of the jobs below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(str(home)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


class TestEnds:
    def test_of_a_job_that_ends_well_is_its_result(self, programs):
        programs.start("job-1", "well")
        state = programs.end_of("job-1")
        assert (state.phase, state.message, state.result) == (JobPhase.FINISHED, None, {"answer": 42})
        assert (programs.folder("job-1") / "log.txt").read_text() == "computed\n"

    @pytest.mark.parametrize(
        ("way", "message"),
        [
            ("fails", "no location matches the model"),
            ("says why", "The account table is empty"),
            ("garbage", "last [31mwords\ufffd"),
            ("no result", "Its program ended well but left no result"),
            ("garbage result", UNUSABLE),
            ("kills itself", "Its program was killed by SIGKILL"),
        ],
    )
    def test_of_a_job_that_fails_is_the_reason_in_one_line(self, programs, way, message):
        programs.start("bad", way)
        programs.start("good", "well")
        states = {key: programs.end_of(key) for key in ("bad", "good")}
        assert (states["bad"].phase, states["bad"].message) == (JobPhase.FAILED, message)
        assert states["good"].phase is JobPhase.FINISHED

    def test_of_a_job_that_hangs_is_its_limit(self, home):
        programs = limited(home, seconds=1)
        programs.start("slow", "hangs")
        state = programs.end_of("slow")
        assert state.phase is JobPhase.FAILED
        assert state.message == "It ran longer than its limit of 1 s (IRP_JOB_HOURS)"
        assert of_jobs(home) == []

    def test_of_a_job_that_fills_its_folder_is_its_quota(self, home):
        programs = limited(home, disk_bytes=1e6)
        programs.start("greedy", "fills")
        state = programs.end_of("greedy")
        assert state.phase is JobPhase.FAILED
        assert "grew beyond its limit of 0.001 GB" in str(state.message)
        assert of_jobs(home) == []

    def test_of_a_job_that_takes_much_memory_is_its_limit(self, home):
        programs = limited(home, memory_bytes=2e8)
        programs.start("greedy", "needs memory")
        state = programs.end_of("greedy")
        assert state.phase is JobPhase.FAILED
        assert state.message == "It used more memory than its limit of 0.2 GB (IRP_JOB_MEMORY_GB)"
        assert of_jobs(home) == []

    def test_within_its_limit_of_memory_is_left_alone(self, home):
        programs = limited(home, memory_bytes=2e8)
        programs.start("modest", "works for some seconds")
        assert programs.end_of("modest").phase is JobPhase.FINISHED

    def test_leave_no_process_behind(self, programs, home):
        programs.start("job", "leaves a child")
        assert programs.end_of("job").phase is JobPhase.FINISHED
        assert of_jobs(home) == []

    def test_of_a_program_that_does_not_exist(self, home):
        programs = Programs(home, Limits(60, 1e9), ["/no/such/program"])
        programs.start("job", "well")
        assert "cannot be started" in str(programs.end_of("job").message)


class TestEnding:
    def test_takes_all_that_the_program_started(self, programs, home):
        programs.start("job", "hangs")
        wait_until(lambda: len(of_jobs(home)) >= 3)
        programs.cancel("job")
        assert programs.end_of("job").phase is JobPhase.CANCELLED
        assert of_jobs(home) == []

    def test_of_one_program_leaves_the_others_alone(self, programs, home):
        programs.start("victim", "hangs")
        programs.start("other", "well")
        wait_until(lambda: any(p.environ()[MARK] == str(programs.folder("victim")) for p in of_jobs(home)))
        next(p for p in of_jobs(home) if "-c" in p.cmdline() and p.environ()[MARK].endswith("victim")).kill()
        assert programs.end_of("victim").message == "Its program was killed by SIGKILL"
        assert programs.end_of("other").phase is JobPhase.FINISHED
        assert of_jobs(home) == []


class TestEnvironment:
    def test_hands_on_what_is_on_the_list_and_nothing_else(self, programs, monkeypatch):
        secrets = {"DB_PASSWORD": "geheim", "IRP_DATABASE_URL": "postgresql://u:geheim@h/d", "MY_TOKEN": "geheim"}
        unknown = {
            "PYTHONPATH": "/geheim",
            "PYTHONSTARTUP": "/geheim.py",
            "SOMETHING": "geheim",
            "http_proxy": "geheim",
        }
        wanted = {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TZ": "Europe/Zurich"}
        for name, value in (secrets | unknown | wanted).items():
            monkeypatch.setenv(name, value)
        programs.start("job", "environment")
        found = programs.end_of("job").result
        assert "geheim" not in json.dumps(found)
        assert found["environment"].items() >= (wanted | {"PATH": os.environ["PATH"]}).items()
        assert str(programs.folder("job")) not in found["path"]
        assert "" not in found["path"]

    def test_hands_on_what_irp_job_env_names(self, programs, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
        monkeypatch.setenv("PYTHONPATH", "/models")
        monkeypatch.setenv("IRP_JOB_ENV", "AWS_SECRET_ACCESS_KEY, PYTHONPATH,AWS_SESSION_TOKEN")
        programs.start("job", "environment")
        environment = programs.end_of("job").result["environment"]
        assert environment["AWS_SECRET_ACCESS_KEY"] == "geheim"
        assert environment["PYTHONPATH"] == "/models"
        assert "AWS_SESSION_TOKEN" not in environment

    def test_keeps_all_files_for_their_owner(self, programs):
        programs.start("job", "writes a file", inputs={"location.csv": __file__})
        programs.end_of("job")
        shared = {programs.folder("job") / "inputs" / "location.csv"}  # a link to the original
        places = [programs.folder("job"), *programs.folder("job").rglob("*")]
        wide = [path for path in places if not path.is_symlink() and path.stat().st_mode & 0o077]
        assert set(wide) <= shared


class TestRubbish:
    """What a program leaves is not trusted: it fails its own job, with the file and the place, and no other one."""

    @pytest.mark.parametrize(
        ("outcome", "place"),
        [
            (b'{"figures": [{"loss": 1}, {"loss": NaN}]}', "outcome.json: figures[1].loss is nan"),
            (b'{"figures": [{"loss": -Infinity}]}', "outcome.json: figures[0].loss is -inf"),
            (b'{"a": 1e999}', "outcome.json: a is inf"),
            (b'{"provenance": {"model": "a\\u0000"}}', "outcome.json: provenance.model holds a NUL character"),
            (b'{"provenance": {"model": "\\ud800"}}', "outcome.json: provenance.model holds half of a surrogate pair"),
            (b'{"pro\\u0000": 1}', "has a key that holds a NUL character"),
            (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 100 levels"),
            (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 100 levels"),
            (b'{"a": ' + b"9" * 5000 + b"}", "outcome.json: It is not usable JSON: Exceeds the limit"),
            (b"[1, 2]", "outcome.json: It is not an object but a list"),
            (b"", "outcome.json: It is not JSON: line 1, column 1"),
            (b'{"a": "\xff"}', "outcome.json: It is not UTF-8: byte 8 is 0xff"),
            (b'{"files": ["a"]}', "outcome.json: files is not an object but a list"),
            (b'{"files": {"a": 1}}', "outcome.json: files.a is not a path but a int"),
            (b'{"files": {"a": "gone.parquet"}}', "outcome.json: files.a is 'gone.parquet', and there is no such file"),
            (b'{"files": {"a": "../x"}}', "which is not inside of the job's folder"),
            (b'{"files": {"a": "/etc/passwd"}}', "which is not inside of the job's folder"),
            (b'{"files": {"a": "inputs"}}', "and there is no such file"),
        ],
    )
    def test_as_the_outcome_fails_the_job_with_the_place(self, programs, outcome, place):
        programs.start("bad", "writes outcome", outcome=outcome.hex())
        programs.start("good", "well")
        states = {key: programs.end_of(key) for key in ("bad", "good")}
        assert (states["bad"].phase, states["bad"].result) == (JobPhase.FAILED, None)
        assert place in str(states["bad"].message)
        assert states["good"].phase is JobPhase.FINISHED

    @pytest.mark.parametrize(
        ("way", "place"),
        [
            ("links its outcome", "outcome.json cannot be read: it is a link"),
            ("makes a pipe", "outcome.json is not a file"),
            ("links a file", "which is not inside of the job's folder"),
            ("huge", "outcome.json has 5,000,000,000 bytes, more than 67,108,864"),
        ],
    )
    def test_in_place_of_a_file_fails_the_job(self, programs, way, place):
        programs.start("bad", way)
        state = programs.end_of("bad")
        assert state.phase is JobPhase.FAILED
        assert place in str(state.message)

    def test_as_the_reason_is_told_in_one_line_that_can_be_stored(self, programs):
        programs.start("bad", "fails with rubbish")
        message = programs.end_of("bad").message
        assert message.startswith("no\ufffd model[2J")
        assert unstorable(message) is None
        assert "\n" not in message
        assert len(message) < 2100

    def test_in_place_of_our_own_files_ends_the_job_all_the_same(self, programs):
        programs.start("bad", "pretends")
        programs.start("good", "well")
        states = {key: programs.end_of(key) for key in ("bad", "good")}
        assert states["bad"].phase is JobPhase.FINISHED
        assert states["good"].phase is JobPhase.FINISHED

    def test_in_the_log_is_shown_without_control_characters(self, programs):
        programs.start("job", "garbage")
        programs.end_of("job")
        log, _ = end_of_text(programs.folder("job") / "log.txt", 2**20)
        assert "last [31mwords\ufffd" in log
        assert not any(char in log for char in "\0\x1b\x07\x9b")


class TestResultFiles:
    def test_are_described_by_their_content(self, programs):
        programs.start("job", "files")
        digest = sha256(b"abc").hexdigest()
        expected = {"a": {"path": "a.bin", "sha256": digest, "bytes": 3}}
        assert programs.end_of("job").result == {"files": expected}
