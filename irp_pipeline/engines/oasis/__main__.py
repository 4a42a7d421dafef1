"""The program of a job: ``python -m irp_pipeline.engines.oasis FOLDER``.

It prepares the input of Oasis LMF, runs it as a command, and writes the figures to ``outcome.json``, or the reason why
there are none to ``error.txt``. Oasis LMF changes the folder and the logging of its process, and kills its tools as a
group when one fails. Therefore it gets its own process, in the session of the job.
"""

import json
import platform
import sys
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis import DETERMINISTIC
from irp_pipeline.engines.oasis.deterministic_job import deterministic_outcome
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.inputs import check_segments, check_tables
from irp_pipeline.engines.oasis.model import (
    read_object,
)
from irp_pipeline.engines.oasis.options import options_problem
from irp_pipeline.engines.oasis.stochastic_job import stochastic_outcome
from irp_pipeline.engines.program import end_with_worker
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.files import write_atomically

"""A path that needs no quotation marks in a shell."""
"""The tables whose files have other names than in the settings of Oasis LMF."""


def main(folder: Path) -> int:
    """Run the job of a folder; return the exit status."""
    end_with_worker()
    try:
        outcome = _run(folder, read_object(folder / "request.json")["request"])
    except (IrpError, OSError) as error:
        write_atomically(folder / "error.txt", " ".join(str(error).split()))
        return 1
    except Exception as error:
        traceback.print_exc()
        said = " ".join(f"{type(error).__name__}: {error}".split())
        write_atomically(folder / "error.txt", f"The program of the job failed: {said}; the job's log says where")
        return 1
    write_atomically(folder / "outcome.json", json.dumps(outcome, indent=1))
    return 0


def _run(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    analysis = request["analysis"]
    inputs = folder / "inputs"
    if folder_hash(inputs) != request["exposure_hash"]:
        raise OasisError("The exposure was replaced while the job was being submitted: run the cycle again")
    if problem := options_problem(analysis):
        raise OasisError(f"model_options: {problem}")
    check_tables(inputs, analysis["perspectives"])
    check_segments(inputs, analysis)
    is_deterministic = analysis["engine"] == DETERMINISTIC
    outcome = deterministic_outcome(folder, analysis) if is_deterministic else stochastic_outcome(folder, request)
    outcome["provenance"] |= {
        "engine": "Oasis LMF",
        "engine_version": _version("oasislmf"),
        "ods_tools_version": _version("ods_tools"),
        "python": platform.python_version(),
        "host": platform.node(),
        "exposure_hash": request["exposure_hash"],
        "seconds": round(time.monotonic() - began, 1),
    }
    return outcome


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
