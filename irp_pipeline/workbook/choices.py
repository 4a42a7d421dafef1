"""The words that cells may choose from."""

from enum import StrEnum


class PortfolioSource(StrEnum):
    """Where a portfolio's OED tables come from."""

    CSV = "csv"
    PARQUET = "parquet"
    SQL = "sql"


class Delimiter(StrEnum):
    """What stands between the cells of a CSV file."""

    COMMA = "comma"
    SEMICOLON = "semicolon"
    TAB = "tab"
    PIPE = "pipe"


class DecimalSign(StrEnum):
    """The decimal sign of numbers in a CSV file."""

    POINT = "."
    COMMA = ","


class Engine(StrEnum):
    """What computes the losses of an analysis."""

    DETERMINISTIC = "oasis_deterministic"
    STOCHASTIC = "oasis_stochastic"


class PeriodPairing(StrEnum):
    """How the periods of analyses with different occurrence sets are put together."""

    BY_NUMBER = "by_number"
