"""Problems of a workbook, and their messages for the person who can correct them."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from irp_pipeline.errors import IrpError

_MAX_MESSAGE = 600
_MAX_QUOTED = 80
_FEW_OPTIONS = 12


@dataclass(frozen=True)
class Problem:
    """One thing to correct in a workbook.

    Attributes:
        sheet: the sheet's name; None for the whole file.
        cell: the cell (``D7``) or range; None for a whole sheet.
        column: the column's header, or the setting's name on the Metadata sheet.
        message: what is wrong, with the value, and what to do; one line.
    """

    sheet: str | None
    cell: str | None
    column: str | None
    message: str

    def __str__(self) -> str:
        place = self.sheet or ""
        if self.cell:
            place += f"!{self.cell}"
        if self.column:
            place += f" ({self.column})" if place else self.column
        return f"{place}: {self.message}" if place else self.message

    def as_dict(self) -> dict[str, str | int | None]:
        """Return it for programs: sheet, row (from 1, as the sheet numbers them), cell, column and message."""
        digits = re.match(r"[A-Za-z]*(\d+)", self.cell or "")
        return {
            "sheet": self.sheet,
            "row": int(digits[1]) if digits else None,
            "cell": self.cell,
            "column": self.column,
            "message": self.message,
        }


class WorkbookError(IrpError):
    """A workbook cannot be read, written or used. ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        found = [Problem(None, None, None, problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(map(str, found)))
        self.problems: list[Problem] = found


def one_line(text: str) -> str:
    """``text`` in a form that is safe to show: one line, with control and invisible characters made visible."""
    visible = "".join(char if char.isprintable() or char.isspace() else "\ufffd" for char in text)
    return _cut(" ".join(visible.split()), _MAX_MESSAGE)


def quoted(text: object) -> str:
    """``text`` in quotes, shortened if it is long, for a message."""
    return f"'{_cut(' '.join(str(text).split()), _MAX_QUOTED)}'"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def suggestion(text: str, options: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the most similar word, or all of them if they are few."""
    by_key = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(text[:_MAX_MESSAGE].casefold(), by_key, n=1)
    if close:
        return f"; did you mean '{by_key[close[0]]}'?"
    if 0 < len(by_key) <= _FEW_OPTIONS:
        return f"; it can be {', '.join(by_key.values())}"
    return ""
