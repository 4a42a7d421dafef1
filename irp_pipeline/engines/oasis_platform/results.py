"""From the files of a finished analysis at an Oasis Platform to its figures and tables.

The figures are read and checked as those of Oasis LMF on this machine are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.folders import result_file
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model
from irp_pipeline.engines.oasis.outcome import OccurrenceSet, keep_tables, read_outcome
from irp_pipeline.engines.oasis.run_facts import settings_used
from irp_pipeline.engines.oasis_platform.errors import NotThereError
from irp_pipeline.engines.oasis_platform.platform import (
    PlatformModel,
    fetch_portfolio,
    model_packages,
)

if TYPE_CHECKING:
    from irp_pipeline.engines.oasis_platform.connection import Connection

FETCHED: Final = "fetched"
_DISTRIBUTED: Final = "V2"


def check_years(model: PlatformModel, chosen: Mapping[str, Any]) -> None:
    """Refuse an analysis whose number of simulated years would stay unknown.

    A model that one worker runs does not hand its occurrence set over; then its settings must state the years.

    Args:
        model: the model.
        chosen: the analysis settings.

    Raises:
        OasisError: the number would stay unknown.
    """
    if model.run_mode != _DISTRIBUTED and _stated_years(model, chosen) is None:
        raise OasisError(
            "The Platform runs the model in mode V1, which does not hand over the occurrence set, and the model's "
            "settings do not state its simulated years. State max_periods for the option of event_occurrence_id in "
            "model_settings.json, or run the model's workers in mode V2"
        )


def fetch_result(
    connection: Connection,
    folder: Path,
    request: Mapping[str, Any],
    analysis: Mapping[str, Any],
    model: PlatformModel,
) -> dict[str, Any]:
    """Download the files of an analysis, read and check its figures, and keep its tables in ``results``.

    Args:
        connection: the Platform.
        folder: the job's folder.
        request: the job's request.
        analysis: the analysis at the Platform.
        model: its model.

    Returns:
        The result of the job.

    Raises:
        OasisError: the files cannot be read, or a figure is missing or cannot be right.
        AwayError: a file did not arrive.
    """
    fetched = _fetch(connection, folder, analysis)
    with suppress(FileNotFoundError):
        shutil.copytree(folder / "inputs", fetched / "inputs")
    if not any((fetched / "inputs").glob("*.csv")):  # another machine submitted the job
        (fetched / "inputs").mkdir(exist_ok=True)
        fetch_portfolio(connection, int(analysis["portfolio"]), fetched / "inputs")
    run = fetched / "run"
    used = settings_used(run)
    outcome = read_outcome(
        fetched,
        run,
        request["analysis"],
        [int(period) for period in used.get("return_periods") or ()],
        changes_portfolio=_changes_portfolio(run / "input"),
        years=_years(run / "input", model, used, request["analysis"]),
    )
    _publish(fetched, folder)
    outcome["files"] = {name: result_file(folder, path) for name, path in outcome["files"].items()}
    packages = model_packages(connection, model)
    outcome["provenance"] |= {
        "engine": "Oasis LMF at an Oasis Platform",
        "engine_version": packages.get("ver_oasislmf"),
        "ods_tools_version": packages.get("ver_ods"),
        "platform_version": connection.version(),
        "model": model.name,
        "model_version": request["analysis"]["model_version"],
        "model_folder": None,
        "run_mode": model.run_mode,
        "host": f"{connection.url}, analysis {analysis['id']}",
        "exposure_hash": request["exposure_hash"],
        "seconds": _seconds(analysis),
    }
    return outcome


def fetch_files(connection: Connection, folder: Path, analysis: Mapping[str, Any]) -> None:
    """Fetch the tables of a finished analysis again: those that :func:`fetch_result` keeps."""
    fetched = _fetch(connection, folder, analysis)
    (fetched / "inputs").mkdir()
    fetch_portfolio(connection, int(analysis["portfolio"]), fetched / "inputs")
    run = fetched / "run"
    keep_tables(fetched, run, changes_portfolio=_changes_portfolio(run / "input"))
    _publish(fetched, folder)


def _fetch(connection: Connection, folder: Path, analysis: Mapping[str, Any]) -> Path:
    """Download and unpack the inputs and outputs of an analysis; return the folder that they are below."""
    fetched = folder / FETCHED
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    for endpoint, part in ((connection.analyses.input_file, "input"), (connection.analyses.output_file, "output")):
        archive = fetched / f"{part}.tar.gz"
        try:
            connection.download(endpoint, int(analysis["id"]), archive)
        except NotThereError as error:
            raise OasisError(f"The analysis is completed, but its files are gone. {error}") from None
        _unpack(archive, fetched / "run" / part)
        archive.unlink()
    return fetched


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the files of an archive, each directly below a folder."""
    target.mkdir(parents=True)
    left = settings.job_disk_bytes()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                left -= member.size
                if left < 0:
                    gigabytes = settings.job_disk_bytes() / 1e9
                    raise OasisError(
                        f"The files of the analysis are larger than {gigabytes:g} GB, the limit (IRP_JOB_DISK_GB)"
                    )
                name = Path(member.name)
                is_wanted = name.parent in {Path(), Path(target.name)}  # not what is below, such as logs
                if is_wanted and member.isfile() and (source := tar.extractfile(member)) is not None:
                    with (target / name.name).open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise OasisError(f"The archive {archive.name} of the analysis cannot be read: {error}") from None


