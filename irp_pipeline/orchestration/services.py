"""The processes that ``irp ui`` starts and watches: ``python -m irp_pipeline.orchestration.services ROLE …``.

===============  ======================================================================================================
``code-server``  loads the definitions and starts the runs, for the other two
``daemon``       Dagster's daemon: queue, schedules, sensors, run monitoring
``webserver``    the UI, behind the door of :mod:`irp_pipeline.orchestration.webserver`
===============  ======================================================================================================

Each has its own session. It ends, with everything it started, when the process that watches it is gone.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

LOCATION = "irp_pipeline.definitions"
"""The module of the definitions, which is also the name of the code location in the UI."""

_SECONDS_TO_END = 15


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["code-server", "daemon", "webserver"])
    parser.add_argument("--watched-by", type=int, required=True, help="a pipe that ends when we are to end")
    parser.add_argument("--place", type=Path, required=True, help="folder of the code server's socket")
    parser.add_argument("--listening", type=int, help="the socket of the webserver")
    parser.add_argument("--host", action="append", default=[], help="a value of the header Host that is answered")
    given = parser.parse_args(arguments)
    _end_with_watcher(given.watched_by, given.place)
    if given.role == "code-server":
        _serve_code(socket_in(given.place))
    elif given.role == "daemon":
        _run_daemon(workspace_in(given.place))
    else:
        from irp_pipeline.orchestration.webserver import serve

        serve(socket.socket(fileno=given.listening), workspace_in(given.place), given.host)


def socket_in(place: Path) -> Path:
    """Return the socket of the code server. Anyone who can reach it can run anything as its user."""
    return place / "code"


def workspace_in(place: Path) -> Path:
    """Return the ``workspace.yaml`` that names the code server."""
    return place / "workspace.yaml"


def workspace_text(place: Path) -> str:
    """Return the content of the ``workspace.yaml``, as JSON, which is also YAML.

    https://docs.dagster.io/deployment/code-locations/workspace-yaml
    """
    server = {"socket": str(socket_in(place)), "location_name": LOCATION}
    return json.dumps({"load_from": [{"grpc_server": server}]})


def _serve_code(path: Path) -> None:
    from irp_pipeline.orchestration import internals

    path.unlink(missing_ok=True)  # left by a process that was killed
    options = ["--socket", str(path), "--module-name", LOCATION, "--location-name", LOCATION]
    # It must not import from a folder of its own, whatever the working folder is.
    options += ["--empty-working-directory", "--use-python-environment-entry-point", "--log-level", "warning"]
    internals.serve_code(options)


def _run_daemon(workspace: Path) -> None:
    from irp_pipeline.orchestration import internals

    internals.run_daemon(["--workspace", str(workspace)])


def _end_with_watcher(pipe: int, place: Path) -> None:
    """End this process and its group when the other end of a pipe closes: the process that watches us was killed.

    Also remove the folder that it would have removed.
    """

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        shutil.rmtree(place, ignore_errors=True)
        os.killpg(0, signal.SIGINT)
        time.sleep(_SECONDS_TO_END)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="irp-end-with-watcher", daemon=True).start()


if __name__ == "__main__":
    main()
