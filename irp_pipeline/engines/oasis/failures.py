"""The one line that tells a person why Oasis LMF failed, which it says in different places."""

import re
from pathlib import Path

from irp_pipeline.errors import IrpError

_ERROR_LINE = re.compile(r"^.* - ERROR - (?P<said>.*)$")
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|^.* - (DEBUG|INFO|WARNING) - ")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b.*")
_LONGEST = 2000


class OasisError(IrpError):
    """Oasis LMF cannot compute the losses; the message is for the analyst."""


def reason(printed: str, errors: str, kernel_log: Path) -> str:
    """Say in one line why a run failed.

    Args:
        printed: its standard output.
        errors: its standard error.
        kernel_log: ``log/stderror.err`` of the run, where the kernel's tools write; it need not exist.

    Returns:
        The last error of the log with the lines that belong to it; if that only says that the kernel failed, the first
        exception of the kernel's tools; if there is no error in the log, the last line of standard error.
    """
    said = _last_error(printed)
    if said is None or "kernel execution" in said.lower():
        said = _first_exception(kernel_log) or said
    if said is None:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        said = lines[-1] if lines else "Oasis LMF ended with an error and said nothing"
    one_line = " ".join(said.split())
    return one_line if len(one_line) <= _LONGEST else one_line[:_LONGEST] + " …"


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