def _publish(fetched: Path, folder: Path) -> None:
    """Move the tables to their final place, all at once, and remove the rest."""
    shutil.rmtree(folder / "results", ignore_errors=True)
    (fetched / "results").rename(folder / "results")
    shutil.rmtree(fetched)


def _years(
    run_input: Path, model: PlatformModel, used: Mapping[str, Any], analysis: Mapping[str, Any]
) -> OccurrenceSet | None:
    """The simulated years, if the run does not hand its occurrence set over: known by the model's names."""
    if (run_input / "occurrence.bin").is_file():
        return None
    periods = _stated_years(model, used)
    if periods is None:
        raise OasisError("The analysis has no occurrence.bin, and the model's settings do not state its years")
    chosen = (used.get("model_settings") or {}).get("event_occurrence_id")
    names = [analysis[column] for column in ("model_supplier", "model_name", "model_version")]
    return OccurrenceSet(hashlib.sha256(json.dumps([*names, chosen, periods]).encode()).hexdigest(), periods)


def _stated_years(model: PlatformModel, chosen: Mapping[str, Any]) -> int | None:
    own = Model(Path(), {}, model.settings)
    wanted = (chosen.get("model_settings") or {}).get("event_occurrence_id") or own.default("event_occurrence_id")
    options = own.section("model_settings").get("event_occurrence_id")
    for option in (options.get("options") or ()) if isinstance(options, Mapping) else ():
        if isinstance(option, Mapping) and str(option.get("id")) == str(wanted):
            periods = option.get("max_periods")
            return periods if isinstance(periods, int) and periods > 0 else None
    return None


def _seconds(analysis: Mapping[str, Any]) -> float | None:
    """How long the run took; the Platform does not keep when the generation of inputs began."""
    try:
        began, ended = (datetime.fromisoformat(str(analysis[name])) for name in ("task_started", "task_finished"))
    except (KeyError, ValueError):
        return None
    return round((ended - began).total_seconds(), 1)


def _changes_portfolio(run_input: Path) -> bool:
    """Whether a module of the model changed the portfolio: then the run has it as it was, too."""
    try:
        sources = json.loads((run_input / "exposure_info.json").read_text(encoding="utf-8"))["location"]["sources"]
        paths = [Path(str(source.get("filepath"))).name for source in sources.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return "raw" in sources or any(path.startswith("pre_") for path in paths)
