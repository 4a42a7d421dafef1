"""The reason why Oasis LMF failed, in one line; Oasis LMF writes it to different places."""

import re
from collections import Counter
from pathlib import Path

from irp_pipeline.errors import IrpError

_ERROR_LINE = re.compile(r"^.* - ERROR - (?P<said>.*)$")
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|^.* - (DEBUG|INFO|WARNING) - ")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b.*")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_LONGEST = 2000


class OasisError(IrpError):
    """Oasis LMF cannot compute the losses; the message is for the analyst."""


def reason(printed: str, errors: str, run: Path) -> str:
    """Say in one line why a run failed.

    Args:
        printed: its standard output.
        errors: its standard error.
        run: the folder of the run, with ``log/stderror.err`` of the kernel's tools and ``input/keys-errors.parquet`` of
            the lookup; neither need exist.

    Returns:
        The last error of the log with the lines that belong to it. If it only says that the kernel failed: the first
        exception of the kernel's tools. If it says that no location could be looked up: the most frequent reason. If
        the log has no error: the last line of standard error.
    """
    said = _last_error(printed)
    if said is None or "kernel execution" in said.lower():
        said = _first_exception(run / "log" / "stderror.err") or said
    elif "no successful lookup results" in said.lower() and (failed := failed_lookups(run)):
        why, count = next(iter(failed.items()))
        said = f"The model covers no location of the portfolio; {count:,} of {sum(failed.values()):,} times: {why}"
    if said is None:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        said = lines[-1] if lines else "Oasis LMF ended with an error and said nothing"
    one_line = " ".join(said.split())
    if missing := _NO_MODULE.search(one_line):
        one_line += f". Install what brings {missing[1]} into the Python environment of irp-pipeline"
    elif "oasislmf[extra]" in one_line:
        one_line += ". Here: pip install 'irp-pipeline[oasis]'"
    return one_line if len(one_line) <= _LONGEST else one_line[:_LONGEST] + " …"


def failed_lookups(run: Path) -> dict[str, int]:
    """Count the failed lookups of a model, by reason, the most frequent first.

    Args:
        run: the folder of a run of Oasis LMF.
    """
    import pyarrow.parquet as pq

    try:
        errors = pq.read_table(run / "input" / "keys-errors.parquet")
    except FileNotFoundError:
        return {}
    return dict(Counter(str(message) for message in errors["Message"].to_pylist()).most_common())


def _last_error(printed: str) -> str | None:
    found: list[str] | None = None
    collecting = False
    for line in printed.splitlines():
        if match := _ERROR_LINE.match(line):
            found, collecting = [match["said"]], True
        elif _LOG_LINE.match(line):
            collecting = False
        elif collecting and found is not None:
            found.append(line)
    return "\n".join(found) if found else None


def _first_exception(kernel_log: Path) -> str | None:
    try:
        lines = kernel_log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next((line for line in lines if _EXCEPTION.match(line)), None)
