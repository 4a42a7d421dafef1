"""What a command prints, and where.

Standard output carries only the answer, so that it can be piped; notes, questions and errors go to standard error. Text
from the database (names, error messages) is shown literally: rich does not interpret markup in it, and the terminal
gets no control sequences. Rich is imported when the first line is printed: help and JSON do not need it.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

import typer

from irp_pipeline.durations import duration_in_words
from irp_pipeline.helpers.record import as_dict

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

_AS_JSON = "irp_pipeline.cli.as_json"
_UNLIMITED = 1_000_000  # columns: no line of ours is that long
_GAP = 3  # columns of a terminal between two columns of a table
_LEAST_OF_TEXT = 12  # columns of a terminal for text that is wrapped

_REMEDIES = {
    errno.ENOSPC: "The disk is full: make room, or set IRP_HOME to a folder on another one",
    errno.EDQUOT: "Your share of the disk is used up: make room, or set IRP_HOME to a folder on another one",
    errno.EROFS: "The disk is read-only: set IRP_HOME to a folder on another one",
    errno.EACCES: "Ask for the right to use it, or use another folder",
    errno.EPERM: "Ask for the right to use it, or use another folder",
    errno.ENOTDIR: "A part of that path is a file where a folder should be: move it away, or use another folder",
    errno.EEXIST: "A file is where a folder should be: move it away, or use another folder",
    errno.EISDIR: "A folder is where a file should be: name a file",
    errno.EMFILE: "Too many files are open in this process: raise the limit (ulimit -n)",
}

_STATUS_STYLES = {
    "ACTIVE": "yellow",
    "COMPLETED": "green",
    "FAILED": "bold red",
    "SKIPPED": "cyan",
    "ARCHIVED": "dim",
    "FINISHED": "green",
    "RUNNING": "yellow",
    "ERROR": "bold red",
    "CANCELLED": "magenta",
}


# --- JSON ---------------------------------------------------------------------------------------------------------


def remember_json(ctx: typer.Context, wanted: bool) -> bool:
    """Remember that JSON is wanted, in case the command fails: the callback of ``--json``."""
    ctx.meta[_AS_JSON] = wanted
    return wanted


def wants_json(ctx: typer.Context) -> bool:
    """Tell whether the command was asked for JSON."""
    return bool(ctx.meta.get(_AS_JSON))


def print_json(answer: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print one JSON object: ASCII only, times in ISO 8601 with their offset."""
    print(json.dumps(answer, indent=2, default=_json_value), file=sys.stderr if to_stderr else sys.stdout)


