"""Running the program of a job with real Oasis LMF, outside of any cycle.

Nothing is compiled: Numba is off, which tiny portfolios and models can afford.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irp_pipeline.exposure.portfolio import folder_hash


@dataclass(frozen=True)
class Job:
    """What the program of a job left."""

    folder: Path
    outcome: dict[str, Any] = field(repr=False)
    error: str | None

    @property
    def provenance(self) -> dict[str, Any]:
        return dict(self.outcome["provenance"])

    def figures(self) -> dict[tuple[str, str, float | None], float]:
        return {
            (of["perspective"], of["metric"], of["return_period"] or of["loss_factor"]): of["loss"]
            for of in self.outcome["figures"]
        }


def run_job(folder: Path, portfolio: Path, analysis: dict[str, Any], model: Path | None = None, **more: Any) -> Job:
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    for file in portfolio.glob("*.csv"):
        shutil.copyfile(file, inputs / file.name)
    request = {
        "analysis": {"name": folder.name, **analysis},
        "exposure_hash": folder_hash(inputs),
        "processes": 1,
        **more,
    }
    if model is not None:
        request["model"] = str(model)
    (folder / "request.json").write_text(json.dumps({"request": request}))
    done = subprocess.run(
        [sys.executable, "-m", "irp_pipeline.engines.oasis", str(folder)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "IRP_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        assert (folder / "error.txt").exists(), done.stdout[-2000:] + done.stderr[-2000:]
        error = (folder / "error.txt").read_text()
        assert "\n" not in error
        return Job(folder, {}, error)
    return Job(folder, json.loads((folder / "outcome.json").read_text()), None)
