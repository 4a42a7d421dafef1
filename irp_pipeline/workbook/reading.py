"""From the filled cells of a file to a :class:`Workbook`, or to the list of everything that is wrong with it."""

import os
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from openpyxl.utils import get_column_letter
from openpyxl.utils.cell import coordinate_to_tuple

from irp_pipeline.columns import Column
from irp_pipeline.columns.problems import Problem, WorkbookError, one_line, quoted, suggestion
from irp_pipeline.workbook.bases import with_base
from irp_pipeline.workbook.content import Workbook
from irp_pipeline.workbook.fields import EMPTY, check_fields
from irp_pipeline.workbook.parameters import empty_settings
from irp_pipeline.workbook.rules import BrokenRule, Table, findings_between_rows, findings_on_disk
from irp_pipeline.workbook.sheets import (
    ANALYSES,
    GROUPINGS,
    HEADER_ROW,
    METADATA,
    SETTING_HEADERS,
    SHEETS,
    TABLES,
    SheetSpec,
)
from irp_pipeline.workbook.xlsx import Cell, Grid, key, read_grids

_ALIKE = 0.8
_SPECS = {spec.field: spec for spec in SHEETS}


def read_workbook(
    path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    models_dir: str | os.PathLike[str] | None = None,
    notebooks_dir: str | os.PathLike[str] | None = None,
    cycle: str | None = None,
    check_files: bool = True,
) -> Workbook:
    """Read and check a configuration workbook.

    Args:
        path: the xlsx file.
        data_dir: the folder to which its paths are relative; default: the workbook's own folder.
        models_dir: a second folder for models.
        notebooks_dir: a second folder for notebooks.
        cycle: the cycle it is read for; a workbook that names another one is refused.
        check_files: whether the files and models it names must exist. If False, only the workbook itself is read; paths
            that are wrong in themselves are errors all the same.

    Returns:
        The valid workbook.

    Raises:
        WorkbookError: it cannot be read, or it has mistakes; ``problems`` lists all of them in the order of sheets,
            rows and columns.
    """
    path = Path(path)
    reader = _Reader(read_grids(path, {key(spec.name) for spec in SHEETS}))
    for finding in findings_between_rows(reader.tables):
        reader.add(finding)
    folder = path.parent if data_dir is None else Path(data_dir)
    if check_files:
        models, notebooks = (None if place is None else Path(place) for place in (models_dir, notebooks_dir))
        for finding in findings_on_disk(reader.tables, folder, models, notebooks):
            reader.add(finding)
    portfolios = reader.tables["portfolios"] or {}
    for setting, message in empty_settings(portfolios, reader.metadata, folder if check_files else None):
        reader.add_setting(setting, message)
    named = reader.metadata.get("cycle_name")
    if cycle is not None and named is not None and named != cycle:
        reader.add_setting("cycle_name", f"the workbook is for cycle {quoted(named)}, not for {quoted(cycle)}")
    if problems := reader.problems():
        raise WorkbookError(problems)
    rows = {spec.field: tuple((reader.tables[spec.field] or {}).values()) for spec in TABLES}
    return Workbook.model_validate({"metadata": reader.metadata, **rows})


