"""What the cells of a workbook may name: files, database tables, queries and models.

A workbook can come from anybody, so a path in it stays inside the folder it is relative to. :func:`resolve_path` is
the only way from a workbook's path to a file: it checks when the workbook is read, and again when the file is used.
"""

import posixpath
import re
from pathlib import Path

from irp_pipeline.workbook.choices import PortfolioSource
from irp_pipeline.workbook.columns import json_object
from irp_pipeline.workbook.problems import WorkbookError, quoted

_TABLE = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*){0,2}")
_SQL_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_OTHER_SUFFIXES = {
    PortfolioSource.CSV: (".parquet", ".pq", ".xlsx", ".xls"),
    PortfolioSource.PARQUET: (".csv", ".csv.gz", ".txt", ".xlsx", ".xls"),
}
_MODEL_CONFIGURATION = "oasislmf.json"


def is_query(text: str) -> bool:
    """Whether a table of an ``sql`` portfolio is given as a query; else ``text`` is the table's name."""
    return _TABLE.fullmatch(text) is None


def _query_problem(text: str) -> str | None:
    bare = _SQL_QUOTED.sub(" ", text).strip()
    if not re.match(r"(select|with)\b", bare, re.IGNORECASE):
        if "://" in text:  # may hold a password: not shown
            return "is an address; name the table here, and the database by its short name in the column database"
        return f"{quoted(text)} is neither a table (schema.table) nor a query that begins with SELECT or WITH"
    if ";" in bare:
        return "holds a semicolon; write one query, without a semicolon at its end"
    return None


def table_problem(source: str, text: str) -> str | None:
    """What is wrong with the place of an OED table, as far as its text tells; None if nothing is."""
    if source == PortfolioSource.SQL:
        return _query_problem(text) if is_query(text) else None
    if problem := path_problem(text):
        return problem
    if text.lower().endswith(_OTHER_SUFFIXES[PortfolioSource(source)]):
        return f"{quoted(text)} does not look like a {source} file, which the column source says it is"
    return None


def leaves_folder(path: str) -> bool:
    """Whether a path is absolute or goes up with ``..`` further than it went down."""
    portable = path.replace("\\", "/")
    absolute = portable.startswith("/") or re.match(r"[A-Za-z]:", portable) is not None
    return absolute or posixpath.normpath(portable).split("/")[0] == ".."


def path_problem(path: str) -> str | None:
    """What is wrong with a path, as far as its text tells; None if nothing is."""
    if "://" in path:
        return "is an address, not a path in the data folder"  # may hold a password: not shown
    if "\n" in path or "\t" in path:
        return "holds a line break or a tab; a path is one line"
    if leaves_folder(path) or path.startswith("~"):
        return f"{quoted(path)} is outside of the data folder; give the path inside it, such as property/location.csv"
    return None


def resolve_path(folder: Path, path: str) -> Path:
    """Where a path of a workbook is on this machine.

    Args:
        folder: the data folder (for a model, also the models folder).
        path: relative to it; ``\\`` separates like ``/``.

    Returns:
        The absolute path, links followed. It need not exist.

    Raises:
        WorkbookError: the path is absolute, or leaves the folder by ``..`` or by a symbolic link.
    """
    if problem := path_problem(path):
        raise WorkbookError(problem)
    try:
        root = folder.resolve()
        target = root.joinpath(*path.replace("\\", "/").split("/")).resolve()
        target.exists()  # raises if the name is too long or the folder closed to us
    except (OSError, RuntimeError, ValueError) as error:  # the others: a circle of links, a NUL
        raise WorkbookError(f"{quoted(path)} cannot be used: {error}") from None
    if not target.is_relative_to(root):
        raise WorkbookError(f"{quoted(path)} leaves the folder {folder} through a link; copy the file into it")
    return target


def resolve_model(path: str, data_dir: Path, models_dir: Path | None = None) -> Path:
    """Where the model or the settings file of an analysis is: in the data folder or else in the models folder.

    Args:
        path: an analysis's ``model`` or ``settings``.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.

    Returns:
        The absolute path, links followed, of what is there: for a model its folder, or its configuration file if the
        workbook names that.

    Raises:
        WorkbookError: the path leaves these folders, or is in neither.
    """
    folders = [folder for folder in (data_dir, models_dir) if folder is not None]
    for folder in folders:
        target = resolve_path(folder, path)
        if target.exists():
            return target
    raise WorkbookError(f"there is no {quoted(path)} in {' or '.join(map(str, folders))}")


def file_problem(folder: Path, path: str) -> str | None:
    """Why ``path`` is no file in ``folder``; None if it is one."""
    try:
        target = resolve_path(folder, path)
        if target.is_dir():
            return f"{quoted(path)} is a folder; name the file in it"
        return None if target.is_file() else f"there is no file {quoted(path)} in {folder}"
    except (WorkbookError, OSError) as error:
        return str(error)


def settings_problem(path: str, data_dir: Path, models_dir: Path | None) -> str | None:
    """Why ``path`` is no analysis settings file; None if it is one. Arguments as for :func:`resolve_model`."""
    try:
        target = resolve_model(path, data_dir, models_dir)
        if target.is_dir():
            return f"{quoted(path)} is a folder; name the file in it"
        json_object(target.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        return f"{quoted(path)} is not JSON: it is no UTF-8 text"
    except (WorkbookError, OSError) as error:
        return str(error)
    except ValueError as error:
        return f"{quoted(path)} {error}"
    return None


def model_problem(path: str, has_options: bool, data_dir: Path, models_dir: Path | None) -> str | None:
    """Why ``path`` is no model; None if it is one.

    Args:
        path: an analysis's ``model``.
        has_options: whether the workbook itself holds entries of the model's configuration file.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.
    """
    try:
        target = resolve_model(path, data_dir, models_dir)
        if target.is_dir() and not has_options and not (target / _MODEL_CONFIGURATION).is_file():
            return f"the folder {quoted(path)} has no {_MODEL_CONFIGURATION}; add it, or fill the column model_options"
        if target.is_file() and target.suffix.lower() != ".json":
            return f"{quoted(path)} is neither a model's folder nor a JSON file"
    except (WorkbookError, OSError) as error:
        return str(error)
    return None
