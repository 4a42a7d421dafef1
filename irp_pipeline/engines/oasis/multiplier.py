"""The uniform factor on ground-up losses, which Oasis LMF applies as post-loss amplification."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.columns import Folders
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import read_model, read_object
from irp_pipeline.errors import IrpError


def amplification(multiplier: float, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of the analysis settings that multiply every ground-up loss.

    The factor works with every model, also without amplification files, but it replaces the loss factors that a model
    has of its own.

    Args:
        multiplier: the factor.
        base: the settings file of the analysis.

    Raises:
        OasisError: the settings apply the loss factors of the model.
    """
    if base.get("pla"):
        raise OasisError(
            f"the loss_multiplier {multiplier:g} would replace the loss factors of the model, which the settings apply "
            "(pla): take one of them out"
        )
    return {"pla": True, "pla_uniform_factor": multiplier}


def multiplier_problem(analysis: Mapping[str, Any], folders: Folders) -> str | None:
    """Say why an analysis cannot have its ``loss_multiplier``; None if it can, or if its files cannot be read.

    Args:
        analysis: a row of the sheet Analyses.
        folders: where its files are.
    """
    multiplier = analysis.get("loss_multiplier")
    if multiplier is None:
        return None
    try:
        file = _settings_file(analysis, folders)
        settings = read_object(file) if file is not None and file.is_file() else {}
    except (IrpError, OSError, TypeError, ValueError):  # the checks of model and settings report it
        return None
    try:
        amplification(multiplier, settings)
    except OasisError as error:
        return str(error)
    return None


def _settings_file(analysis: Mapping[str, Any], folders: Folders) -> Path | None:
    """The settings file of an analysis, else that of its model."""
    if analysis.get("settings"):
        return folders.find(str(analysis["settings"]))
    if not analysis.get("model"):
        return None
    return read_model(folders.find(str(analysis["model"])), analysis.get("model_options")).path(
        "analysis_settings_json"
    )
