"""Where an exposure comes from: a file, or a query on a database that an environment variable names.

This module also defines what every reader provides. :mod:`~irp_pipeline.exposure.readers.opening` opens sources.
"""

import os
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedColumn
from irp_pipeline.exposure.places import Places
from irp_pipeline.exposure.readers.parameters import Values
from irp_pipeline.exposure.readers.text_file import IN_WORKBOOK
from irp_pipeline.exposure.totals.control_total import ControlTotals

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL

_VARIABLE = re.compile(r"IRP_SOURCE_(?P<name>[A-Z0-9_]+)_URL")
# In the address of an ODBC source that is one parameter, and in what its drivers say.
_ODBC_PASSWORD = re.compile(r"\b(pwd|password)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;]*)", re.IGNORECASE)


@dataclass(frozen=True)
class FileSource:
    """A CSV file (uncompressed, or in .gz, .bz2, .zst or .zip) or a Parquet file.

    Attributes:
        path: the file.
        encoding: of the characters in a CSV file, such as ``cp1252``; None means to detect it.
        delimiter: the sign between the cells of a CSV file; None means to detect it.
        decimal: the decimal sign of the numbers in a CSV file, ``.`` or ``,``; None means to detect it.
        stated_in: where users state these, for messages.
    """

    path: Path
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    stated_in: str = IN_WORKBOOK


@dataclass(frozen=True)
class QuerySource:
    """A query on a database.

    Attributes:
        database: the NAME in ``IRP_SOURCE_<NAME>_URL``, in upper or lower case.
        query: one SELECT in the database's own SQL, or the name of a table. It runs in a read-only transaction if the
            database supports that, and is never committed.
        parameters: the values of the parameters that the query may have, such as ``:exposure_date``, by name.
        description: the query's name in messages; empty: the name of the database says enough.
    """

    database: str
    query: str
    parameters: Values = field(default_factory=dict)
    description: str = ""


Source = FileSource | QuerySource


class Reader(Protocol):
    """An open source. All its data are of one moment, even while others write to the database."""

    @property
    def description(self) -> str:
        """The source's name in messages; never with a password."""

    @property
    def columns(self) -> tuple[OedColumn, ...]:
        """The columns, in the order of the source."""

    @property
    def places(self) -> Places:
        """Where the records are; for a CSV file certain only after all batches were read."""

    @property
    def reading(self) -> str:
        """How the source was read, for people: for a CSV file, what was detected."""

    def batches(self) -> "Generator[pa.RecordBatch]":
        """Yield the rows in batches of bounded size, with the source's own values."""

    def locate(self, record: int) -> str:
        """Return where a record is, given its number from 0."""

    def totals(self) -> ControlTotals:
        """Return the control totals of the source, computed by the database itself if it can."""


def source_names() -> list[str]:
    """Return the names of the databases that ``IRP_SOURCE_<NAME>_URL`` variables define."""
    matches = ((_VARIABLE.fullmatch(variable), value) for variable, value in os.environ.items())
    return sorted(match["name"] for match, value in matches if match and value.strip())


def source_url(name: str) -> "URL":
    """Return the URL of a source database.

    Raises:
        ExposureError: no variable of that name is set (the message lists the names that are set, but no values), or
            its value is not a URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    variable = f"IRP_SOURCE_{name.upper()}_URL"
    value = os.environ.get(variable, "").strip()
    if name.upper() not in source_names():
        known = ", ".join(f"IRP_SOURCE_{other}_URL" for other in source_names()) or "none"
        raise ExposureError(
            f"unknown source database {name!r}: {variable} is not set. Variables of this kind that are set: {known}."
        )
    try:
        return make_url(re.sub("^postgres://", "postgresql://", value))
    except (ArgumentError, ValueError):
        raise ExposureError(  # without the cause, whose message contains the value with its password
            f"{variable} is not a database URL such as postgresql://user:password@host:5432/database "
            "(special characters in a password must be percent-encoded)"
        ) from None


def address(url: "URL") -> str:
    """Return where a database is, for a message, without anything that could be a secret."""
    host = url.host or url.query.get("host") or "local"
    port = f":{url.port}" if url.port else ""
    user = f", user {url.username}" if url.username else ""
    database = url.database or url.query.get("service_name")
    return f"{url.get_backend_name()}, host {host}{port}, database {database}{user}"


def without_password(message: str, url: "URL") -> str:
    """Return a driver's message in one line, without the password if the driver quotes it."""
    line = " ".join(message.split())
    for password in (url.password, url.query.get("password")):
        line = line.replace(str(password), "***") if password else line
    return _ODBC_PASSWORD.sub(r"\1=***", line) if "odbc_connect" in url.query else line
