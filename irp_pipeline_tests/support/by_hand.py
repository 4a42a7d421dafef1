"""Oasis LMF by hand: run as somebody would who has never heard of this project."""

import os
import subprocess
import sys
from pathlib import Path

from irp_pipeline.engines.oasis.compilation import compiled_folder

OASIS = Path(sys.executable).with_name("oasislmf")


def by_hand(folder: Path, *arguments: str) -> Path:
    """Run a command of Oasis LMF in a folder, which is made if it is missing; return the folder.

    What is compiled already is not compiled again: where the compiled code is changes no figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PATH": f"{OASIS.parent}{os.pathsep}{os.environ['PATH']}",
        "OASIS_TMPDIR": str(folder),
        "NUMBA_CACHE_DIR": str(compiled_folder()),
    }
    done = subprocess.run(
        [str(OASIS), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder
