"""The program of a job: ``python -m irp_pipeline.engines.oasis FOLDER``.

It prepares what Oasis LMF reads, runs it as from a command line, and writes the figures to ``outcome.json``, or to
``error.txt`` why there are none. Oasis LMF changes the folder and the logging of the process it runs in, and its tools
are killed as a group when one fails: hence a process of its own, in the session of the job.
"""

import csv
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.oasis import DETERMINISTIC
from irp_pipeline.engines.oasis.analysis import analysis_settings
from irp_pipeline.engines.oasis.failures import OasisError, failed_lookups, reason
from irp_pipeline.engines.oasis.figures import deterministic_figures, occurrence, stochastic_figures
from irp_pipeline.engines.oasis.model import Model, check_model, read_model, read_object
from irp_pipeline.engines.program import end_with_supervisor, say
from irp_pipeline.errors import IrpError
from irp_pipeline.exposure.portfolio import exposure_hash, file_hashes, portfolio_files
from irp_pipeline.files import write_atomically

_PROCESSES: Final = 1
"""Of the kernel: more of them are slower on few processors, and the figures are the same."""
_ERRORS: Final = "errors.txt"
_PROGRESS_SECONDS: Final = 2.0
_PROGRESS_BAR: Final = re.compile(r"(\d+)/(\d+) \[")
_ORD_NAMES: Final = {"splt": "plt_sample", "selt": "elt_sample", "melt": "elt_moment"}
"""The tables whose files Oasis LMF names otherwise than its settings do."""
_OED_FLAGS: Final = {"location.csv": "-x", "account.csv": "-y", "ri_info.csv": "-i", "ri_scope.csv": "-s"}


def main(folder: Path) -> int:
    """Run the job of a folder; return the exit status."""
    end_with_supervisor()
    try:
        outcome = _run(folder, read_object(folder / "request.json")["request"])
    except (IrpError, OSError) as error:
        write_atomically(folder / "error.txt", " ".join(str(error).split()))
        return 1
    write_atomically(folder / "outcome.json", json.dumps(outcome, indent=1))
    return 0


