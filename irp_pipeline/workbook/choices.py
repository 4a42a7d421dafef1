"""The words that cells may contain."""

from enum import StrEnum
from typing import Final

from irp_pipeline.columns.kinds import Kind, choice_of, text_of


class PortfolioSource(StrEnum):
    """Where a portfolio's OED tables come from."""

    CSV = "csv"
    PARQUET = "parquet"
    SQL = "sql"


class Delimiter(StrEnum):
    """The character between the cells of a CSV file."""

    COMMA = "comma"
    SEMICOLON = "semicolon"
    TAB = "tab"
    PIPE = "pipe"


class DecimalSign(StrEnum):
    """The decimal sign of numbers in a CSV file."""

    POINT = "."
    COMMA = ","


class Engine(StrEnum):
    """The names of the engines of Oasis LMF, for scripts that use them. The workbook takes any declared engine."""

    DETERMINISTIC = "oasis_deterministic"
    STOCHASTIC = "oasis_stochastic"


class PeriodPairing(StrEnum):
    """How the periods of analyses with different occurrence sets are combined."""

    BY_NUMBER = "by_number"


class NotebookStage(StrEnum):
    """The stage at whose end a notebook runs."""

    PROCESS = "process"
    REPORT = "report"


_SIGNS: Final = {",": Delimiter.COMMA, ";": Delimiter.SEMICOLON, "\\t": Delimiter.TAB, "|": Delimiter.PIPE}


def _delimiter(value: object) -> str:
    text = text_of(value)
    return _SIGNS.get(text) or choice_of(text, Delimiter)


DELIMITER: Final = Kind("`comma`, `semicolon`, `tab` or `pipe`", _delimiter, str, as_text=True)
"""A column that holds a delimiter: the word or the character itself."""
