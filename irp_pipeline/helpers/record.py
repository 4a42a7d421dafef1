"""Records: rows of the database as typed, frozen values, and as plain dicts for notebooks.

Within the package, a row of a table is a record: a frozen dataclass in the module of its concept, whose fields have the
names of the columns. The functions for notebooks return plain dicts, which :func:`as_dict` makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args, get_type_hints, overload

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_R = TypeVar("_R")

INTERNAL: Final = MappingProxyType({"internal": True})
"""The metadata of a field that notebooks do not see."""


def record_of(kind: type[_R], row: Mapping[str, Any]) -> _R:
    """Return a row as a record. A word becomes a status if the field is a status.

    Args:
        kind: the record's dataclass.
        row: a value for each field that has no default, by its name, and nothing else.
    """
    statuses = _statuses(cast("Any", kind))
    return kind(**{name: _typed(statuses.get(name), value) for name, value in row.items()})


@overload
def record_or_none(kind: type[_R], row: None) -> None: ...
@overload
def record_or_none(kind: type[_R], row: Mapping[str, Any] | None) -> _R | None: ...
def record_or_none(kind: type[_R], row: Mapping[str, Any] | None) -> _R | None:
    """Return a row as a record; None if there is no row."""
    return None if row is None else record_of(kind, row)


@overload
def as_dict(record: None, names: Sequence[str] | None = None) -> None: ...
@overload
def as_dict(record: DataclassInstance, names: Sequence[str] | None = None) -> dict[str, Any]: ...
@overload
def as_dict(record: DataclassInstance | None, names: Sequence[str] | None = None) -> dict[str, Any] | None: ...
def as_dict(record: DataclassInstance | None, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Return a record as a dict of plain Python values, for notebooks.

    Args:
        record: the record; None gives None.
        names: which fields, in which order; None means all that are not internal.
    """
    if record is None:
        return None
    chosen = [field.name for field in fields(record) if not field.metadata.get("internal")] if names is None else names
    return {name: _plain(getattr(record, name)) for name in chosen}


@cache
def _statuses(kind: Any) -> dict[str, type[StrEnum]]:
    """Return the fields of a record that hold a word from a fixed list, with the list."""
    return {
        name: possible
        for name, hint in get_type_hints(kind).items()
        for possible in (get_args(hint) if isinstance(hint, UnionType) else (hint,))
        if isinstance(possible, type) and issubclass(possible, StrEnum)
    }


def _typed(status: type[StrEnum] | None, value: Any) -> Any:
    return value if status is None or value is None else status(value)


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(name): item for name, item in value.items()}
    return value
