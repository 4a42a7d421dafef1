"""Writing a :class:`Workbook`, or an empty one, as an xlsx file that a person fills in."""

import contextlib
import datetime as dt
import io
import os
import re
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from irp_pipeline.columns import DATE, Column
from irp_pipeline.columns.problems import Problem, WorkbookError
from irp_pipeline.columns.rows import Row
from irp_pipeline.workbook.content import Workbook
from irp_pipeline.workbook.sheets import (
    HEADER_ROW,
    MAX_CELL_TEXT,
    METADATA,
    SETTING_HEADERS,
    SHEETS,
    TABLES,
    SheetSpec,
)
from irp_pipeline.workbook.xlsx import MAX_ROWS

_FIRST_ROW, _LAST_ROW = HEADER_ROW + 1, HEADER_ROW + MAX_ROWS
_TEXT_FORMAT = "@"
_DATE_FORMAT = "yyyy-mm-dd"
_AUTHOR = "irp_pipeline"
_WRITTEN = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # a fixed time, so that the same content gives the same file
_NOTE_WIDTH, _NOTE_LINE_HEIGHT, _NOTE_LINE_CHARACTERS = 360, 18, 48


def write_template(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write an empty workbook, with drop-downs, and a note on every header that explains the column.

    Args:
        path: the file to write; must end in ``.xlsx``.
        overwrite: whether an existing file is replaced.

    Returns:
        The path of the file, which is written completely or not at all.

    Raises:
        WorkbookError: the file exists already, or cannot be written.
    """
    return _save(Path(path), {}, overwrite, SHEETS)


def write_workbook(path: str | os.PathLike[str], workbook: Workbook, overwrite: bool = False) -> Path:
    """Write ``workbook`` as a file from which ``read_workbook`` reads an equal one.

    The same workbook always gives the same bytes, and therefore the same ``workbook_hash``.

    Args:
        path: the file to write; must end in ``.xlsx``.
        workbook: what to write.
        overwrite: whether an existing file is replaced.

    Returns:
        The path of the file, which is written completely or not at all. Sheets that it may lack are left out if empty.

    Raises:
        WorkbookError: the file exists already or cannot be written, or the workbook has more rows than a sheet can.
    """
    content: dict[str, Sequence[Row]] = {spec.field: getattr(workbook, spec.field) for spec in TABLES}
    for spec in TABLES:
        if len(content[spec.field]) > MAX_ROWS:
            raise WorkbookError(
                [
                    Problem(
                        spec.name, None, None, f"{len(content[spec.field]):,} rows; at most {MAX_ROWS:,} are possible"
                    )
                ]
            )
    sheets = [spec for spec in SHEETS if not spec.optional or content[spec.field]]
    return _save(Path(path), {METADATA.field: [workbook.metadata], **content}, overwrite, sheets)


def _save(path: Path, content: Mapping[str, Sequence[Row]], overwrite: bool, sheets: Sequence[SheetSpec]) -> Path:
    if path.suffix.lower() != ".xlsx":
        raise WorkbookError(f"{path}: the name of a workbook must end in .xlsx.")
    if path.exists() and not overwrite:
        raise _exists(path)
    book = openpyxl.Workbook()
    book.remove(book.active)
    for spec in sheets:
        sheet = book.create_sheet(spec.name)
        rows = content.get(spec.field, ())
        if spec is METADATA:
            _fill_settings(sheet, dict(rows[0]) if rows else {})
        else:
            _fill_table(sheet, spec, rows)
    _write_atomically(path, _packed(book), overwrite)
    return path


def _fill_settings(sheet: Any, values: Mapping[str, Any]) -> None:
    notes = (METADATA.help, "Rest the mouse on a setting to see what belongs here.")
    for number, (header, note) in enumerate(zip(SETTING_HEADERS, notes, strict=True), start=1):
        _write_header(sheet.cell(HEADER_ROW, number), header, note)
    for row, (name, column) in enumerate(METADATA.row.columns().items(), start=_FIRST_ROW):
        label = sheet.cell(row, 1, name)
        label.font = Font(bold=METADATA.row.model_fields[name].is_required())
        label.comment = _note(_note_text(METADATA, name))
        _write_value(sheet.cell(row, 2), column, values.get(name))
        _add_drop_down(sheet, column, f"B{row}")
    sheet.column_dimensions["A"].width = 18
    sheet.column_dimensions["B"].width = 44
    sheet.freeze_panes = f"A{_FIRST_ROW}"


def _fill_table(sheet: Any, spec: SheetSpec, rows: Sequence[Row]) -> None:
    for number, (name, column) in enumerate(spec.row.columns().items(), start=1):
        letter = get_column_letter(number)
        _write_header(sheet.cell(HEADER_ROW, number), name, _note_text(spec, name))
        sheet.column_dimensions[letter].width = column.width
        if column.kind.as_text:
            sheet.column_dimensions[letter].number_format = _TEXT_FORMAT
        _add_drop_down(sheet, column, f"{letter}{_FIRST_ROW}:{letter}{_LAST_ROW}")
        for row, item in enumerate(rows, start=_FIRST_ROW):
            if not column.only_for or getattr(item, column.selector) in column.only_for:
                _write_value(sheet.cell(row, number), column, getattr(item, name))
    sheet.freeze_panes = f"B{_FIRST_ROW}"


def _write_header(cell: Any, text: str, note: str) -> None:
    cell.value = text
    cell.font = Font(bold=True, color="FFFFFF")
    cell.fill = PatternFill("solid", start_color="1F3864")
    cell.alignment = Alignment(vertical="center")
    cell.comment = _note(note)


def _note_text(spec: SheetSpec, name: str) -> str:
    column = spec.row.columns()[name]
    examples = dict.fromkeys(example for example in column.examples if example)
    lines = [
        column.help,
        f"Holds: {column.kind.description}",
        f"Must be filled: {spec.requirement(name)}",
        *(f"Example: {example}" for example in examples),
    ]
    return "\n".join(lines).replace("`", "")


def _note(text: str) -> Any:
    lines = sum(1 + len(line) // _NOTE_LINE_CHARACTERS for line in text.splitlines())
    return Comment(text, _AUTHOR, height=_NOTE_LINE_HEIGHT * (lines + 1), width=_NOTE_WIDTH)


def _add_drop_down(sheet: Any, column: Column, cells: str) -> None:
    if column.options_from is not None:
        title, name = column.options_from
        other = next(spec for spec in SHEETS if spec.name == title)
        letter = get_column_letter(1 + list(other.row.columns()).index(name))
        source = f"{title}!${letter}${_FIRST_ROW}:${letter}${_LAST_ROW}"
    elif column.options:
        source = f'"{",".join(column.options)}"'
    else:
        return
    validation = DataValidation(type="list", formula1=source, allow_blank=True, showErrorMessage=column.options_only)
    validation.error = "Please choose from the list."
    validation.add(cells)
    sheet.add_data_validation(validation)


def _write_value(cell: Any, column: Column, value: Any) -> None:
    if column.kind.as_text:
        cell.number_format = _TEXT_FORMAT
    elif column.kind is DATE:
        cell.number_format = _DATE_FORMAT
    if value is None or value in ((), {}):
        return
    written = column.kind.write(value)
    if not isinstance(written, str):
        cell.value = written
        return
    text = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", written)  # otherwise Excel reads it as an escape
    if len(text) > MAX_CELL_TEXT:
        message = f"{len(text):,} characters are more than the {MAX_CELL_TEXT:,} that a cell may hold"
        raise WorkbookError([Problem(cell.parent.title, cell.coordinate, None, message)])
    cell.value = text
    cell.data_type = "s"  # a text that begins with '=' is not a formula


def _packed(book: Any) -> bytes:
    """The workbook as xlsx, always with the same bytes."""
    raw, packed = io.BytesIO(), io.BytesIO()
    book.properties.creator = _AUTHOR
    book.properties.created = _WRITTEN.replace(tzinfo=None)
    book.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(packed, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            if name == "docProps/core.xml":
                stamp = _WRITTEN.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
                part = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, part)
            entry = zipfile.ZipInfo(name, date_time=_WRITTEN.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            target.writestr(entry, part)
    return packed.getvalue()


def _write_atomically(path: Path, data: bytes, overwrite: bool) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            _move_to_new(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except (OSError, ValueError) as error:
        raise WorkbookError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)


def _move_to_new(temporary: Path, path: Path) -> None:
    """Give the file its name; FileExistsError if another file has that name by now."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where renaming always replaces
        if path.exists():
            raise FileExistsError from None
        temporary.replace(path)


def _exists(path: Path) -> WorkbookError:
    return WorkbookError(f"{path} exists already and was left as it is; choose another name, or overwrite it.")
