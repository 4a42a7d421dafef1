"""Checking a catastrophe model before a cycle runs it: what an engine reports about one of its models.

``irp model check`` shows the report.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class NeededPackage(Protocol):
    """A Python package that a model needs; a frozen dataclass."""

    @property
    def package(self) -> str:
        """The name under which it is imported."""

    @property
    def why(self) -> str:
        """Who imports it."""

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""

    @property
    def remedy(self) -> str:
        """How to install it."""


@dataclass(frozen=True)
class Examination:
    """What a model says about itself, and what was found in its files.

    Attributes:
        name: its own name.
        version: its version, if it states one.
        folder: where its configuration is.
        hash: of everything that its losses depend on.
        files: the number and the bytes of these files.
        perils: the perils that it says it supports.
        choices: the options of its settings, such as event sets, with the default.
        columns: the columns of the location table that its lookup names.
        needs: the Python packages that it needs.
        unused: entries of its configuration that have no effect.
        problems: what keeps it from running, if that is visible without running it.
    """

    name: str
    version: str | None
    folder: Path
    hash: str
    files: tuple[int, int]
    perils: tuple[str, ...]
    choices: Mapping[str, Mapping[str, Any]] = field(repr=False)
    columns: tuple[str, ...]
    needs: tuple[NeededPackage, ...]
    unused: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class ModelCheck:
    """How an engine checks its models.

    Attributes:
        examine: says what the model at a path has and needs; it reads all files of the model.
        trial: runs it on a few locations: of the location table at a path, or its own if that is None. The third
            argument is called with what happens. Returns ``figures`` and ``currency`` as in the result of a job, and
            the ``provenance`` with ``periods``, ``checked`` and, if the model did not take all locations,
            ``not_modelled_totals`` and ``not_modelled``.
    """

    examine: Callable[[Path], Examination]
    trial: Callable[[Path, Path | None, Callable[[str], None]], dict[str, Any]]
