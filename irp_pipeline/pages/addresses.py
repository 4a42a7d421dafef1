"""The addresses of the pages. Imports nothing else of this package, so that messages and assets can link to pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

PREFIX: Final = "/irp"
"""Where the pages are, at the host and port of Dagster's UI."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of pages about one schema, relative to the host.

    Attributes:
        schema: the schema, which each address names; None means the UI's own, which none names.
    """

    schema: str | None = None

    def cycles(self, **query: object) -> str:
        """Return the address of the list of cycles."""
        return self._address("cycles", **query)

    def cycle(self, name: str) -> str:
        """Return the address of a cycle."""
        return self._address("cycles", name)

    def results(self, name: str, **query: object) -> str:
        """Return the address of the results of a cycle."""
        return self._address("cycles", name, "results", **query)

    def comparison(self, name: str, **query: object) -> str:
        """Return the address of the comparison of a cycle with another one."""
        return self._address("cycles", name, "comparison", **query)

    def report(self, name: str) -> str:
        """Return the address of the report of a cycle."""
        return self._address("cycles", name, "report")

    def batch(self, batch_id: int, **query: object) -> str:
        """Return the address of a batch."""
        return self._address("batches", batch_id, **query)

    def job(self, job_id: int) -> str:
        """Return the address of a job."""
        return self._address("jobs", job_id)

    def log(self, job_id: int) -> str:
        """Return the address of the log of a job."""
        return self._address("jobs", job_id, "log")

    def schemas(self) -> str:
        """Return the address of the list of schemas."""
        return self._address("schemas")

    def style(self) -> str:
        """Return the address of the style of all pages."""
        return f"{PREFIX}/style.css"

    def _address(self, *parts: object, **query: object) -> str:
        path = "/".join((PREFIX, *(quote(str(part), safe="") for part in parts)))
        given = {name: value for name, value in {**query, "schema": self.schema}.items() if value not in {None, ""}}
        return f"{path}?{urlencode(given, doseq=True)}" if given else path
