"""Telling whether a process still runs, from what was written down about it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import irp_pipeline.process
from irp_pipeline.process import HostProcess, this_process
from irp_pipeline_tests.support.waiting import wait_until


def start_of(pid: int) -> str:
    """Return field 22 of /proc/pid/stat, found by the width of the name in field 2."""
    if not sys.platform.startswith("linux"):
        return str(psutil.Process(pid).create_time())
    name = Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[len(f"{pid} ({name}) ") :].split()[22 - 3]


def process_of(pid: int) -> HostProcess:
    place = this_process().started.rpartition("/")[0]
    return HostProcess(this_process().host, pid, f"{place}/{start_of(pid)}")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that would run for ten minutes."""
    with subprocess.Popen(["sleep", "600"]) as started:
        try:
            wait_until(lambda: psutil.Process(started.pid).name() == "sleep")
            yield started
        finally:
            started.kill()


@pytest.fixture
def other(process: subprocess.Popen[bytes]) -> HostProcess:
    """What that process would say of itself."""
    return process_of(process.pid)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class TestAProcessOnThisHost:
    def test_is_not_gone_while_it_runs(self, other):
        assert not this_process().is_gone()
        assert not other.is_gone()

    def test_says_the_same_of_itself_each_time(self):
        assert this_process() == this_process()
        assert this_process().pid == os.getpid()

    def test_is_gone_when_it_has_ended(self, process, other):
        end(process)
        assert other.is_gone()

    def test_is_gone_when_only_a_zombie_is_left(self, process, other):
        process.kill()
        wait_until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_ZOMBIE)
        assert other.is_gone()

    def test_is_not_gone_while_it_is_stopped(self, process, other):
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_STOPPED)
        assert not other.is_gone()

    def test_is_gone_when_its_number_was_given_to_another(self, other):
        place, _, start = other.started.rpartition("/")
        earlier = dataclasses.replace(other, started=f"{place}/{float(start) - 1:.0f}")
        assert earlier.is_gone()

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names in /proc")
    def test_may_have_any_name(self, tmp_path):
        program = tmp_path / "a) Z (b c"
        shutil.copy(shutil.which("sleep") or "", program)
        with subprocess.Popen([program, "600"]) as sleeper:
            try:
                wait_until(lambda: ") Z (" in psutil.Process(sleeper.pid).name())
                named = process_of(sleeper.pid)
                assert not named.is_gone()
            finally:
                sleeper.kill()
        assert named.is_gone()

    def test_has_no_start_that_was_not_written_as_we_do(self):
        assert not dataclasses.replace(this_process(), started="").is_gone()
        assert not dataclasses.replace(this_process(), started="nonsense").is_gone()


class TestAProcessThatCannotBeSeenFromHere:
    @pytest.fixture
    def ended(self, process: subprocess.Popen[bytes], other: HostProcess) -> HostProcess:
        end(process)
        return other

    def test_is_not_gone_if_it_ran_on_another_host(self, ended):
        assert not dataclasses.replace(ended, host="another-host").is_gone()

    def test_is_not_gone_if_it_ran_under_another_boot(self, ended):
        _, rest = ended.started.split("/", 1)
        assert not dataclasses.replace(ended, started=f"0fcb4c36-0000-4000-8000-000000000000/{rest}").is_gone()

    def test_is_not_gone_if_it_ran_in_another_container(self, ended):
        boot, _, start = ended.started.split("/")
        assert not dataclasses.replace(ended, started=f"{boot}/pid:[1]/{start}").is_gone()


class TestASystemThatHidesProcesses:
    """/proc mounted with hidepid=2 shows a user no process but his own."""

    @pytest.fixture(autouse=True)
    def proc_that_hides(self, monkeypatch, tmp_path, other) -> None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "stat").touch()
        monkeypatch.setattr(irp_pipeline.process, "_PROC", tmp_path)

    def test_a_hidden_process_is_not_gone(self, other):
        assert not other.is_gone()

    def test_one_that_has_ended_is(self, process, other):
        end(process)
        assert other.is_gone()

    def test_another_users_process_is_not_gone_either(self, monkeypatch, other):
        def refuse(pid: int, number: int) -> None:
            raise PermissionError

        with monkeypatch.context() as another_user:
            another_user.setattr(os, "kill", refuse)
            assert not other.is_gone()


class TestASystemWithoutProc:
    @pytest.fixture(autouse=True)
    def no_proc(self, monkeypatch, tmp_path) -> None:
        monkeypatch.setattr(irp_pipeline.process, "_PROC", tmp_path)

    @pytest.fixture
    def known(self, other: HostProcess) -> HostProcess:
        place = other.started.rpartition("/")[0]
        return dataclasses.replace(other, started=f"{place}/{psutil.Process(other.pid).create_time()}")

    def test_tells_a_running_process(self, known):
        assert not this_process().is_gone()
        assert not known.is_gone()

    def test_tells_one_that_has_ended(self, process, known):
        end(process)
        assert known.is_gone()

    def test_tells_a_zombie(self, process, known):
        process.kill()
        wait_until(lambda: psutil.Process(known.pid).status() == psutil.STATUS_ZOMBIE)
        assert known.is_gone()

    def test_does_not_judge_what_it_may_not_see(self, monkeypatch, known):
        def refuse(process: psutil.Process) -> str:
            raise psutil.AccessDenied(process.pid)

        monkeypatch.setattr(psutil.Process, "status", refuse)
        assert not known.is_gone()


def test_a_forked_child_is_a_process_of_its_own():
    script = """
import json, os
from irp_pipeline.process import this_process
before = this_process()
read, write = os.pipe()
if os.fork() == 0:
    child = this_process()
    os.write(write, json.dumps([child != before, child.pid == os.getpid(), child.is_gone(), before.is_gone()]).encode())
    os._exit(0)
os.wait()
print(os.read(read, 1000).decode())
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == [True, True, False, False]
