"""What Oasis LMF declares: two engines, deterministic and stochastic. The entry points name them.

Nothing here imports Oasis LMF, which takes seconds: that happens where a model is read.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import Folders, WorkbookError, quoted
from irp_pipeline.columns.paths import options_problem as paths_problem
from irp_pipeline.columns.paths import path_problem, settings_problem
from irp_pipeline.engines.columns import segment_checks
from irp_pipeline.engines.declaration import ColumnRemark, EngineDeclaration, NamedFile
from irp_pipeline.engines.model_check import Examination, ModelCheck
from irp_pipeline.engines.oasis import DETERMINISTIC as DETERMINISTIC_NAME
from irp_pipeline.engines.oasis import STOCHASTIC as STOCHASTIC_NAME
from irp_pipeline.engines.oasis import oasis
from irp_pipeline.engines.oasis.columns import EXAMPLES, DeterministicColumns, StochasticColumns
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import CONFIGURATION
from irp_pipeline.engines.oasis.multiplier import multiplier_problem
from irp_pipeline.engines.oasis.needs import needs
from irp_pipeline.engines.oasis.notes import notes
from irp_pipeline.engines.oasis.options import options_problem
from irp_pipeline.engines.oasis.rates import read_rates
from irp_pipeline.engines.oasis.segment_factors import read_factors
from irp_pipeline.exposure.validation.needs import Needs
from irp_pipeline.hashes import file_sha256
from irp_pipeline.plugins import Requirement

_REMEDY: Final = "pip install 'irp-pipeline[oasis]'"
KEPT_COLUMNS: Final = ("return_periods", "event_losses", "period_losses", "segments")
"""The columns of an analysis with a model that say what is kept of its losses."""
REQUIREMENTS: Final = tuple(
    Requirement(name, purpose, _REMEDY)
    for name, purpose in (
        ("oasislmf", "analyses with Oasis LMF"),
        ("geopandas", "models of Oasis LMF that place locations by shapes"),
        ("shapely", "models of Oasis LMF that place locations by shapes"),
        ("scikit-learn", "models of Oasis LMF that place locations by the nearest shape"),
        ("rtree", "models of Oasis LMF with a spatial index of their own"),
        ("h3", "models of Oasis LMF that place locations by H3 cells"),
    )
)


def _model_problem(path: str, has_options: bool, data_dir: Path, models_dir: Path | None) -> str | None:
    """Why ``path`` is not a model; None if it is one.

    Args:
        path: an analysis's ``model``.
        has_options: whether the workbook itself has entries of the model's configuration file.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.
    """
    try:
        target = Folders(data_dir, models_dir).find(path)
        if target.is_dir() and not has_options and not (target / CONFIGURATION).is_file():
            return f"the folder {quoted(path)} has no {CONFIGURATION}; add it, or fill the column model_options"
        if target.is_file() and target.suffix.lower() != ".json":
            return f"{quoted(path)} is neither a model's folder nor a JSON file"
    except (WorkbookError, OSError) as error:
        return str(error)
    return None


def _table_problem(path: str, folders: Folders, read: Callable[[Path], object]) -> str | None:
    """Why ``path`` is not the table that a cell must name; None if it is one.

    Args:
        path: what the cell holds.
        folders: where it is.
        read: reads the table, or raises.
    """
    try:
        target = folders.find(path)
        if target.is_dir():
            return f"{quoted(path)} is a folder; name the file in it"
        read(target)
    except (WorkbookError, OasisError, OSError) as error:
        return str(error)
    return None


def _checks_of_options(analysis: Mapping[str, Any], folders: Folders | None) -> Iterator[ColumnRemark]:
    if fault := options_problem(analysis):
        yield "model_options", fault


def _checks(analysis: Mapping[str, Any], folders: Folders | None) -> Iterator[ColumnRemark]:
    """What is wrong with options, model and settings; the rules of the row check the paths themselves."""
    yield from _checks_of_options(analysis, folders)
    if folders is None:
        return
    model, settings = analysis.get("model"), analysis.get("settings")
    if model and not path_problem(model):
        options = analysis.get("model_options", True)  # an unreadable cell is not empty
        if fault := _model_problem(model, bool(options), folders.data, folders.models):
            yield "model", fault
        elif fault := paths_problem(options, model, folders.data, folders.models, only_links=True):
            yield "model_options", fault
    if settings and not path_problem(settings) and (fault := settings_problem(settings, folders.data, folders.models)):
        yield "settings", fault
    if remark := multiplier_problem(analysis, folders):
        yield remark
    rates = analysis.get("currency_rates")
    if rates and not path_problem(rates) and (fault := _table_problem(rates, folders, read_rates)):
        yield "currency_rates", fault
    factors = analysis.get("segment_multipliers")
    if factors and not path_problem(factors) and (fault := _table_problem(factors, folders, read_factors)):
        yield "segment_multipliers", fault


def _needs(analysis: Mapping[str, Any], folders: Folders | None) -> Needs:
    model = analysis.get("model")
    return needs(analysis, folders.find(str(model)) if model and folders is not None else None)


def _notes(analysis: Mapping[str, Any], folders: Folders) -> Iterator[ColumnRemark]:
    if not analysis.get("model"):
        return
    try:
        model = folders.find(str(analysis["model"]))
        settings = folders.find(str(analysis["settings"])) if analysis.get("settings") else None
    except WorkbookError:  # an error, which the checks report
        return
    yield from notes(analysis, model, settings)


def period_losses_for_groups(analysis: Mapping[str, Any]) -> Iterator[str]:
    """Say why a stochastic analysis has no period losses, which groups need."""
    if analysis.get("period_losses") is False:
        yield "groups need period losses; write yes in the column period_losses of Analyses"
    if analysis.get("samples") == 0:
        yield "with 0 samples there are no losses of simulated years, which groups add up"


def drawn_by_location(analysis: Mapping[str, Any], folders: Folders) -> Iterator[str]:
    """Say why other location numbers would change more than the draws of a stochastic analysis."""
    named = analysis.get("segment_multipliers")
    if named and "LocNumber" in read_factors(folders.find(str(named))).fields:
        yield f"its table of factors {named} names locations by their numbers"


def _converts_to(analysis: Mapping[str, Any]) -> str | None:
    if analysis.get("currency_rates"):
        return analysis.get("currency")
    currency = (analysis.get("model_options") or {}).get("reporting_currency")
    return None if currency is None else str(currency)


def _model_hash(path: Path, analysis: Mapping[str, Any]) -> str:
    from irp_pipeline.engines.oasis.hashes import model_hash

    return model_hash(path, analysis.get("model_options") or {})


def _examine(path: Path) -> Examination:
    from irp_pipeline.engines.oasis.examine import examine

    return examine(path)


def _trial(path: Path, location: Path | None, tell: Callable[[str], None]) -> dict[str, Any]:
    from irp_pipeline.engines.oasis.examine import trial

    return trial(path, location=location, tell=tell)


DETERMINISTIC: Final = EngineDeclaration(
    name=DETERMINISTIC_NAME,
    help="Deterministic: the same damage everywhere, given by loss factors.",
    make=oasis,
    columns=DeterministicColumns,
    examples=EXAMPLES[:1],
    requirements=REQUIREMENTS[:1],
    needs=_needs,
    checks=_checks_of_options,
    portfolio_checks=segment_checks,
    output_columns=("segments", "queue"),
    converts_to=_converts_to,
)
STOCHASTIC: Final = EngineDeclaration(
    name=STOCHASTIC_NAME,
    help="Stochastic: a catastrophe model.",
    make=oasis,
    columns=StochasticColumns,
    examples=EXAMPLES[1:],
    requirements=REQUIREMENTS,
    needs=_needs,
    files={
        "model": NamedFile(_model_hash, ("model_options",)),
        "settings": NamedFile(lambda path, analysis: file_sha256(path)),
        "currency_rates": NamedFile(lambda path, analysis: file_sha256(path)),
        "segment_multipliers": NamedFile(lambda path, analysis: file_sha256(path)),
    },
    checks=_checks,
    portfolio_checks=segment_checks,
    notes=_notes,
    in_groups=period_losses_for_groups,
    drawn_by_location=drawn_by_location,
    model_columns=("model", "model_options"),
    output_columns=(*KEPT_COLUMNS, "queue"),
    converts_to=_converts_to,
    models=ModelCheck(_examine, _trial),
)