def _run(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    analysis = request["analysis"]
    inputs = folder / "inputs"
    if exposure_hash(file_hashes(portfolio_files(inputs).values())) != request["exposure_hash"]:
        raise OasisError("The exposure was replaced while the job was being submitted: run the cycle again")
    is_deterministic = analysis["engine"] == DETERMINISTIC
    outcome = _deterministic(folder, analysis) if is_deterministic else _stochastic(folder, request)
    outcome["currency"] = analysis["currency"]
    outcome["provenance"] |= {
        "engine": "Oasis LMF",
        "engine_version": _version("oasislmf"),
        "ods_tools_version": _version("ods_tools"),
        "python": platform.python_version(),
        "host": platform.node(),
        "exposure_hash": request["exposure_hash"],
        "processes": _PROCESSES,
        "seconds": round(time.monotonic() - began, 1),
    }
    return outcome


def _deterministic(folder: Path, analysis: Mapping[str, Any]) -> dict[str, Any]:
    if not (folder / "inputs" / "account.csv").exists():
        raise OasisError("Oasis LMF needs an account table for deterministic losses, and the portfolio has none")
    factors = [float(factor) for factor in analysis["loss_factor"]]
    write_atomically(folder / "oasislmf.json", json.dumps({"print_summary": False, "portfolio_complexity": False}))
    run, table = folder / "run", folder / "losses.csv"
    arguments = ["-C", "oasislmf.json", "-s", "inputs", "-r", str(run), "-f", str(table), "-o", "loc", "-l"]
    _oasislmf(folder, "computes the losses", ["exposure", "run", *arguments, *map(str, factors)], run)
    figures = deterministic_figures(
        _write_location_losses(table, factors, folder / "results" / "losses.parquet"), factors, analysis["perspectives"]
    )
    table.unlink()
    shutil.rmtree(run)
    return {
        "figures": figures,
        "files": {"losses": "results/losses.parquet"},
        "provenance": {"model": None, "model_version": None, "settings": {"loss_factor": factors}},
    }


def _stochastic(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    analysis = request["analysis"]
    model = read_model(Path(request["model"]), analysis.get("model_options"))
    check_model(model)
    chosen = analysis_settings(analysis, model, _base_settings(model, request.get("settings")))
    write_atomically(folder / "analysis_settings.json", json.dumps(chosen, indent=1))
    write_atomically(folder / "oasislmf.json", json.dumps(_absolute(model), indent=1))
    run = folder / "run"
    arguments = ["-C", "oasislmf.json", "-a", "analysis_settings.json", "-r", str(run), "-n", str(_PROCESSES)]
    for name, flag in _OED_FLAGS.items():
        if (folder / "inputs" / name).exists():
            arguments += [flag, f"inputs/{name}"]
    _warm_up(folder)
    command = ["model", "run", *arguments, "--resource-monitor-interval", "9999"]
    _oasislmf(folder, "computes the losses", command, run)
    figures = stochastic_figures(run / "output", analysis["perspectives"], analysis.get("return_periods") or ())
    occurrence_hash, periods = occurrence(run / "input" / "occurrence.bin")
    is_weighted = (run / "input" / "periods.bin").exists()
    not_modelled = failed_lookups(run)
    files = _keep_output(run / "output", folder / "results")
    shutil.rmtree(run)
    return {
        "figures": figures,
        "files": files,
        "provenance": {
            "model": model.name,
            "model_version": model.version,
            "model_folder": str(model.folder),
            "samples": analysis["samples"],
            "periods": periods,
            "weighted_periods": is_weighted,
            "occurrence_hash": occurrence_hash,
            "not_modelled": not_modelled,
            "settings": chosen,
        },
    }


def _base_settings(model: Model, named: str | None) -> dict[str, Any]:
    file = Path(named) if named else model.path("analysis_settings_json")
    return read_object(file) if file is not None and (named or file.is_file()) else {}


def _absolute(model: Model) -> dict[str, Any]:
    """Return the model's configuration for another folder: with absolute paths.

    Which entries are paths is asked from Oasis LMF itself.
    """
    from oasislmf.computation.run.model import RunModel

    paths = {parameter["name"] for parameter in RunModel.get_params() if parameter.get("is_path")}
    # The job brings these itself.
    ours = {"analysis_settings_json", "model_run_dir", "oasis_files_dir"} | {
        f"oed_{table}_csv" for table in ("location", "accounts", "info", "scope")
    }
    return {
        name: str((model.folder / value).resolve()) if name in paths and isinstance(value, str) and value else value
        for name, value in model.configuration.items()
        if name not in ours
    }


def _warm_up(folder: Path) -> None:
    """Have Oasis LMF compile itself, once for each version of it and of Python; others wait meanwhile."""
    cache = _compiled()
    # The cache goes by the places of the sources as well.
    place = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    done = cache / f"warm-{_version('oasislmf')}-{_version('numba')}-{platform.python_version()}-{place}"
    if done.exists():
        return
    say(folder, "waits for the engine, which compiles itself once (about three minutes)")
    with (cache / "warming.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return
        doing = "compiles the engine, once (about three minutes)"
        with _telling_progress(folder, doing):
            _oasislmf(folder, doing, ["warmup"], folder / "warmup")
        done.touch()


@contextmanager
def _telling_progress(folder: Path, doing: str) -> Iterator[None]:
    """Tell within the block how far the progress bar is that a command draws on its standard error."""
    ended = threading.Event()

    def tell() -> None:
        said = None
        while not ended.wait(_PROGRESS_SECONDS):
            with suppress(FileNotFoundError):
                drawn = (folder / _ERRORS).read_text(encoding="utf-8", errors="replace")
                if (parts := _PROGRESS_BAR.findall(drawn)) and parts[-1] != said:
                    said = parts[-1]
                    say(folder, f"{doing}: {said[0]} of {said[1]} parts")

    thread = threading.Thread(target=tell, name="irp-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _compiled() -> Path:
    """The folder of compiled code, which all jobs share."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else settings.make_irp_home() / "engine" / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _oasislmf(folder: Path, doing: str, arguments: Sequence[str], run: Path) -> None:
    """Run a command of Oasis LMF in the job's folder and session.

    Raises:
        OasisError: it is not installed, or it failed; the message is its reason in one line.
    """
    say(folder, doing)
    command = Path(sys.executable).with_name("oasislmf")
    if not command.exists():
        raise OasisError("Oasis LMF is not installed. Run: pip install 'irp-pipeline[oasis]'")
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",  # its kernel calls tools by name
        "NUMBA_CACHE_DIR": str(_compiled()),
        "OASIS_TMPDIR": str(temporary),
        "TMPDIR": str(temporary),
        "PYTHONWARNINGS": "ignore",
    }
    errors_file = folder / _ERRORS
    printed: list[str] = []
    with errors_file.open("wb") as errors:
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
    shutil.rmtree(temporary, ignore_errors=True)


def _keep_output(output: Path, results: Path) -> dict[str, str]:
    """Move the files of a run to where they stay; return them by name, such as ``gul_ept`` or ``il_plt_sample``."""
    results.mkdir(exist_ok=True)
    files = {}
    for file in sorted(output.glob("*_S1_*.parquet")):
        perspective, _, kind = file.stem.partition("_S1_")
        file.replace(results / file.name)
        files[f"{perspective}_{_ORD_NAMES.get(kind, kind)}"] = f"results/{file.name}"
    for file in output.glob("*summary-info*"):
        file.replace(results / file.name)
    return files


def _write_location_losses(table: Path, factors: Sequence[float], target: Path) -> dict[str, list[float]]:
    """Write the losses of each location as Parquet; return the columns of figures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # With one factor only there is no column for it.
            of = factors[int(row.pop("loss_factor_idx", "0"))]
            for name, value in {"loss_factor": of, **row}.items():
                if name.startswith("loss_") and name != "loss_factor":
                    columns.setdefault(name.removeprefix("loss_"), []).append(float(value))
                else:
                    columns.setdefault(name, []).append(value)
    if not columns:
        raise OasisError("Oasis LMF gave no losses at all: does the portfolio have a value and a peril covered?")
    target.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), target)
    return columns


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
