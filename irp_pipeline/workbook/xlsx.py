"""From an untrusted file to the filled cells of its sheets.

Everything here treats the file as hostile: the size is limited before unpacking, the work of parsing is limited before
it begins, and any error becomes a :class:`WorkbookError` of one plain sentence. The meaning of the cells is not known
here.
"""

import contextlib
import hashlib
import io
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree as ET

import openpyxl
from openpyxl.utils import get_column_letter
from openpyxl.utils.cell import coordinate_to_tuple

from irp_pipeline.columns.kinds import trimmed
from irp_pipeline.columns.problems import WorkbookError, one_line
from irp_pipeline.workbook.sheets import HEADER_ROW

MAX_ROWS = 10_000
"""Rows of a sheet below its header; a value further down is an error."""
MAX_FILE_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 32 * 2**20
"""The limit for all parts of a file when unpacked; 2,000 analyses need about one megabyte."""

_MAX_COLUMNS = 256
_MAX_PARTS = 2_000
_MAX_TAGS = 3_000_000  # XML tags in all parts together; they determine how long parsing takes
_EXCEL_ROWS = 1_048_576
_OLE_SIGNATURE = bytes.fromhex("d0cf11e0a1b11ae1")  # of Office files before 2007, and of encrypted ones since
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_STRICT_NAMESPACE = b"http://purl.oclc.org/ooxml/"
_OOXML_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True)
class Cell:
    """A filled cell.

    Attributes:
        value: its content as Excel shows it, with text trimmed; None if there is an ``error``.
        thousands: whether it is a number shown with a thousands separator.
        error: why its value cannot be used.
    """

    value: object
    thousands: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Grid:
    """A sheet as it is in the file.

    Attributes:
        title: its name.
        cells: its filled cells by row and column, both counted from 1.
        faults: what is wrong with the sheet itself, each as a cell or range and a message.
    """

    title: str
    cells: Mapping[tuple[int, int], Cell]
    faults: Sequence[tuple[str, str]]


