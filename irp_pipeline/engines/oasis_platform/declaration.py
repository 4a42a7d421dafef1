"""What the engine of an Oasis Platform declares. The entry point names it.

Nothing here imports Oasis LMF, which takes seconds: that happens where the Platform is asked.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import Folders, WorkbookError, path_problem
from irp_pipeline.columns.paths import settings_problem
from irp_pipeline.engines.columns import segment_checks
from irp_pipeline.engines.declaration import ColumnRemark, EngineDeclaration, NamedFile
from irp_pipeline.engines.oasis.declaration import KEPT_COLUMNS, REQUIREMENTS, period_losses_for_groups
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import read_object
from irp_pipeline.engines.oasis.multiplier import multiplier_problem
from irp_pipeline.engines.oasis.notes import notes_on_settings
from irp_pipeline.engines.oasis_platform import NAME
from irp_pipeline.engines.oasis_platform.columns import PlatformColumns
from irp_pipeline.engines.protocol import RiskEngine
from irp_pipeline.exposure.validation.needs import Needs, needs_of_perspectives
from irp_pipeline.hashes import file_sha256
from irp_pipeline.plugins import Requirement

_NOT_TOLD: Final = "the model runs at an Oasis Platform, which does not say what it needs"


def _make(jobs_folder: Path) -> RiskEngine:
    from irp_pipeline.engines.oasis_platform.engine import PlatformEngine

    return PlatformEngine(jobs_folder)


def _find(name: str) -> str | None:
    from irp_pipeline.engines.oasis_platform.engine import platform_version

    return platform_version(name)


def _checks(analysis: Mapping[str, Any], folders: Folders | None) -> Iterator[ColumnRemark]:
    """What is wrong with the settings file; the rules of the row check its path."""
    named = analysis.get("settings")
    if folders is None or not named or path_problem(named):
        return
    if fault := settings_problem(named, folders.data, folders.models):
        yield "settings", fault
    if remark := multiplier_problem(analysis, folders):
        yield remark


def _notes(analysis: Mapping[str, Any], folders: Folders) -> Iterator[ColumnRemark]:
    if analysis.get("settings"):
        with suppress(WorkbookError, OasisError):  # the checks report it
            yield from notes_on_settings(analysis, read_object(folders.find(str(analysis["settings"]))))


def _needs(analysis: Mapping[str, Any], folders: Folders | None) -> Needs:
    return needs_of_perspectives([str(of) for of in analysis.get("perspectives", ())]) | Needs(unknown=(_NOT_TOLD,))


OASIS_PLATFORM: Final = EngineDeclaration(
    name=NAME,
    help="Stochastic: a catastrophe model at an Oasis Platform.",
    make=_make,
    columns=PlatformColumns,
    requirements=(
        *REQUIREMENTS[:1],
        Requirement(
            "Oasis Platform", "analyses at an Oasis Platform", "set IRP_OASIS_PLATFORM_URL and its credentials", _find
        ),
    ),
    needs=_needs,
    files={"settings": NamedFile(lambda path, analysis: file_sha256(path))},
    checks=_checks,
    portfolio_checks=segment_checks,
    notes=_notes,
    in_groups=period_losses_for_groups,
    drawn_by_location=lambda analysis, folders: (),
    model_columns=("model_supplier", "model_name", "model_version"),
    output_columns=KEPT_COLUMNS,
)
