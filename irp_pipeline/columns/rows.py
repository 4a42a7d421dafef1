"""A row of a sheet, whatever its columns are.

Here: the rules that every row derives from the declarations of its columns. Not here: the columns of the sheets
(:mod:`irp_pipeline.workbook.sheets`), and those that a risk engine declares.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from irp_pipeline.columns.column import Column
from irp_pipeline.columns.kinds import trimmed


class Row(BaseModel):
    """A row of a sheet; for the Metadata sheet, all of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        return cls.with_defaults(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        refuse(f"{column}: {message}" for column, message in self.broken_rules(dict(self)))
        return self

    @classmethod
    def columns(cls) -> dict[str, Column]:
        """The columns (on the Metadata sheet: the settings) by name, in order."""
        return {
            name: next(item for item in info.metadata if isinstance(item, Column))
            for name, info in cls.model_fields.items()
        }

    @classmethod
    def optional_columns(cls) -> set[str]:
        """The columns that a sheet may lack: a missing one counts as empty, as in a workbook of last year."""
        return {name for name, info in cls.model_fields.items() if not info.is_required()}

    @classmethod
    def with_defaults(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """``fields`` with defaults that follow from other fields, and without empty ones."""
        return {
            name: value
            for name, value in fields.items()
            if value is not None and not (isinstance(value, str) and not trimmed(value))
        }

    @classmethod
    def broken_rules(cls, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Broken rules between the fields of one row, as field and message. A missing field is not checked."""
        for name, column in cls.columns().items():
            if not column.only_for or name not in fields:
                continue
            chosen = fields.get(column.selector)
            if chosen in column.only_for:
                if column.needed and _is_empty(fields[name]):
                    yield name, f"is empty, but {chosen} needs it"
            elif chosen and not _is_empty(fields[name]):
                users = " and ".join(column.only_for)
                do = "does" if len(column.only_for) == 1 else "do"
                yield name, f"must be empty: {chosen} does not use it, only {users} {do}"


def _is_empty(value: object) -> bool:
    """Whether a field has the value of an empty cell."""
    return value is None or value is False or (isinstance(value, str | tuple | list | Mapping) and not value)


def refuse(messages: Iterable[str]) -> None:
    if listed := "; ".join(messages):
        raise ValueError(listed)
