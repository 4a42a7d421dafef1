"""What analyses need from an exposure. The risk engine states it, and the checks of the exposure use it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.vocabulary import Perspective


@dataclass(frozen=True)
class Needs:
    """What one or several analyses need from an exposure; ``|`` combines the needs of several.

    Attributes:
        perspectives: which losses are requested: ``GUL``, ``IL``, ``RI``.
        tables: the required tables, with the reason as the end of a sentence.
        location_columns: the required columns of the location table, with the reason.
        filled_columns: those of them that must be filled in each row.
        unknown: what cannot be known without running the model, as sentences. If there are any, missing tables and
            columns that are not required give a warning.
    """

    perspectives: frozenset[str] = frozenset()
    tables: Mapping[OedTable, str] = field(default_factory=dict)
    location_columns: Mapping[str, str] = field(default_factory=dict)
    filled_columns: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def __or__(self, other: "Needs") -> "Needs":
        """Return the needs of both together."""
        return Needs(
            self.perspectives | other.perspectives,
            {**other.tables, **self.tables},
            {**other.location_columns, **self.location_columns},
            self.filled_columns | other.filled_columns,
            tuple(dict.fromkeys((*self.unknown, *other.unknown))),
        )

    def content(self) -> list[object]:
        """Return it as plain data in a fixed order."""
        return [
            sorted(self.perspectives),
            sorted(self.tables.items()),
            sorted(self.location_columns.items()),
            sorted(self.filled_columns),
            list(self.unknown),
        ]


def needs_of_perspectives(perspectives: Collection[str]) -> Needs:
    """Return what losses need with any engine: the terms of policies and of reinsurance.

    Args:
        perspectives: ``GUL``, ``IL``, ``RI``.
    """
    tables: dict[OedTable, str] = {}
    if Perspective.IL in perspectives:
        tables[OedTable.ACCOUNT] = "insured losses need the accounts and their policies"
    if Perspective.RI in perspectives:
        tables[OedTable.ACCOUNT] = "reinsurance applies to insured losses, which need the accounts and their policies"
        tables[OedTable.RI_INFO] = tables[OedTable.RI_SCOPE] = "reinsurance needs both the info and the scope file"
    return Needs(frozenset(map(str, perspectives)), tables)
