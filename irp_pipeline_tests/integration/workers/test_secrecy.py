"""What a job's program can see of its worker."""

import subprocess
import sys

# As nobody: root may read everything. What a change of the user hides is shown again first.
PROGRAM = """
import ctypes, os, pathlib
from irp_pipeline.workers.secrecy import hide_environment
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
place = pathlib.Path(f"/proc/{os.getpid()}/environ")

def seen_by_a_child():
    if (child := os.fork()) == 0:
        try:
            os._exit(0 if b"geheim" in place.read_bytes() else 1)
        except OSError:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

before = seen_by_a_child()
hide_environment()
print(before, seen_by_a_child())
"""


def test_a_program_of_the_same_user_does_not_see_the_workers_environment() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"DB_PASSWORD": "geheim", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["0", "2"]
