"""Factors on ground-up losses, which Oasis LMF applies as post-loss amplification: the settings for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import Folders
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model, read_model, read_object
from irp_pipeline.errors import IrpError

COLUMNS: Final = ("loss_multiplier", "segment_multipliers")
"""The columns that ask for factors."""


def amplification(analysis: Mapping[str, Any], base: Mapping[str, Any], model: Model | None = None) -> dict[str, Any]:
    """Return the entries of the analysis settings that multiply ground-up losses; none if no factor is asked for.

    A uniform factor works with every model whose ground-up losses Oasis LMF itself computes, also without amplification
    files, but it replaces the loss factors that a model has of its own.

    Args:
        analysis: a row of the sheet Analyses.
        base: its settings file.
        model: its model, if that is known.

    Raises:
        OasisError: the settings apply the loss factors of the model, or the model computes ground-up losses itself.
    """
    asked = [column for column in COLUMNS if analysis.get(column) is not None]
    if not asked:
        return {}
    if base.get("pla"):
        raise OasisError(
            f"{' and '.join(asked)} would replace the loss factors of the model, which the settings apply (pla): take "
            "one of them out"
        )
    if model is not None and model.configuration.get("model_custom_gulcalc"):
        raise OasisError(
            f"the model cannot have {' and '.join(asked)}: it computes ground-up losses by a program of its own "
            "(model_custom_gulcalc)"
        )
    if "segment_multipliers" in asked:  # whose factors include the uniform one
        return {"pla": True}
    return {"pla": True, "pla_uniform_factor": analysis["loss_multiplier"]}


def multiplier_problem(analysis: Mapping[str, Any], folders: Folders) -> tuple[str, str] | None:
    """Say why an analysis cannot have its factors, as column and message; None if it can, or its files are unreadable.

    Args:
        analysis: a row of the sheet Analyses.
        folders: where its files are.
    """
    column = next((column for column in COLUMNS if analysis.get(column) is not None), None)
    if column is None:
        return None
    try:
        model = _model(analysis, folders)
        file = _settings_file(analysis, folders, model)
        settings = read_object(file) if file is not None and file.is_file() else {}
    except (IrpError, OSError, TypeError, ValueError):  # the checks of model and settings report it
        return None
    try:
        amplification(analysis, settings, model)
    except OasisError as error:
        return column, str(error)
    return None


def _model(analysis: Mapping[str, Any], folders: Folders) -> Model | None:
    if not analysis.get("model"):
        return None
    return read_model(folders.find(str(analysis["model"])), analysis.get("model_options"))


def _settings_file(analysis: Mapping[str, Any], folders: Folders, model: Model | None) -> Path | None:
    """The settings file of an analysis, else that of its model."""
    if analysis.get("settings"):
        return folders.find(str(analysis["settings"]))
    return None if model is None else model.path("analysis_settings_json")
