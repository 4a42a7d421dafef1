"""Jobs as programs on this machine: real processes that end well, fail, hang, fill their folder, or are killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from irp_pipeline.engines import EngineError, JobPhase
from irp_pipeline.engines.folders import MARK, slot, waiting
from irp_pipeline.engines.local import Limits, LocalEngine
from irp_pipeline.storable import unstorable

ENDED = {JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED}
PATIENCE_SECONDS = 60

# What each kind of job does, as Python text; `folder` is its folder, and it may start others.
WAYS = {
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
    "pretends": "(folder / 'result.json').mkdir(); (folder / 'started.json').write_text('[]'); done({})",
    "writes a file": "(folder / 'made').mkdir(); (folder / 'made' / 'x').touch(); done({})",
    "reads": "time.sleep(0.5); done({'read': (folder / 'inputs' / 'location.csv').read_text()})",
}
PROGRAM = """
import json, os, pathlib, signal, subprocess, sys, time
from irp_pipeline.engines.program import end_with_supervisor
end_with_supervisor()
folder = pathlib.Path(sys.argv[-1])
def done(result): (folder / "outcome.json").write_text(json.dumps(result))
request = json.loads((folder / "request.json").read_text())["request"]
exec(request["does"])
"""

UNUSABLE = (
    "Its program ended well, but left an unusable result: outcome.json: It is not JSON: line 1, column 2: "
    "Expecting property name enclosed in double quotes"
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A place with queue and slots of its own, two at once."""
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IRP_JOB_SLOTS", "2")
    yield tmp_path
    deadline = time.monotonic() + 10
    while of_jobs(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = of_jobs(tmp_path)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert left == []


@pytest.fixture
def engine(home):
    return make_engine(home)


def make_engine(
    home: Path, seconds: float = 60, disk_bytes: float = 1e9, memory_bytes: float | None = None
) -> LocalEngine:
    limits = Limits(seconds, disk_bytes, memory_bytes)
    return LocalEngine(home / "jobs", [sys.executable, "-c", PROGRAM], limits, ["NUMBA_*"])


def of_jobs(home: Path) -> list[psutil.Process]:
    """The processes of the jobs below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(str(home)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def submit(engine: LocalEngine, key: str, way: str, **more) -> None:
    if refused := engine.submit({key: {"does": WAYS[way], **more}}):
        raise EngineError(refused[key])
    engine.wake()


def wait_for(engine: LocalEngine, *keys: str, phases=ENDED):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        states = engine.states(keys)
        if all(state.phase in phases for state in states.values()):
            return states[keys[0]] if len(keys) == 1 else states
        time.sleep(0.05)
    raise AssertionError(f"still {states}")


def supervisor_of(engine: LocalEngine, key: str) -> int:
    started = json.loads((engine.folder(key) / "started.json").read_text())
    return int(started["supervisor"]["pid"])


class TestEnds:
    def test_of_a_job_that_ends_well_is_its_result(self, engine):
        submit(engine, "job-1", "well")
        state = wait_for(engine, "job-1")
        assert (state.phase, state.message, state.result) == (JobPhase.FINISHED, None, {"answer": 42})
        assert engine.log("job-1") == "computed\n"

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
    def test_of_a_job_that_fails_is_the_reason_in_one_line(self, engine, way, message):
        submit(engine, "bad", way)
        submit(engine, "good", "well")
        states = wait_for(engine, "bad", "good")
        assert (states["bad"].phase, states["bad"].message) == (JobPhase.FAILED, message)
        assert states["good"].phase is JobPhase.FINISHED

    def test_of_a_job_that_hangs_is_its_limit(self, home):
        engine = make_engine(home, seconds=1)
        submit(engine, "slow", "hangs")
        state = wait_for(engine, "slow")
        assert state.phase is JobPhase.FAILED
        assert state.message == "It ran longer than its limit of 1 s (IRP_JOB_HOURS)"
        assert of_jobs(home) == []

    def test_of_a_job_that_fills_its_folder_is_its_quota(self, home):
        engine = make_engine(home, disk_bytes=1e6)
        submit(engine, "greedy", "fills")
        state = wait_for(engine, "greedy")
        assert state.phase is JobPhase.FAILED
        assert "grew beyond its limit of 0.001 GB" in state.message
        assert of_jobs(home) == []

    def test_of_a_job_that_takes_much_memory_is_its_limit(self, home):
        engine = make_engine(home, memory_bytes=2e8)
        submit(engine, "greedy", "needs memory")
        state = wait_for(engine, "greedy")
        assert state.phase is JobPhase.FAILED
        assert state.message == "It used more memory than its limit of 0.2 GB (IRP_JOB_MEMORY_GB)"
        assert of_jobs(home) == []

    def test_within_its_limit_of_memory_is_left_alone(self, home):
        engine = make_engine(home, memory_bytes=2e8)
        submit(engine, "modest", "works for some seconds")
        assert wait_for(engine, "modest").phase is JobPhase.FINISHED

    def test_leave_no_process_behind(self, engine, home):
        submit(engine, "job", "leaves a child")
        assert wait_for(engine, "job").phase is JobPhase.FINISHED
        assert of_jobs(home) == []

    def test_of_a_program_that_does_not_exist(self, home):
        engine = LocalEngine(home / "jobs", ["/no/such/program"], Limits(60, 1e9))
        engine.submit({"job": {}})
        engine.wake()
        assert "cannot be started" in wait_for(engine, "job").message

    def test_are_final(self, engine):
        submit(engine, "job", "fails")
        ended = wait_for(engine, "job")
        submit(engine, "job", "well")
        engine.cancel(["job"])
        assert engine.states(["job"])["job"] == ended


class TestCancelling:
    def test_ends_a_job_at_work_with_all_it_started(self, engine, home):
        submit(engine, "job", "hangs")
        wait_for(engine, "job", phases={JobPhase.RUNNING})
        while len(of_jobs(home)) < 3:
            time.sleep(0.05)
        engine.cancel(["job"])
        assert wait_for(engine, "job").phase is JobPhase.CANCELLED
        assert of_jobs(home) == []

    def test_ends_a_job_that_waits_at_once(self, engine):
        for key in ("a", "b", "waits"):
            submit(engine, key, "hangs")
        wait_for(engine, "a", "b", phases={JobPhase.RUNNING})
        engine.cancel(["waits"])
        assert engine.states(["waits"])["waits"].phase is JobPhase.CANCELLED
        assert list(waiting()) == []
        engine.cancel(["a", "b"])
        wait_for(engine, "a", "b")
        assert not (engine.folder("waits") / "started.json").exists()

    def test_of_an_unknown_job_does_nothing(self, engine):
        engine.cancel(["nobody"])
        assert engine.states(["nobody"])["nobody"].phase is JobPhase.UNKNOWN


class TestKilled:
    def test_a_supervisor_takes_its_job_with_it_and_the_queue_goes_on(self, engine, home):
        keys = ("victim", "second", "third", "fourth")
        submit(engine, "victim", "hangs")
        wait_for(engine, "victim", phases={JobPhase.RUNNING})
        for key in keys[1:]:
            submit(engine, key, "well")
        os.kill(supervisor_of(engine, "victim"), signal.SIGKILL)
        states = wait_for(engine, *keys)
        assert states["victim"].phase is JobPhase.FAILED
        assert "ended without a result: it was killed" in states["victim"].message
        assert {states[key].phase for key in keys[1:]} == {JobPhase.FINISHED}
        assert of_jobs(home) == []

    def test_a_program_fails_its_job_alone(self, engine, home):
        submit(engine, "victim", "hangs")
        submit(engine, "other", "reads", inputs={"location.csv": __file__})
        wait_for(engine, "victim", phases={JobPhase.RUNNING})
        while not (found := [process for process in of_jobs(home) if "-c" in process.cmdline()]):
            time.sleep(0.02)
        next(p for p in found if p.environ()[MARK] == str(engine.folder("victim"))).kill()
        states = wait_for(engine, "victim", "other")
        assert states["victim"].message == "Its program was killed by SIGKILL"
        assert states["other"].phase is JobPhase.FINISHED
        assert of_jobs(home) == []

    def test_whoever_submits_leaves_the_job_at_work(self, home):
        script = (
            "import pathlib, sys; sys.path.insert(0, sys.argv[3])\n"
            "from irp_pipeline.engines.local import LocalEngine\n"
            "engine = LocalEngine(pathlib.Path(sys.argv[1]), [sys.executable, '-c', sys.argv[2]])\n"
            "engine.submit({'job': {'does': \"time.sleep(1); done({})\"}}); engine.wake()\n"
            "import os; os.kill(os.getpid(), 9)\n"
        )
        folder = str(home / "jobs")
        subprocess.run([sys.executable, "-c", script, folder, PROGRAM, str(Path.cwd())], check=False)
        assert wait_for(make_engine(home), "job").phase is JobPhase.FINISHED


KILLED_WHILE_SUBMITTING = """
import os, pathlib, signal, subprocess, sys
steps = int(sys.argv[1])
def counted(function):
    def wrapper(*arguments, **named):
        global steps
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return wrapper
os.link, os.fsync, subprocess.run = counted(os.link), counted(os.fsync), counted(subprocess.run)
pathlib.Path.mkdir, pathlib.Path.replace = counted(pathlib.Path.mkdir), counted(pathlib.Path.replace)
pathlib.Path.symlink_to, pathlib.Path.exists = counted(pathlib.Path.symlink_to), counted(pathlib.Path.exists)
from irp_pipeline.engines.local import LocalEngine
engine = LocalEngine(pathlib.Path(sys.argv[2]), [sys.executable, "-c", sys.argv[4]])
engine.submit({sys.argv[3]: {"does": sys.argv[5], "inputs": {"location.csv": sys.argv[6]}}})
engine.wake()
print("submitted")
"""


class TestSubmitting:
    def test_that_is_killed_anywhere_and_repeated_runs_once(self, engine, home):
        keys: list[str] = []
        while True:
            keys.append(f"killed-at-{len(keys) + 1}")
            command = [sys.executable, "-c", KILLED_WHILE_SUBMITTING, str(len(keys)), str(home / "jobs"), keys[-1]]
            killed = subprocess.run(
                [*command, PROGRAM, WAYS["counts"], __file__], capture_output=True, text=True, check=False
            )
            if killed.stdout == "submitted\n":
                break
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(keys) > 10
        for key in keys:
            submit(engine, key, "counts", inputs={"location.csv": __file__})
        wait_for(engine, *keys)
        assert {(engine.folder(key) / "runs").read_text() for key in keys} == {"run\n"}

    def test_twice_and_from_many_at_once_runs_once(self, engine):
        keys = [f"job-{number}" for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: submit(engine, key, "counts"), keys * 5))
        wait_for(engine, *keys)
        for key in keys:
            submit(engine, key, "counts")
        assert {(engine.folder(key) / "runs").read_text() for key in keys} == {"run\n"}

    def test_never_runs_more_than_there_are_slots(self, engine):
        keys = [f"job-{number}" for number in range(6)]
        for key in keys:
            submit(engine, key, "counts")
        most = 0
        while True:
            phases = Counter(state.phase for state in engine.states(keys).values())
            most = max(most, phases[JobPhase.RUNNING])
            if sum(phases[phase] for phase in ENDED) == len(keys):
                break
        assert 1 <= most <= 2

    def test_begins_the_oldest_first(self, engine, monkeypatch):
        monkeypatch.setenv("IRP_JOB_SLOTS", "1")
        keys = ["zeta", "alpha", "mu"]
        for key in keys:
            submit(engine, key, "well")
        wait_for(engine, *keys)
        begun = [(engine.folder(key) / "started.json").stat().st_mtime_ns for key in keys]
        assert begun == sorted(begun)

    def test_of_a_job_that_nobody_got_to_is_done_by_the_next_look(self, engine):
        with slot(5), slot(5):  # no supervisor can start
            submit(engine, "job", "well")
            assert engine.states(["job"])["job"].phase is JobPhase.QUEUED
        assert wait_for(engine, "job").phase is JobPhase.FINISHED

    def test_takes_the_files_as_they_are_now(self, engine, home):
        source = home / "location.csv"
        source.write_text("old")
        submit(engine, "job", "reads", inputs={"location.csv": str(source)})
        newer = home / "newer.csv"
        newer.write_text("new")
        newer.replace(source)
        assert wait_for(engine, "job").result == {"read": "old"}

    def test_without_a_file_is_refused_and_can_be_repeated(self, engine, home):
        source = home / "location.csv"
        with pytest.raises(EngineError, match="There is no file"):
            submit(engine, "job", "reads", inputs={"location.csv": str(source)})
        assert engine.states(["job"])["job"].phase is JobPhase.UNKNOWN
        source.write_text("there")
        submit(engine, "job", "reads", inputs={"location.csv": str(source)})
        assert wait_for(engine, "job").result == {"read": "there"}

    @pytest.mark.parametrize("key", ["", "..", "a/b", "/etc", "-x", "a" * 101])
    def test_under_a_key_that_is_no_name_is_refused(self, engine, key):
        with pytest.raises(EngineError, match="cannot be the key"):
            submit(engine, key, "well")

    def test_with_an_input_outside_of_its_folder_is_refused(self, engine):
        with pytest.raises(EngineError, match="cannot be the name"):
            submit(engine, "job", "well", inputs={"../escape": __file__})

    def test_hands_on_what_is_on_the_list_and_nothing_else(self, engine, monkeypatch):
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
        submit(engine, "job", "environment")
        found = wait_for(engine, "job").result
        assert "geheim" not in json.dumps(found)
        assert found["environment"].items() >= (wanted | {"PATH": os.environ["PATH"]}).items()
        assert str(engine.folder("job")) not in found["path"]
        assert "" not in found["path"]

    def test_hands_on_what_irp_job_env_names(self, engine, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
        monkeypatch.setenv("PYTHONPATH", "/models")
        monkeypatch.setenv("IRP_JOB_ENV", "AWS_SECRET_ACCESS_KEY, PYTHONPATH,AWS_SESSION_TOKEN")
        submit(engine, "job", "environment")
        environment = wait_for(engine, "job").result["environment"]
        assert environment["AWS_SECRET_ACCESS_KEY"] == "geheim"
        assert environment["PYTHONPATH"] == "/models"
        assert "AWS_SESSION_TOKEN" not in environment

    def test_keeps_what_it_hands_on_from_others_and_only_until_the_job_begins(self, engine, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
        monkeypatch.setenv("IRP_JOB_ENV", "AWS_SECRET_ACCESS_KEY")
        folders = [engine.folder(key) for key in ("job", "cancelled")]
        folders[0].mkdir(parents=True, mode=0o755)
        with slot(5), slot(5):  # no supervisor can start
            for folder in folders:
                submit(engine, folder.name, "well")
                assert "geheim" in (folder / "environment.json").read_text()
                assert (folder / "environment.json").stat().st_mode & 0o077 == 0
                assert folder.stat().st_mode & 0o077 == 0
            engine.cancel(["cancelled"])
        assert wait_for(engine, "job").phase is JobPhase.FINISHED
        assert wait_for(engine, "cancelled").phase is JobPhase.CANCELLED
        for folder in folders:
            kept = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
            assert not any(b"geheim" in content for content in kept)

    def test_gives_each_job_the_environment_of_its_submitter_whoever_runs_it(self, engine, home, monkeypatch):
        monkeypatch.setenv("IRP_JOB_SLOTS", "1")
        monkeypatch.setenv("IRP_JOB_ENV", "WHOSE")
        monkeypatch.setenv("WHOSE", "first")
        submit(engine, "at-work", "counts")
        monkeypatch.setenv("WHOSE", "second")
        submit(engine, "second", "environment")
        monkeypatch.delenv("IRP_JOB_ENV")
        submit(engine, "third", "environment")
        states = wait_for(engine, "at-work", "second", "third")
        assert states["second"].result["environment"]["WHOSE"] == "second"
        assert "WHOSE" not in states["third"].result["environment"]

    def test_keeps_all_files_for_their_owner(self, engine, home):
        submit(engine, "job", "writes a file", inputs={"location.csv": __file__})
        wait_for(engine, "job")
        shared = {engine.folder("job") / "inputs" / "location.csv"}  # a link to the original
        places = [home / "home", engine.folder("job"), *(home / "home").rglob("*"), *engine.folder("job").rglob("*")]
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
    def test_as_the_outcome_fails_the_job_with_the_place(self, engine, outcome, place):
        submit(engine, "bad", "writes outcome", outcome=outcome.hex())
        submit(engine, "good", "well")
        states = wait_for(engine, "bad", "good")
        assert (states["bad"].phase, states["bad"].result) == (JobPhase.FAILED, None)
        assert place in states["bad"].message
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
    def test_in_place_of_a_file_fails_the_job(self, engine, way, place):
        submit(engine, "bad", way)
        state = wait_for(engine, "bad")
        assert state.phase is JobPhase.FAILED
        assert place in state.message

    def test_as_the_reason_is_told_in_one_line_that_can_be_stored(self, engine):
        submit(engine, "bad", "fails with rubbish")
        message = wait_for(engine, "bad").message
        assert message.startswith("no\ufffd model[2J")
        assert unstorable(message) is None
        assert "\n" not in message
        assert len(message) < 2100

    @pytest.mark.parametrize("way", ["says rubbish", "says a pipe"])
    def test_as_what_it_is_doing_keeps_no_other_job_from_being_told(self, engine, way):
        submit(engine, "bad", way)
        while not ((engine.folder("bad") / "doing.txt").exists()):
            engine.states(["bad"])
        submit(engine, "good", "well")
        wait_for(engine, "good")
        state = engine.states(["bad"])["bad"]
        assert state.phase is JobPhase.RUNNING
        assert unstorable(state.message or "") is None
        engine.cancel(["bad"])
        assert wait_for(engine, "bad").phase is JobPhase.CANCELLED

    def test_in_place_of_our_own_files_ends_the_job_all_the_same(self, engine):
        submit(engine, "bad", "pretends")
        submit(engine, "good", "well")
        states = wait_for(engine, "bad", "good")
        assert states["bad"].phase is JobPhase.FINISHED
        assert states["good"].phase is JobPhase.FINISHED

    def test_in_the_log_is_shown_without_control_characters(self, engine):
        submit(engine, "job", "garbage")
        wait_for(engine, "job")
        log = engine.log("job")
        assert "last [31mwords\ufffd" in log
        assert not any(char in log for char in "\0\x1b\x07\x9b")


class TestResultFiles:
    def test_are_described_by_their_content(self, engine):
        submit(engine, "job", "files")
        digest = hashlib.sha256(b"abc").hexdigest()
        expected = {"a": {"path": "a.bin", "sha256": digest, "bytes": 3}}
        assert wait_for(engine, "job").result == {"files": expected}
