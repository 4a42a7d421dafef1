"""Old names of ``helpers.configuration``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.helpers.configuration import load_configuration
from irp_pipeline.helpers.wanted import BATCH_TYPES, wanted_of
from irp_pipeline.old_framework import gone, replaced_by


@replaced_by("load_configuration")
def load_configuration_file(cycle_id: int, excel_config_path: str | Path) -> int:
    """Read a workbook, make it the active configuration of a cycle, and return its id."""
    return load_configuration(cycle_id, Path(excel_config_path))


@replaced_by("create_batch, which makes them with the batch")
def create_job_configurations(batch_type: str, configuration_data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of the jobs of a type that a configuration asks for.

    Raises:
        BatchError: no such batch type here.
    """
    return wanted_of(batch_type, configuration_data)


validate_configuration_file = gone(
    "validate_configuration_file", "the command irp config check, or check_configuration(cycle_id, path)"
)


def __getattr__(name: str) -> Any:
    if name == "BATCH_TYPE_TRANSFORMERS":
        return _transformers()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _transformers() -> dict[str, Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]]:
    return {
        name: declaration.transform
        for name, declaration in BATCH_TYPES.declared().items()
        if declaration.transform is not None
    }
