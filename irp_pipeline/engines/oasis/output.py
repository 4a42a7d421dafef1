"""The tables of a run of Oasis LMF that a job keeps."""

from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.oasis.run_facts import (
    NotModelled,
)

_ORD_NAMES: Final = {"splt": "plt_sample", "selt": "elt_sample", "melt": "elt_moment"}


def keep_output(output: Path, results: Path) -> dict[str, str]:
    """Move the files of a run to their final place; return them by name, such as ``gul_ept`` or ``il_plt_sample``.

    Files of further summaries, by OED fields, have the summary's number in their names: ``gul_S2_ept``.
    """
    results.mkdir(exist_ok=True)
    files = {}
    for file in sorted(output.glob("*_S*_*.parquet")):
        perspective, summary, kind = file.stem.split("_", 2)
        prefix = perspective if summary == "S1" else f"{perspective}_{summary}"
        file.replace(results / file.name)
        if kind != "summary-info" or summary != "S1":
            files[f"{prefix}_{_ORD_NAMES.get(kind, kind)}"] = f"results/{file.name}"
    for file in output.glob("*summary-info*"):
        file.replace(results / file.name)
    return files


def write_not_modelled(missing: NotModelled, folder: Path) -> dict[str, str]:
    """Write the table of what was not modelled, unless it is empty; return its name and place."""
    if not missing.reasons:
        return {}
    write_table(missing.table, folder / "results" / "not_modelled.parquet")
    return {"not_modelled": "results/not_modelled.parquet"}


def write_table(table: Any, target: Path) -> None:
    import pyarrow.parquet as pq

    target.parent.mkdir(exist_ok=True)
    pq.write_table(table, target)
