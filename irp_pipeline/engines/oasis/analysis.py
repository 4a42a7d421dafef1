"""The analysis settings that Oasis LMF is given for a row of the workbook.

https://github.com/OasisLMF/ODS_Tools/blob/main/ods_tools/data/analysis_settings_schema.json
"""

from collections.abc import Mapping
from typing import Any

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model

_EP_CURVES = {"ept_full_uncertainty_aep": True, "ept_full_uncertainty_oep": True, "return_period_file": True}
# Settings of a model that choose among its files, and without which Oasis LMF looks for one without suffix.
_CHOICES_OF_FILES = ("event_set", "event_occurrence_id", "footprint_set", "vulnerability_set")


def analysis_settings(analysis: Mapping[str, Any], model: Model, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for one stochastic analysis.

    Args:
        analysis: a row of the sheet Analyses.
        model: the model; its defaults fill what nobody chose.
        base: a settings file; the columns of the sheet win over it. Its summaries are not used: losses are summed up
            over the whole portfolio.

    Raises:
        OasisError: the analysis has none of the perspectives that settings can ask for.
    """
    perspectives = [str(perspective) for perspective in analysis["perspectives"]]
    if not perspectives:
        raise OasisError("The analysis asks for no perspective")
    chosen = dict(base)
    chosen["model_settings"] = {
        setting: default for setting in _CHOICES_OF_FILES if (default := model.default(setting)) is not None
    } | dict(base.get("model_settings", {}))
    chosen.setdefault("model_supplier_id", model.settings.get("model_supplier_id", "unknown"))
    chosen.setdefault("model_name_id", model.settings.get("model_name_id", model.folder.name))
    chosen["analysis_tag"] = analysis["name"]
    chosen["number_of_samples"] = analysis["samples"]
    if periods := list(analysis.get("return_periods") or ()):
        chosen["return_periods"] = sorted(periods)
    output: dict[str, Any] = {"alt_period": True, "parquet_format": True, **_EP_CURVES}
    if analysis.get("period_losses"):
        output["plt_sample"] = True
    if analysis.get("event_losses"):
        output |= {"elt_sample": True, "elt_moment": True}
    for perspective in ("gul", "il", "ri", "rl"):
        wanted = perspective.upper() in perspectives
        chosen[f"{perspective}_output"] = wanted
        chosen.pop(f"{perspective}_summaries", None)
        if wanted:
            chosen[f"{perspective}_summaries"] = [{"id": 1, "ord_output": output}]
    return chosen
