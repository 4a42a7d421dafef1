"""The analysis settings for Oasis LMF, made from a row of the workbook.

https://github.com/OasisLMF/ODS_Tools/blob/main/ods_tools/data/analysis_settings_schema.json
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model
from irp_pipeline.engines.oasis.multiplier import amplification
from irp_pipeline.exposure.segment_fields import fields_of

_EP_CURVES: Final = {"ept_full_uncertainty_aep": True, "ept_full_uncertainty_oep": True, "return_period_file": True}
# Settings that choose among the files of a model. Without them, Oasis LMF looks for a file without suffix.
_CHOICES_OF_FILES: Final = ("event_set", "event_occurrence_id", "footprint_set", "vulnerability_set")
_PERSPECTIVES: Final = ("gul", "il", "ri")
_NEARLY: Final = 0.85
"""Two names at least this similar (0 to 1, ``difflib``) are probably one name and its misspelling."""
_OURS: Final = 1
"""The summary over the whole portfolio, from which the figures come."""


@dataclass(frozen=True)
class Settings:
    """The settings for Oasis LMF, and the unused entries of a settings file.

    Attributes:
        chosen: the analysis settings.
        return_periods: those of the column and those of the settings file, ascending.
        ignored: entries of the settings file that are not used, each with the reason.
    """

    chosen: dict[str, Any]
    return_periods: tuple[int, ...]
    ignored: tuple[str, ...]


def analysis_settings(analysis: Mapping[str, Any], model: Model, base: Mapping[str, Any]) -> Settings:
    """Return the settings for one stochastic analysis.

    The figures come from our own summaries: over the whole portfolio, and by the fields of each combination in the
    column segments. What the settings file asks for over the whole portfolio is added to the first; its summaries by
    OED fields are computed in addition, and come before those of segments, so that they keep their numbers.

    Args:
        analysis: a row of the sheet Analyses.
        model: the model; its defaults apply where nothing is chosen.
        base: a settings file; the columns of the sheet override it.

    Raises:
        OasisError: the analysis has none of the perspectives that settings can have; the settings file has something
            that Oasis LMF does not know; or a multiplier of losses meets loss factors of the model.
    """
    perspectives = [str(perspective) for perspective in analysis["perspectives"]]
    if not perspectives:
        raise OasisError("The analysis asks for no perspective")
    _refuse_unknown(base)
    _refuse_misspelt(base.get("model_settings", {}), model)
    ignored = list(_replaced(analysis, base))
    chosen = copy.deepcopy(dict(base))
    chosen["model_settings"] = {
        setting: default for setting in _CHOICES_OF_FILES if (default := model.default(setting)) is not None
    } | dict(base.get("model_settings", {}))
    chosen.setdefault("model_supplier_id", model.settings.get("model_supplier_id", "unknown"))
    chosen.setdefault("model_name_id", model.settings.get("model_name_id", model.folder.name))
    chosen["analysis_tag"] = analysis["name"]
    chosen["number_of_samples"] = analysis["samples"]
    periods = tuple(sorted({*(analysis.get("return_periods") or ()), *(base.get("return_periods") or ())}))
    if periods:
        chosen["return_periods"] = list(periods)
    chosen |= amplification(analysis, base, model)
    output: dict[str, Any] = {"alt_period": True, "parquet_format": True, **_EP_CURVES}
    if analysis.get("period_losses") and analysis["samples"]:
        output["plt_sample"] = True
    if analysis.get("event_losses"):
        output |= {"elt_sample": bool(analysis["samples"]), "elt_moment": True}
    for perspective in _PERSPECTIVES:
        wanted = perspective.upper() in perspectives
        chosen[f"{perspective}_output"] = wanted
        theirs = chosen.pop(f"{perspective}_summaries", None) or []
        if wanted:
            summaries = _summaries(output, theirs, f"{perspective}_summaries", ignored)
            chosen[f"{perspective}_summaries"] = [*summaries, *_of_segments(analysis, output, len(summaries))]
        elif theirs and base.get(f"{perspective}_output"):
            ignored.append(f"{perspective}_summaries: the column perspectives does not ask for {perspective.upper()}")
    if base.get("rl_output"):
        theirs = base.get("rl_summaries") or []
        chosen["rl_summaries"] = [{**item, "ord_output": _as_parquet(item.get("ord_output", {}))} for item in theirs]
    return Settings(chosen, periods, tuple(ignored))


def _summaries(
    output: Mapping[str, Any], theirs: list[Mapping[str, Any]], entry: str, ignored: list[str]
) -> list[dict[str, Any]]:
    ours: dict[str, Any] = {"id": _OURS, "ord_output": dict(output)}
    others: list[dict[str, Any]] = []
    for summary in theirs:
        asked = summary.get("ord_output", {})
        old = sorted(summary.keys() - {"id", "oed_fields", "ord_output"})
        if old:
            ignored.append(f"{entry}: {', '.join(old)}, which Oasis LMF no longer has; say it in ord_output")
        if not summary.get("oed_fields"):
            ours["ord_output"] |= {name: value for name, value in asked.items() if value and name != "parquet_format"}
        elif asked:
            number = _OURS + 1 + len(others)
            others.append({"id": number, "oed_fields": summary["oed_fields"], "ord_output": _as_parquet(asked)})
    return [ours, *others]


def _of_segments(analysis: Mapping[str, Any], output: Mapping[str, Any], before: int) -> Iterator[dict[str, Any]]:
    """The summaries of segments, after ``before`` others: without the losses of events, which no figure needs."""
    of_events = {"elt_sample", "elt_moment"}
    asked = {name: value for name, value in output.items() if name not in of_events}
    for number, combination in enumerate(analysis.get("segments") or ()):
        yield {"id": _OURS + before + number, "oed_fields": list(fields_of(combination)), "ord_output": dict(asked)}


def segment_summary(used: Mapping[str, Any], perspective: str, by: tuple[str, ...]) -> int:
    """Return the number of the summary of segments in the settings of a run.

    Args:
        used: the settings.
        perspective: ``GUL``, ``IL``, ``RI``.
        by: the OED fields of the segments.

    Raises:
        OasisError: the run has no such summary.
    """
    for summary in reversed(used.get(f"{perspective.lower()}_summaries") or []):
        if tuple(summary.get("oed_fields") or ()) == by:
            return int(summary["id"])
    raise OasisError(f"The run of Oasis LMF has no summary of {perspective} by {', '.join(by)}")


def _as_parquet(output: Mapping[str, Any]) -> dict[str, Any]:
    return {**output, "parquet_format": True}


def _replaced(analysis: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    """The entries whose value a column overrides."""
    for entry, column in (("number_of_samples", "samples"), ("analysis_tag", "name")):
        if entry in base and base[entry] != analysis[column]:
            yield f"{entry} {base[entry]!r}: the column {column} says {analysis[column]!r}"
    for perspective in _PERSPECTIVES:
        if base.get(f"{perspective}_output") and perspective.upper() not in analysis["perspectives"]:
            yield f"{perspective}_output: the column perspectives does not ask for {perspective.upper()}"


def _refuse_misspelt(settings: Mapping[str, Any], model: Model) -> None:
    """Refuse a name that is almost equal to one that the model declares.

    Other names are passed on: a module of the model may read entries that its settings do not declare.
    """
    declared = {*_CHOICES_OF_FILES, *model.section("model_settings")}
    for content in model.section("model_settings").values():
        if isinstance(content, list):
            declared |= {str(item["name"]) for item in content if isinstance(item, Mapping) and "name" in item}
    for name in settings.keys() - declared:
        if close := get_close_matches(name, sorted(declared), 1, _NEARLY):
            raise OasisError(
                f"The settings file has {name!r} in model_settings, which the model does not declare; do you mean "
                f"{close[0]}?"
            )


def _refuse_unknown(base: Mapping[str, Any]) -> None:
    """Refuse entries that Oasis LMF would silently ignore, and those that it rejects."""
    import json
    from importlib.resources import files

    from jsonschema import Draft4Validator

    schema = json.loads((files("ods_tools") / "data" / "analysis_settings_schema.json").read_text(encoding="utf-8"))
    summary = schema["definitions"]["output_summaries"]["items"]["properties"]
    known = schema["properties"].keys() | {"$schema"}
    if unknown := sorted(base.keys() - known):
        raise OasisError(f"The settings file has {', '.join(unknown)}, which Oasis LMF does not know")
    for error in Draft4Validator(schema).iter_errors(dict(base)):
        if error.validator != "required":  # the columns provide the rest
            place = ".".join(map(str, error.absolute_path))
            raise OasisError(f"The settings file has a wrong value of {place}: {error.message}")
    for perspective in (*_PERSPECTIVES, "rl"):
        for item in base.get(f"{perspective}_summaries") or []:
            if unknown := sorted(item.keys() - summary.keys()):
                raise OasisError(
                    f"The settings file has {', '.join(unknown)} in {perspective}_summaries, which Oasis LMF does not "
                    "know"
                )
            outputs = summary["ord_output"]["properties"]
            if unknown := sorted(item.get("ord_output", {}).keys() - outputs.keys()):
                raise OasisError(
                    f"The settings file has {', '.join(unknown)} in ord_output of {perspective}_summaries, which Oasis "
                    "LMF does not know"
                )