def _json_value(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame as plain Python values, with None for what is missing."""
    whole = frame.convert_dtypes()  # before this, a column of whole numbers with gaps has floats
    rows = whole.astype(object).where(whole.notna(), None).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.to_pydatetime() if isinstance(value, datetime) and hasattr(value, "to_pydatetime") else value


# --- lines --------------------------------------------------------------------------------------------------------


def say(text: str | Text = "") -> None:
    """Print a line of the answer."""
    _console().print(_text(text))


def print_note(text: str | Text) -> None:
    """Print something useful beyond the answer, to standard error."""
    _console(stderr=True).print(_text(text))


def styled(*parts: str | tuple[str, str] | Text) -> Text:
    """Make a line of text, text with a style such as ``bold red``, and what :func:`status_text` returns."""
    from rich.text import Text

    return Text.assemble(*((visible(part[0]), part[1]) if isinstance(part, tuple) else _text(part) for part in parts))


def print_error(error: BaseException, *, as_json: bool) -> None:
    """Print why a command failed, with the notes of the error.

    Args:
        error: what the command raised.
        as_json: as an object with ``type`` and ``message``; ``notes`` if there are any; ``problems``, a list of
            objects, if the error is about a workbook; ``sqlstate`` and ``statement`` if the database refused.
    """
    message = _message(error)
    notes: list[str] = list(getattr(error, "__notes__", ()))
    if as_json:
        described: dict[str, Any] = {"type": type(error).__name__, "message": message}
        if notes:
            described["notes"] = notes
        if hasattr(error, "problems"):
            described["problems"] = [problem.as_dict() for problem in error.problems]
        if hasattr(error, "sqlstate"):
            described |= {"sqlstate": error.sqlstate, "statement": getattr(error, "statement", None)}
        print_json({"error": described}, to_stderr=True)
        return
    print_note(styled(("Error: ", "bold red"), message))
    for note in notes:
        print_note(note)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = "".join(f": {name}" for name in (error.filename, error.filename2) if name is not None)
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{error.strerror}{place}" + (f". {remedy}" if remedy else "")
    # Only the message: the statement that str() of a DatabaseError adds does not help the user.
    first = error.args[0] if len(error.args) == 1 else None
    return first if isinstance(first, str) else str(error) or type(error).__name__


def ask(question: str) -> bool | None:
    """Ask a yes-or-no question; anything but yes means no.

    Returns:
        The answer, or None if nobody can answer: input or error output is not a terminal.
    """
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return None
    _console(stderr=True).print(_text(f"{question} [y/N] "), end="")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the input ended, and the cursor is still on the line
        print_note("")
    return answer.strip().lower() in {"y", "yes"}


def visible(text: str, *, one_line: bool = False) -> str:
    """Return text that is safe for a terminal: control characters become ``\\x1b`` and the like.

    Args:
        text: any text.
        one_line: also write line ends as ``\\n``.
    """
    keep = "" if one_line else "\n\t"
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", errors="surrogatepass").decode("ascii")
        for character in text
    )


def shows_progress() -> bool:
    """Tell whether to show progress: whether a person is watching."""
    return _is_terminal(sys.stderr)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None if it was closed before we began


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _text(text: str | Text) -> Text:
    from rich.text import Text

    return Text(visible(text)) if isinstance(text, str) else text


# --- tables -------------------------------------------------------------------------------------------------------


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: on a terminal within its width, with long cells wrapped; elsewhere as wide as needed, unframed.

    Args:
        headers: titles of the columns.
        rows: the cells: text; whole numbers, amounts of money as floats, and lengths of time, which are right-aligned;
            times; what :func:`status_text` returns. None gives an empty cell.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    all_rows = list(rows)
    on_terminal = _is_terminal(sys.stdout)
    drawn = StringIO()
    console = Console() if on_terminal else Console(file=drawn, width=_UNLIMITED, color_system=None)
    columns = [_Column(header, cells) for header, *cells in zip(headers, *all_rows, strict=True)]
    if sum(column.least_width + _GAP for column in columns) > console.width:
        _print_one_below_the_other(console, columns)
        return
    table = Table(
        box=box.SIMPLE_HEAD if on_terminal else None, pad_edge=False, padding=(0, 1 if on_terminal else 2, 0, 0)
    )
    for column in columns:
        table.add_column(
            Text(column.header),
            justify="right" if column.is_number else "left",
            no_wrap=not column.can_wrap,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    console.print(table)
    if not on_terminal:
        print("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()))


class _Column:
    """A column of a table: its cells as text, and its smallest width. Numbers and times are never broken."""

    def __init__(self, header: str, values: Sequence[object]) -> None:
        from rich.text import Text

        self.header = header
        self.cells = [value if isinstance(value, Text) else Text(_cell(value)) for value in values]
        self.is_number = any(isinstance(value, int | float | timedelta) for value in values)
        self.can_wrap = any(isinstance(value, str) for value in values)
        longest = max((cell.cell_len for cell in (Text(header), *self.cells)), default=0)
        self.least_width = min(longest, _LEAST_OF_TEXT) if self.can_wrap else longest


def _print_one_below_the_other(console: Console, columns: Sequence[_Column]) -> None:
    """Print the rows of a table that is too wide: one line for each cell, with the title of its column."""
    from rich.text import Text

    width = max(len(column.header) for column in columns)
    for row in zip(*(column.cells for column in columns), strict=True):
        for column, cell in zip(columns, row, strict=True):
            console.print(Text(f"{column.header:<{width}}  ", style="dim") + cell, overflow="fold")
        console.print()


def status_text(status: str | None) -> Text:
    """Return the status of a cycle or a step in its colour; a step that never ran has no status."""
    from rich.text import Text

    return Text(visible(status or "never ran", one_line=True), style=_STATUS_STYLES.get(status or "", "dim"))


def local_time(moment: datetime) -> str:
    """Return a moment in the reader's local time, with the short name of the zone."""
    return f"{_cell(moment)} {moment.astimezone():%Z}"


def with_zone(header: str, moments: Iterable[datetime | None]) -> str:
    """Return the title of a column of times, with the reader's time zones at those times."""
    zones = sorted({f"{moment.astimezone():%Z}" for moment in moments if moment is not None})
    return f"{header} ({'/'.join(zones)})" if zones else header


def duration(length: timedelta) -> str:
    """Return a length of time in suitable units, such as ``0.4 s``, ``12 s``, ``2 min 05 s``, ``1 h 03 min``."""
    return duration_in_words(length.total_seconds())


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 step``, ``2 steps``. Give the plural only if it does not just add an s."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "" if value is None else visible(str(value), one_line=True)
