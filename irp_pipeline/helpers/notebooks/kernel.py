"""The kernel in which a notebook is executed as a step: ``python -m irp_pipeline.helpers.notebooks.kernel``.

It is an ordinary IPython kernel of this Python with the extension loaded. It ends with the process that started it,
even if that is killed, and it reads nothing of the user's own IPython.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

from irp_pipeline.helpers.notebooks.processes import STARTER

_PR_SET_PDEATHSIG: Final = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def main() -> None:
    """Start the kernel; the arguments are those of ipykernel."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(os.environ[STARTER]):  # it ended before
            os._exit(1)
    from ipykernel.kernelapp import launch_new_instance

    # Modules beside the notebook are found, but after those of Python, as in Jupyter.
    installed = [Path(place).name in {"site-packages", "dist-packages"} for place in sys.path]
    sys.path.insert(installed.index(True) if any(installed) else len(sys.path), "")
    launch_new_instance()


if __name__ == "__main__":
    main()
