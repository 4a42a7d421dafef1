"""The process that executes one notebook with papermill: ``python -m irp_pipeline.helpers.notebooks.program FOLDER``.

It is a process of its own so that whoever waits for it can end it at any moment, in the middle of anything. It ends
with the process that started it, and takes the kernel and all that the kernel started with it.

====================  ================================================================================================
``request.json``      what to do, from :mod:`.executing`
``source.ipynb``      the notebook
``executed.ipynb``    the notebook as far as it was executed, written before and after each cell
``outcome.json``      how it ended, if it ended by itself
``log.txt``           what papermill and the kernel printed
====================  ================================================================================================
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.notebooks.processes import STARTER, kill_the_others

REQUEST: Final = "request.json"
SOURCE: Final = "source.ipynb"
EXECUTED: Final = "executed.ipynb"
OUTCOME: Final = "outcome.json"
LOG: Final = "log.txt"

_KERNEL: Final = "irp_pipeline.helpers.notebooks.kernel"
_NAME: Final = "irp"
_PATIENCE_AT_START_SECONDS: Final = 300
_POLL_SECONDS: Final = 0.2


def main(folder: Path) -> None:
    """Execute the notebook of a folder."""
    request = json.loads((folder / REQUEST).read_text())
    _end_with(request["starter"], folder, Path(request["sockets"]))
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of each parameter that has no default
    write_atomically(folder / OUTCOME, json.dumps(_execute(folder, request)))


def _execute(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    import papermill
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from traitlets import Unicode

    processes: list[Any] = []
    sockets = Path(request["sockets"])

    class Manager(AsyncKernelManager):
        """Starts our own kernel, whatever kernels are installed.

        The two speak over sockets in a folder of their own. jupyter_client picks free ports and lets go of them before
        the kernel takes them: of notebooks that begin at the same time, some would speak with the kernel of another.
        """

        transport = Unicode("ipc")
        ip = Unicode(str(sockets / "kernel"))

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=_command(), display_name="IRP pipeline", language="python")

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            await super()._async_launch_kernel(kernel_cmd, **options)
            processes.append(getattr(self.provisioner, "process", None))

    os.environ |= {
        "JUPYTER_RUNTIME_DIR": str(sockets),
        "IPYTHONDIR": str(sockets / "ipython"),
        STARTER: str(os.getpid()),
    }
    try:
        papermill.execute_notebook(
            _literal(folder / SOURCE),
            _literal(folder / EXECUTED),
            parameters=request["parameters"],
            kernel_name=_NAME,
            language="python",
            progress_bar=False,
            start_timeout=_PATIENCE_AT_START_SECONDS,
            kernel_manager_class=Manager,
        )
    except papermill.PapermillExecutionError as error:
        return {"error": [error.ename, error.evalue], "cell": error.cell_index, "number": error.exec_count}
    except DeadKernelError:
        status = None if not processes or processes[-1] is None else processes[-1].poll()
        return {"dead": status}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}
    return {}


def _command() -> list[str]:
    return [
        sys.executable,
        "-P",  # or a file in the notebook's folder would be imported instead of a module of Python
        "-m",
        _KERNEL,
        "-f",
        "{connection_file}",
        "--ext",
        "irp_pipeline.notebook",
        "--HistoryManager.enabled=False",
    ]


def _literal(path: Path) -> str:
    """Return a path as papermill reads it, which fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _end_with(starter: int, folder: Path, sockets: Path) -> None:
    """End this process and all others of the notebook as soon as the one that started it is gone."""

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(_POLL_SECONDS)
        kill_the_others(folder)
        shutil.rmtree(sockets, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="irp-end-with-starter", daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
