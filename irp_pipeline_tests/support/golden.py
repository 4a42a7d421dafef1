"""What commands answer and what is on record, beside what they answered and recorded before.

A golden file holds answers from which everything is masked that differs from run to run: ids, times, hosts, places,
hashes, versions of libraries. ``IRP_WRITE_GOLDEN=1`` in the environment writes the files anew; each change in them
belongs into the changelog.
"""

import json
import os
import re
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

from irp_pipeline.helpers.database import fetch_all

FOLDER: Final = Path(__file__).parents[1] / "golden_files"

_LINE: Final = 240
_SIGNIFICANT_DIGITS: Final = 6  # Oasis LMF computes in single precision
_DIFFERS_BY_NAME: Final = re.compile(
    r"(?:^|_)(?:id|ids|ts|host|pid|token|by|seconds|bytes|version|processes|login)$|^(?:pid_started|job_key|engine_job|database)$"
)
_KEPT: Final = frozenset({"model_version", "by", "losses_by"})
_SEEN_BY_CHANCE: Final = frozenset({"QUEUED", "RUNNING"})  # of a job, depending on when somebody looks
_VERSIONS: Final = frozenset({"dagster", "irp-pipeline", "python"})
_PATTERNS: Final = (
    (re.compile(r"\b(?:[0-9a-f]{32}){1,2}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| UTC)?"), "<time>"),
    (re.compile(r"\b(jobs?|batch|run) \d+\b"), r"\1 <number>"),
)
_TABLES: Final = (  # without the logs, which have a line for each look at the engine
    "cycle",
    "stage",
    "step",
    "step_run",
    "artefact",
    "configuration",
    "batch",
    "job_configuration",
    "job",
    "analysis_result",
)


def masked(value: Any, places: Mapping[str, str]) -> Any:
    """Return plain data without what differs from run to run.

    Args:
        value: plain data, as from JSON.
        places: what to write for each text, such as the path of a folder.
    """
    if isinstance(value, Mapping):
        return {
            _masked_text(str(key), places): "<differs>"
            if _differs(str(key)) and not isinstance(item, dict | list | None)
            else masked(_without_chance(str(key), item), places)
            for key, item in sorted(value.items())
        }
    if isinstance(value, list | tuple):
        return [masked(item, places) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
    return _masked_text(value, places) if isinstance(value, str) else value


def records() -> dict[str, list[dict[str, Any]]]:
    """Return what is on record in the current schema: the rows of its tables, by their ids."""
    return {table: fetch_all(f"SELECT * FROM irp_{table} ORDER BY id") for table in _TABLES}


def check_golden(name: str, answers: Any, places: Mapping[str, str]) -> None:
    """Compare answers with those in the golden file, or write it.

    Args:
        name: of the file, without ``.json``.
        answers: plain data.
        places: as for :func:`masked`.
    """
    file = FOLDER / f"{name}.json"
    text = _text(masked(json.loads(json.dumps(answers, default=str)), places)) + "\n"
    if os.environ.get("IRP_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    changes = unified_diff(file.read_text().splitlines(), text.splitlines(), "as it was", "as it is", lineterm="")
    assert not (told := "\n".join(changes)), told


def _without_chance(key: str, value: Any) -> Any:
    """Leave out of a job's history what only a look at the right moment shows."""
    if key != "tracking" or not isinstance(value, list):
        return value
    return [entry for entry in value if entry["status"] not in _SEEN_BY_CHANCE]


def _differs(key: str) -> bool:
    return key in _VERSIONS or (key not in _KEPT and _DIFFERS_BY_NAME.search(key) is not None)


def _text(value: Any, depth: int = 0) -> str:
    """JSON with a line for each short part of it."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (depth and len(line) < _LINE):
        return line
    inner, outer = " " * (depth + 1), " " * depth
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _text(item, depth + 1) for item in value) + f"\n{outer}]"
    items = (f"{inner}{json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items())
    return "{\n" + ",\n".join(items) + f"\n{outer}}}"


def _masked_text(text: str, places: Mapping[str, str]) -> str:
    for place, instead in places.items():
        text = text.replace(place, instead)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
