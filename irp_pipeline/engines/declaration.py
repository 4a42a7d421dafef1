"""What a risk engine declares: everything specific to it, so that no other module needs to know it.

The declarations determine the sheet Analyses, its checks and help texts, the reference in the documentation, what
``irp doctor`` looks for, and which files of a job are hashed. An engine is found by an entry point of the group
``irp_pipeline.engines``, which names an :class:`EngineDeclaration`; :data:`ENGINES` has them all.

Here: what can be declared. Not here: what an engine does with jobs (:mod:`irp_pipeline.engines.protocol`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import Column, Folders, Row
from irp_pipeline.engines.model_check import ModelCheck
from irp_pipeline.engines.protocol import RiskEngine
from irp_pipeline.exposure.validation.needs import Needs
from irp_pipeline.plugins import Registry, Requirement
from irp_pipeline.vocabulary import OedTable

Analysis = Mapping[str, Any]
"""A row of the sheet Analyses, or its readable part: a missing field is not checked."""
ColumnRemark = tuple[str, str]
"""A column, and a mistake or a note about it."""
PortfolioChecks = Callable[[Analysis, Mapping[OedTable, Path]], Iterable[ColumnRemark]]

OF_ALL_ENGINES: Final = ("name", "portfolio", "engine", "perspectives", "base", "reinsurance")
"""The columns of the sheet Analyses that every analysis has."""


_COLUMN: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")


@dataclass(frozen=True)
class NamedFile:
    """How to hash a column that names a file or a folder on which losses depend.

    The request of a job has the hash under the column's name and ``_hash``. The machine that runs the job adds the
    absolute path under the column's name, if the file there has that hash.

    Attributes:
        hash: computes the hash from the path and the analysis. It may raise an IrpError or OSError.
        depends_on: other columns on which the hash depends.
    """

    hash: Callable[[Path, Analysis], str]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineDeclaration:
    """Everything specific to an engine.

    Attributes:
        name: its name in the column ``engine``; also the name of the entry point.
        help: one sentence on what it computes, for the help of the column ``engine``.
        make: makes the engine for the folder with a cycle's jobs.
        columns: the columns that it uses, beyond :data:`OF_ALL_ENGINES`: a :class:`~irp_pipeline.columns.Row` whose
            fields are annotated with their types, checks and a :class:`~irp_pipeline.columns.Column`, and have a
            default. Its ``with_defaults`` and ``broken_rules`` apply to the analyses of this engine. Two engines may
            share a column if their declarations of it are equal.
        examples: rows for the example workbook, as a user would type them: all cells by column.
        requirements: what it needs on this machine.
        needs: says what an analysis needs of its portfolio; the folders are None as long as files do not matter.
        files: the columns that name files on which losses depend.
        checks: says what else is wrong with an analysis: options that the engine does not know, and, if folders are
            given, files in them.
        portfolio_checks: says what the portfolio of an analysis lacks for it, given the CSV file of each table that it
            has; asked before a job is submitted.
        notes: says which requests of a valid analysis have no effect.
        in_groups: says why an analysis cannot be part of a group; nothing if it can, and then its result has period
            losses. None: no analysis of this engine can, since it has no simulated years.
        drawn_by_location: says, of an analysis with the folders of its files, why other location numbers would change
            more than the draws of damage; nothing if they are just other draws. None: the engine does not draw by them.
        model_columns: the columns that say which model computes the losses.
        output_columns: the columns that only say what is kept of the losses, or where they are computed. The losses
            depend on all others.
        converts_to: the currency to which an analysis converts all amounts; None if it does not convert. Beside the
            columns, it is given the ``currency`` of the workbook.
        models: how ``irp model check`` examines and tries a model; None if the engine has no models.
    """

    name: str
    help: str
    make: Callable[[Path], RiskEngine]
    columns: type[Row] = Row
    examples: tuple[Mapping[str, str], ...] = ()
    requirements: tuple[Requirement, ...] = ()
    needs: Callable[[Analysis, Folders | None], Needs] | None = None
    files: Mapping[str, NamedFile] = field(default_factory=dict)
    checks: Callable[[Analysis, Folders | None], Iterable[ColumnRemark]] = lambda analysis, folders: ()
    portfolio_checks: PortfolioChecks = lambda analysis, tables: ()
    notes: Callable[[Analysis, Folders], Iterable[ColumnRemark]] = lambda analysis, folders: ()
    in_groups: Callable[[Analysis], Iterable[str]] | None = None
    drawn_by_location: Callable[[Analysis, Folders], Iterable[str]] | None = None
    model_columns: tuple[str, ...] = ()
    output_columns: tuple[str, ...] = ()
    converts_to: Callable[[Analysis], str | None] = lambda analysis: None
    models: ModelCheck | None = None


def _problem(declaration: EngineDeclaration, others: Mapping[str, EngineDeclaration]) -> str | None:
    """Say what is wrong with an engine's name, help and columns, also in comparison with those of other engines."""
    columns: Any = declaration.columns
    told: Any = declaration.help
    if not (isinstance(columns, type) and issubclass(columns, Row)):
        return f"its columns are no Row but {columns!r}"
    if not isinstance(told, str):
        return f"its help must be text, not {told!r}"
    for name, info in declaration.columns.model_fields.items():
        if name in OF_ALL_ENGINES:
            return f"its column {name!r} is one that every analysis has"
        if not _COLUMN.fullmatch(name) or hasattr(Row, name):
            return f"{name!r} cannot be the name of a column: small letters, digits and '_', and no word of pydantic"
        if not any(isinstance(item, Column) for item in info.metadata):
            return f"the annotation of its column {name!r} has no Column"
        if info.is_required():
            return f"its column {name!r} has no default, which analyses of other engines have there"
        for other in others.values():
            theirs = other.columns.model_fields.get(name)
            if theirs is not None and (theirs.annotation, theirs.metadata) != (info.annotation, info.metadata):
                return f"the engine {other.name!r} declares the column {name!r} in another way; choose another name"
    for what in ("files", "model_columns", "output_columns"):
        if unknown := set(getattr(declaration, what)) - declaration.columns.model_fields.keys():
            return f"{what} names {', '.join(sorted(unknown))}, which is none of its columns"
    return None


ENGINES: Final = Registry("irp_pipeline.engines", EngineDeclaration, "risk engine", _problem)
"""The declared risk engines."""