class _Reader:
    """Reads the sheets of one workbook, and collects every problem with its place.

    Attributes:
        metadata: the settings that could be read.
        tables: the rows of the other sheets; None for a sheet that is missing or has no header.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        self._found: list[tuple[tuple[int, int, int], Problem]] = []
        self._letters: dict[str, dict[str, str]] = {}
        self._setting_rows: dict[str, int] = {}
        self._with_unknown_header: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.tables: dict[str, Table | None] = dict.fromkeys((spec.field for spec in TABLES), None)
        for field, grid in self._match_sheets(grids).items():
            for cell, message in grid.faults:
                self._note(_SPECS[field], cell, None, message)
            if field == METADATA.field:
                self._read_metadata(grid)
            else:
                self.tables[field] = self._read_table(_SPECS[field], grid)

    def problems(self) -> list[Problem]:
        """The problems found so far, in the order of sheets, rows and columns."""
        return [problem for _, problem in sorted(self._found, key=lambda found: found[0])]

    def add(self, finding: BrokenRule) -> None:
        """Add a problem; its cell follows from its row and column."""
        letter = self._letters.get(finding.sheet, {}).get(finding.column or "")
        cell = f"{letter}{finding.row}" if letter and finding.row else None
        message = finding.message
        if finding.row and finding.column and not letter and finding.sheet != METADATA.field:
            message = f"row {finding.row}: {message}, and the sheet has no such column"
        self._note(_SPECS[finding.sheet], cell, finding.column, message)

    def add_setting(self, name: str, message: str) -> None:
        """Add a problem of a setting of the Metadata sheet."""
        self.add(BrokenRule(METADATA.field, self._setting_rows.get(name), name, message))

    def _note(self, sheet: SheetSpec | str, cell: str | None, column: str | None, message: str) -> None:
        title = one_line(sheet) if isinstance(sheet, str) else sheet.name
        rank = len(SHEETS) if isinstance(sheet, str) else SHEETS.index(sheet)
        row, number = coordinate_to_tuple(cell.partition(":")[0]) if cell else (0, 0)
        self._found.append(((rank, row, number), Problem(title, cell, column and one_line(column), one_line(message))))

    def _match_sheets(self, grids: Sequence[Grid]) -> dict[str, Grid]:
        by_key = {key(spec.name): spec for spec in SHEETS}
        found: dict[str, Grid] = {}
        unknown: list[str] = []
        for grid in grids:
            spec = by_key.get(key(grid.title))
            if spec is None:
                unknown.append(grid.title)
            elif spec.field in found:
                self._note(grid.title, None, None, f"is a second sheet {spec.name}; keep one of them")
            else:
                found[spec.field] = grid
        missing = [spec for spec in SHEETS if spec.field not in found]
        for title in unknown:
            advice = suggestion(title, [spec.name for spec in missing if not spec.optional or _is_like(title, spec)])
            self._note(title, None, None, f"the sheet is unknown{advice or '; keep it in another file'}")
        for spec in missing:
            if spec.optional:
                continue
            advice = "; add it with its header row, it needs no more" if spec is GROUPINGS else ""
            self._note(spec, None, None, f"the sheet is missing{advice}")
        return found

    def _read_table(self, spec: SheetSpec, grid: Grid) -> Table | None:
        columns = spec.row.columns()
        headers = self._read_headers(spec, grid, tuple(columns))
        if not headers:
            return None
        self._letters[spec.field] = {header: get_column_letter(number) for number, header in headers.items()}
        absent = columns.keys() - headers.values()
        # A missing column may be there under a misspelt name, with cells that are not empty.
        unreadable = absent if spec.field in self._with_unknown_header else absent - spec.row.optional_columns()
        table: dict[int, dict[str, Any]] = {}
        what_ifs: dict[int, tuple[dict[str, Any], set[str]]] = {}
        rows = self._rows(grid, headers)
        for row, cells in rows.items():
            typed: dict[str, Any] = {}
            broken = set(unreadable)
            for name, cell in cells.items():
                try:
                    typed[name] = _read_value(columns[name], cell)
                except ValueError as error:
                    broken.add(name)
                    self.add(BrokenRule(spec.field, row, name, str(error)))
            if spec is ANALYSES and typed.get("base"):
                what_ifs[row] = typed, broken
            else:
                table[row] = self._validate(spec, typed, broken, dict.fromkeys(columns, row))
        bases = {fields["name"]: fields for fields in reversed(table.values()) if "name" in fields}
        for row, (typed, broken) in what_ifs.items():
            # What is wrong with the base is told there, and a base that is not there is told by the rules.
            base = bases.get(typed["base"], {})
            broken |= columns.keys() - typed.keys() - base.keys()
            table[row] = self._validate(spec, with_base(typed, base), broken, dict.fromkeys(columns, row))
        return {row: table[row] for row in rows}

    def _read_metadata(self, grid: Grid) -> None:
        headers = self._read_headers(METADATA, grid, SETTING_HEADERS)
        if set(headers.values()) != set(SETTING_HEADERS):
            return
        place = {header: get_column_letter(number) for number, header in headers.items()}
        columns = METADATA.row.columns()
        self._letters[METADATA.field] = {"setting": place["setting"]} | dict.fromkeys(
            (*columns, "value"), place["value"]
        )
        typed: dict[str, Any] = {}
        broken: set[str] = set()
        rows = self._rows(grid, headers)
        present = {key(str(cells["setting"].value)) for cells in rows.values() if "setting" in cells}
        for row, cells in rows.items():
            name = self._read_setting_name(row, cells, [name for name in columns if key(name) not in present])
            if name is not None:
                self._setting_rows[name] = row
                if "value" in cells:
                    try:
                        typed[name] = _read_value(columns[name], cells["value"])
                    except ValueError as error:
                        broken.add(name)
                        self.add_setting(name, str(error))
        self.metadata = self._validate(METADATA, typed, broken, self._setting_rows)

    def _read_setting_name(self, row: int, cells: Mapping[str, Cell], missing: Sequence[str]) -> str | None:
        """The setting that a row of the Metadata sheet is about; None if that is a problem."""
        if "setting" not in cells:
            self.add(BrokenRule(METADATA.field, row, "value", "is filled, but there is no setting beside it"))
            return None
        typed = cells["setting"]
        name = {key(name): name for name in METADATA.row.columns()}.get(key(str(typed.value)))
        if typed.error:
            problem = typed.error
        elif name is None:
            advice = suggestion(str(typed.value), missing) or "; delete the row"
            problem = f"there is no setting {quoted(typed.value)}{advice}"
        elif name in self._setting_rows:
            problem = f"{quoted(name)} is already in row {self._setting_rows[name]}; delete one of them"
        else:
            return name
        self.add(BrokenRule(METADATA.field, row, "setting", problem))
        return None

    def _read_headers(self, spec: SheetSpec, grid: Grid, headers: Sequence[str]) -> dict[int, str]:
        """Which column (counted from 1) holds which header. Empty if the header row is not there."""
        by_key = {key(header): header for header in headers}
        typed = {number: cell for (row, number), cell in sorted(grid.cells.items()) if row == HEADER_ROW}
        present = {key(str(cell.value)) for cell in typed.values()}
        if not present & by_key.keys():
            message = f"row {HEADER_ROW} must hold the column names: {', '.join(headers)}"
            self._note(spec, f"A{HEADER_ROW}", None, message)
            return {}
        missing = [header for header in headers if key(header) not in present]
        found: dict[int, str] = {}
        for number, cell in typed.items():
            place = f"{get_column_letter(number)}{HEADER_ROW}"
            header = by_key.get(key(str(cell.value)))
            if cell.error:
                self._note(spec, place, None, f"the header {cell.error}")
            elif header is None:
                advice = suggestion(str(cell.value), missing) or "; delete it"
                self._note(spec, place, str(cell.value), f"the column is unknown{advice}")
                self._with_unknown_header.add(spec.field)
            elif header in found.values():
                self._note(spec, place, header, "the column is there twice; delete one of them")
            else:
                found[number] = header
        for header in missing:
            if header not in spec.row.optional_columns():
                self._note(spec, None, header, "the column is missing; add it to the header row")
        nameless = {number: row for (row, number) in sorted(grid.cells, reverse=True) if number not in typed}
        for number, row in nameless.items():
            self._note(spec, f"{get_column_letter(number)}{row}", None, "is filled, but its column has no header")
        return found

    def _rows(self, grid: Grid, headers: Mapping[int, str]) -> dict[int, dict[str, Cell]]:
        """The rows below the header with at least one filled cell, by their number."""
        rows: dict[int, dict[str, Cell]] = {}
        for (row, number), cell in sorted(grid.cells.items()):
            if row > HEADER_ROW and number in headers:
                rows.setdefault(row, {})[headers[number]] = cell
        return rows

    def _validate(
        self, spec: SheetSpec, typed: Mapping[str, Any], broken: set[str], rows: Mapping[str, int]
    ) -> dict[str, Any]:
        """Check the fields of one row, or all settings, and note what is wrong.

        Args:
            spec: their sheet.
            typed: the content of the filled cells.
            broken: fields whose cell cannot be read, which is already noted.
            rows: the row of each field.

        Returns:
            The valid fields.
        """
        usable, faults = check_fields(spec.row, typed, broken)
        for name, message in faults:
            is_absent = message == EMPTY and name not in rows
            told = "the setting is missing; add a row for it" if is_absent else message
            self.add(BrokenRule(spec.field, rows.get(name), name, told))
        return usable


def _is_like(title: str, spec: SheetSpec) -> bool:
    """Whether a title is a slip of the pen for a sheet that need not be there."""
    return SequenceMatcher(None, key(title), key(spec.name)).ratio() > _ALIKE


def _read_value(column: Column, cell: Cell) -> object:
    if cell.error:
        raise ValueError(cell.error)
    if column.kind.several_numbers and cell.thousands:
        raise ValueError(
            f"Excel holds this as the one number {cell.value}; format the cell as text and separate numbers with ';'"
        )
    return column.kind.read(cell.value)
