"""The declaration of a column of a sheet: its help text, how its cells are read, and when it must be filled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from irp_pipeline.columns.kinds import Kind

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Column:
    """A column of a sheet, or a setting of the Metadata sheet.

    Attributes:
        help: what belongs in it; Markdown, one to three sentences.
        kind: how its cells are read and written.
        examples: what to type into it, for each row of the example workbook; empty: left out. A column of an engine has
            none: they are in the example rows that the engine declares.
        selector: the column that decides whether this one is used, such as ``source``; empty: it is always used.
        only_for: the values of the selector for which it is used; for others it must be empty. For a column of an
            engine, selector and values follow from the engines that declare it.
        needed: whether it must be filled when it is used.
        options: what the drop-down offers.
        options_from: sheet and column whose values the drop-down offers.
        options_only: whether Excel refuses anything but an option.
        width: in characters.
        of_results: for a column of an engine: whether it says which losses are wanted. If so, it comes after the column
            perspectives, else before it.
        of_machines: for a column of an engine: whether it says where a job is run. If so, it comes last.
        only_if_filled: for a column of an engine: whether the plain data of an analysis has it only if it is filled. A
            column that came later is so: jobs that were recorded before it keep their requests.
    """

    help: str
    kind: Kind
    examples: tuple[str, ...] = ()
    selector: str = ""
    only_for: tuple[str, ...] = ()
    needed: bool = False
    options: tuple[str, ...] = ()
    options_from: tuple[str, str] | None = None
    options_only: bool = True
    width: int = 18
    of_results: bool = False
    of_machines: bool = False
    only_if_filled: bool = False

    def value_of(self, value: object) -> object:
        """Read a value, wherever it comes from: a cell, JSON, or a field.

        Raises:
            ValueError: it is not a value of this column; the message is for the user.
        """
        if value is None:
            return None
        if isinstance(value, Mapping):
            if not self.kind.holds_object:
                raise ValueError("must not be an object in braces")
            return dict(value)
        if isinstance(value, list | tuple | set | frozenset):
            if not self.kind.several:
                raise ValueError("must be one value, not a list")
            return [read for item in value for read in self._items_of(item)]
        return self.kind.read(value)

    def _items_of(self, value: object) -> Sequence[object]:
        if value is None or isinstance(value, Mapping | list | tuple):
            raise ValueError("must be a list of single values")
        read = self.kind.read(value)
        return read if isinstance(read, list) else [read]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Make the columns read the fields of a row, so that there is only one way to make a row."""
        return core_schema.no_info_before_validator_function(self.value_of, handler(source))
