"""Running a command of Oasis LMF in the folder and session of a job."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from irp_pipeline.engines.oasis.compilation import compiled_folder, forget_lookups
from irp_pipeline.engines.oasis.failures import OasisError, reason
from irp_pipeline.engines.program import say

_ERRORS: Final = "errors.txt"
_SAFE_PATH: Final = re.compile(r"[A-Za-z0-9/._+-]+")


def run_oasislmf(folder: Path, doing: str, arguments: Sequence[str], run: Path) -> None:
    """Run a command of Oasis LMF in the job's folder and session.

    Raises:
        OasisError: it is not installed, or it failed; the message is its reason in one line.
    """
    say(folder, doing)
    command = Path(sys.executable).with_name("oasislmf")
    if not command.exists():
        raise OasisError("Oasis LMF is not installed. Run: pip install 'irp-pipeline[oasis]'")
    forget_lookups()
    errors_file = folder / _ERRORS
    printed: list[str] = []
    with errors_file.open("wb") as errors, _temporary_folder(folder) as temporary:
        environment = os.environ | {
            "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",  # its kernel calls tools by name
            "NUMBA_CACHE_DIR": str(compiled_folder()),
            "OASIS_TMPDIR": str(temporary),
            "TMPDIR": str(temporary),
            "PYTHONWARNINGS": "ignore",
        }
        process = subprocess.Popen(  # noqa: S603 - the command is the one installed with this project
            [str(command), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            printed.append(line)
        status = process.wait()
    said = errors_file.read_text(encoding="utf-8", errors="replace")
    if said.strip():
        print(said, flush=True)
    if status != 0:
        raise OasisError(reason("".join(printed), said, run))


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder for a run, in the job's folder; yield a path to it.

    Oasis LMF writes the path into a shell script without quotation marks, even after ``rm -R -f``. A path with a blank
    or another special character could make the run fail, or remove somebody's folder. Then the path is that of a link.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    if _SAFE_PATH.fullmatch(str(temporary)):
        yield temporary
    else:
        link = Path(tempfile.gettempdir()) / f"irp-{uuid.uuid4().hex}"
        if not _SAFE_PATH.fullmatch(str(link)):
            raise OasisError(
                f"Oasis LMF cannot work in {folder} nor in {link.parent}: their paths hold other signs than letters, "
                "digits and . _ - +. Set TMPDIR to a folder whose path has none"
            )
        link.symlink_to(temporary, target_is_directory=True)
        try:
            yield link
        finally:
            link.unlink()
    shutil.rmtree(temporary, ignore_errors=True)
