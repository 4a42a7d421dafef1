"""Looking at a catastrophe model before a cycle runs it: what an engine that has models says of one.

``irp model check`` shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class NeededPackage(Protocol):
    """A Python package that a model needs; a frozen dataclass."""

    @property
    def package(self) -> str:
        """What it is imported as."""

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
    """What a model says about itself, and what was seen of it.

    Attributes:
        name: what it calls itself.
        version: its version, if it says one.
        folder: where its configuration is.
        hash: of all that its losses depend on.
        files: how many files that is, and how many bytes.
        perils: those that it says it supports.
        choices: what its settings let choose, such as event sets, with the default.
        columns: the columns of the location table that its lookup names.
        needs: the Python packages that it needs.
        unused: entries of its configuration that have no effect.
        problems: what keeps it from running, as far as that can be seen without running it.
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
    """How an engine looks at its models.

    Attributes:
        examine: says what the model at a path has and needs; all its files are read.
        trial: runs it on a few locations: of the location table at a path, or its own if that is None. The third
            argument is told what happens. Returns ``figures`` and ``currency`` as the result of a job has them, and the
            ``provenance`` with ``periods``, ``checked`` and, if the model did not take all locations,
            ``not_modelled_totals`` and ``not_modelled``.
    """

    examine: Callable[[Path], Examination]
    trial: Callable[[Path, Path | None, Callable[[str], None]], dict[str, Any]]