def workbook_hash(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of the file's bytes, as 64 hexadecimal digits.

    Raises:
        WorkbookError: there is no such file, or it cannot be read.
    """
    return hashlib.sha256(_file_bytes(Path(path))).hexdigest()


def read_grids(path: Path, titles: Collection[str]) -> list[Grid]:
    """Read an xlsx file.

    Args:
        path: the file.
        titles: the sheets whose cells to read, as :func:`key` writes them; for others, only the name is read.

    Returns:
        All sheets in order, including charts and hidden sheets.

    Raises:
        WorkbookError: there is no such file, it is not an xlsx file, or it is larger than a workbook can be.
    """
    archive = _open_archive(path, data := _file_bytes(path))
    try:
        _limit_markup(archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about features of Excel that do not concern us
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            with contextlib.closing(book):
                sheets = {sheet.title: sheet for sheet in book.worksheets if key(sheet.title) in titles}
                return [
                    _read_grid(archive, sheets[title]) if title in sheets else Grid(title, {}, [])
                    for title in book.sheetnames
                ]
    # A damaged or malicious file can make the parsers of zip, XML and xlsx raise almost anything.
    except Exception as error:
        reason = one_line(str(error) or repr(error))
        raise WorkbookError(f"{path} cannot be read as an Excel workbook: {reason}") from error


def key(text: str) -> str:
    """The name of a header or sheet, without differences in spelling: capitals, spaces, hyphens."""
    return re.sub(r"[\s_-]+", "_", trimmed(text)).casefold()


def _file_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise WorkbookError(f"{path} is a folder, not a workbook.")
        if not stat.S_ISREG(status.st_mode):
            raise WorkbookError(f"{path} is not a file.")
        if status.st_size > MAX_FILE_BYTES:
            raise WorkbookError(
                f"{path} has {status.st_size / 2**20:,.0f} MB; a configuration workbook has at most "
                f"{MAX_FILE_BYTES // 2**20}. Is it the right file?"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkbookError(f"There is no workbook {path}. `irp config template {path}` writes an empty one.") from None
    except (OSError, ValueError) as error:
        raise WorkbookError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _open_archive(path: Path, data: bytes) -> zipfile.ZipFile:
    """The parts of the file, after all checks that are possible without unpacking them."""
    if not data:
        raise WorkbookError(f"{path} is empty (0 bytes); save it again.")
    if data.startswith(_OLE_SIGNATURE):
        if _ENCRYPTED_STREAM in data:
            raise WorkbookError(f"{path} is protected with a password; save it in Excel without one.")
        raise WorkbookError(f"{path} is in the old Excel format (.xls); save it as .xlsx.")
    if not data.startswith(b"PK"):
        raise WorkbookError(f"{path} is not an Excel workbook (.xlsx), whatever its name says.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise WorkbookError(f"{path} is damaged or incomplete; copy or save it again.") from None
    parts = archive.infolist()
    names = {part.filename for part in parts}
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MAX_UNPACKED_BYTES or len(parts) > _MAX_PARTS:
        raise WorkbookError(
            f"{path} would unpack to {unpacked / 2**20:,.0f} MB in {len(parts):,} parts; a configuration workbook has "
            f"at most {MAX_UNPACKED_BYTES // 2**20} MB. Delete pictures, other data and formatted empty rows."
        )
    if any(part.flag_bits & 1 for part in parts):
        raise WorkbookError(f"{path} is protected with a password; save it in Excel without one.")
    if "xl/workbook.bin" in names:
        raise WorkbookError(f"{path} is in Excel's binary format (.xlsb); save it as .xlsx.")
    if "[Content_Types].xml" not in names:
        raise WorkbookError(f"{path} is not an Excel workbook (.xlsx); save it in that format.")
    if "xl/workbook.xml" in names and _STRICT_NAMESPACE in archive.read("xl/workbook.xml"):
        raise WorkbookError(
            f"{path} was saved as 'Strict Open XML Spreadsheet', which is not read here; save it as "
            "'Excel Workbook (.xlsx)'."
        )
    return archive


def _limit_markup(archive: zipfile.ZipFile) -> None:
    """Refuse XML that would take long to parse, or that defines entities, which can grow without limit."""
    tags = 0
    for part in archive.infolist():
        markup = archive.read(part).replace(b"\0", b"")  # so that UTF-16 does not hide anything
        tags += markup.count(b"<")
        if tags > _MAX_TAGS:
            raise ValueError("it holds far more cells than a configuration workbook needs")
        if b"<!DOCTYPE" in markup or b"<!ENTITY" in markup:
            raise ValueError(f"{part.filename} holds declarations that no spreadsheet program writes")


def _read_grid(archive: zipfile.ZipFile, sheet: Any) -> Grid:
    with archive.open(sheet._worksheet_path) as markup:  # openpyxl has no public name for this
        scan = _scan_sheet(markup)
    cells: dict[tuple[int, int], Cell] = {}
    if scan.last_row:
        # With explicit bounds, since the size that the file states can be wrong.
        rows = sheet.iter_rows(max_row=scan.last_row, max_col=scan.last_column)
        for row_number, row in enumerate(rows, start=1):
            for column_number, cell in enumerate(row, start=1):
                if cell.value is not None and (read := _read_cell(cell)) is not None:
                    cells[row_number, column_number] = read
    if sheet.sheet_state != "visible" and cells:
        scan.faults.append(("A1", "the sheet is hidden, so nobody sees what it says; show it"))
    for place in scan.uncalculated:
        cells[place] = Cell(
            None, error="holds a formula without a result; open the workbook in Excel and save it, or type the value"
        )
    return Grid(sheet.title, cells, scan.faults)


def _read_cell(cell: Any) -> Cell | None:
    value = cell.value
    if cell.data_type == "e":
        return Cell(None, error=f"holds the Excel error {one_line(str(value))}")
    if isinstance(value, str):
        text = trimmed(_OOXML_ESCAPE.sub(_unescaped, value))
        return Cell(text) if text else None
    return Cell(value, thousands=isinstance(value, int | float) and "#,##" in str(cell.number_format))


def _unescaped(escape: re.Match[str]) -> str:
    """The character that xlsx writes as ``_x000D_``; a character that cannot be typed stays escaped."""
    char = chr(int(escape[1], 16))
    return char if char.isprintable() or char in "\n\r\t" else escape[0]


@dataclass
class _Scan:
    """The findings in a sheet's markup before openpyxl reads its cells."""

    last_row: int = 0
    last_column: int = 0
    uncalculated: list[tuple[int, int]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


def _scan_sheet(markup: IO[bytes]) -> _Scan:
    """Find the extent of the filled cells, formulas without a result, merged, hidden cells, cells beyond the limits."""
    scan = _Scan()
    row_is_hidden = False
    hidden_columns: set[int] = set()
    beyond: str | None = None
    row = column = 0
    for event, element in ET.iterparse(markup, events=("start", "end")):  # noqa: S314 - see _limit_markup
        tag = _local_name(element)
        if event == "start" and tag == "row":
            row, column = int(float(element.get("r", row + 1))), 0
            row_is_hidden = _is_hidden(element)
            if not 1 <= row <= _EXCEL_ROWS:
                raise ValueError(f"there is no row {row} in Excel")
        elif event == "start":
            continue
        elif tag == "row":
            element.clear()
        elif tag == "col":
            if _is_hidden(element):
                first, last = int(element.get("min", 0)), min(int(element.get("max", 0)), _MAX_COLUMNS)
                hidden_columns.update(range(first, last + 1))
        elif tag == "mergeCell":
            cells = element.get("ref", "")
            coordinate_to_tuple(cells.partition(":")[0])  # raises if it is not a cell
            scan.faults.append((cells, "these cells are merged; unmerge them and fill each one"))
        elif tag == "c":
            reference = element.get("r")
            row, column = coordinate_to_tuple(reference) if reference else (row, column + 1)
            children = {_local_name(child): child for child in element}
            has_value = "v" in children and bool(children["v"].text)
            if not (has_value or "f" in children or "is" in children):
                continue
            if row > MAX_ROWS + HEADER_ROW or column > _MAX_COLUMNS:
                beyond = beyond or f"{get_column_letter(column)}{row}"
                continue
            if row > HEADER_ROW and (row_is_hidden or column in hidden_columns):
                what = f"row {row}" if row_is_hidden else f"column {get_column_letter(column)}"
                message = f"{what} is hidden, for instance by a filter, but filled; show it, or delete what it says"
                scan.faults.append((f"{get_column_letter(column)}{row}", message))
                row_is_hidden = False  # once is enough
                hidden_columns.discard(column)
            scan.last_row, scan.last_column = max(scan.last_row, row), max(scan.last_column, column)
            if "f" in children and not has_value and element.get("t") != "str":
                scan.uncalculated.append((row, column))
    if beyond:
        limits = f"{MAX_ROWS:,} rows and {_MAX_COLUMNS} columns"
        scan.faults.append((beyond, f"is filled, but a sheet may have at most {limits}"))
    return scan


def _is_hidden(element: ET.Element) -> bool:
    return element.get("hidden", "0") in ("1", "true")


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
