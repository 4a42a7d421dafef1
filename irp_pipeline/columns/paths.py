"""What cells may name: files and folders, in the data folder or in the models folder.

A workbook can come from anybody, so a path in it must stay inside the folder to which it is relative.
:func:`resolve_path` is the only way from a workbook's path to a file: it checks the path when the workbook is read, and
again when the file is used.
"""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from irp_pipeline import store
from irp_pipeline.columns.kinds import json_object
from irp_pipeline.columns.problems import WorkbookError, quoted
from irp_pipeline.settings.addresses import is_address

_MODEL_OF_DEMO = "synthetic-windstorm"
_OUT_OF_FOLDERS = (
    "is outside of the data folder or models folder that the model is in; paths here are relative to the model's folder"
)


@dataclass(frozen=True)
class Folders:
    """The folders of the files that the cells of a workbook name.

    Attributes:
        data: the data folder.
        models: the models folder, if there is one.
    """

    data: Path
    models: Path | None = None

    def find(self, path: str) -> Path:
        """Return the path of a file or folder, as :func:`resolve_model` does."""
        return resolve_model(path, self.data, self.models)


def leaves_folder(path: str) -> bool:
    """Whether a path is absolute, or leads out of its folder with ``..``."""
    portable = path.replace("\\", "/")
    absolute = portable.startswith("/") or re.match(r"[A-Za-z]:", portable) is not None
    return absolute or posixpath.normpath(portable).split("/")[0] == ".."


def path_problem(path: str) -> str | None:
    """What is wrong with the text of a path; None if nothing is."""
    if "://" in path:
        return "is an address, not a path in the data folder"  # may hold a password: not shown
    if "\n" in path or "\t" in path:
        return "holds a line break or a tab; a path is one line"
    if leaves_folder(path) or path.startswith("~"):
        return f"{quoted(path)} is outside of the data folder; give the path inside it, such as property/location.csv"
    return None


def texts_in(value: object) -> Iterator[str]:
    """All texts in a JSON value, including names: each may be a path."""
    if isinstance(value, Mapping):
        yield from value
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(item)
    elif isinstance(value, str):
        yield value


def option_problem(text: str, model: str | None) -> str | None:
    """What is wrong with a text in the options of a model, if it is a path; None if nothing is.

    Models keep their data outside the folder of their configuration, such as in ``../../model_data``, so a path may
    lead out of that folder. It must not leave the data folder or the models folder.

    Args:
        text: the text.
        model: an analysis's ``model``; the path is relative to its folder.
    """
    portable = (model or "").replace("\\", "/")
    folder = posixpath.dirname(portable) if portable.lower().endswith(".json") else portable
    if leaves_folder(text) and leaves_folder(posixpath.join(folder, text.replace("\\", "/"))):
        return f"{quoted(text)} {_OUT_OF_FOLDERS}"
    return None


def options_problem(
    options: object, model: str, data_dir: Path, models_dir: Path | None = None, *, only_links: bool = False
) -> str | None:
    """Why an entry of ``model_options`` cannot be used on this machine; None if all can.

    Args:
        options: an analysis's ``model_options``.
        model: its ``model``, which exists.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.
        only_links: leave out the problems of :func:`option_problem`.
    """
    target = resolve_model(model, data_dir, models_dir)
    folder = target if target.is_dir() else target.parent
    roots = [root.resolve() for root in (data_dir, models_dir) if root is not None]
    for text in texts_in(options):
        if not leaves_folder(text) or (only_links and option_problem(text, model)):
            continue
        try:
            path = (folder / text.replace("\\", "/")).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # as in resolve_path
            return f"{quoted(text)} cannot be used: {error}"
        if not any(path.is_relative_to(root) for root in roots if target.is_relative_to(root)):
            return f"{quoted(text)} {_OUT_OF_FOLDERS}"
    return None


def resolve_path(folder: Path, path: str) -> Path:
    """Where a path of a workbook is on this machine; a file that is elsewhere is copied to it first.

    Args:
        folder: the data folder (for a model, also the models folder).
        path: relative to it; ``\\`` is a separator like ``/``.

    Returns:
        The absolute path, links followed. It need not exist.

    Raises:
        WorkbookError: the path is absolute, or leaves the folder by ``..`` or by a symbolic link.
        StoreError: the folder is elsewhere (``IRP_FILES_URL``), and cannot be reached.
    """
    if problem := path_problem(path):
        raise WorkbookError(problem)
    portable = path.replace("\\", "/")
    store.bring(folder / posixpath.normpath(portable))
    try:
        root = folder.resolve()
        target = root.joinpath(*portable.split("/")).resolve()
        target.exists()  # raises if the name is too long or the folder is not accessible
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError, ValueError: a circle of links, a NUL
        raise WorkbookError(f"{quoted(path)} cannot be used: {error}") from None
    if not target.is_relative_to(root):
        raise WorkbookError(f"{quoted(path)} leaves the folder {folder} through a link; copy the file into it")
    return target


def folder_at(cycle_folder: Path, place: str) -> Path:
    """Return a data folder on this machine.

    Args:
        cycle_folder: the files of the cycle.
        place: as :func:`place_of_folder` returned it.
    """
    return store.path_of_name(place) if is_address(place) else Path(os.path.normpath(cycle_folder / place))


def place_of_folder(folder: Path, cycle_folder: Path) -> str:
    """Return where a data folder is, as it is recorded: machines keep the files of a cycle in different places.

    Args:
        folder: the data folder, as an absolute path.
        cycle_folder: the files of the cycle.

    Returns:
        A path relative to the files of the cycle, else an address or the absolute path.
    """
    if folder.is_relative_to(cycle_folder):
        return folder.relative_to(cycle_folder).as_posix()
    return store.name_of_path(folder) or str(folder)


def resolve_model(path: str, data_dir: Path, models_dir: Path | None = None) -> Path:
    """Where the model or the settings file of an analysis is: in the data folder or else in the models folder.

    Args:
        path: an analysis's ``model`` or ``settings``.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.

    Returns:
        The absolute path, links followed: for a model its folder, or its configuration file if the workbook names that.

    Raises:
        WorkbookError: the path leaves these folders, or exists in neither.
    """
    folders = [folder for folder in (data_dir, models_dir) if folder is not None]
    for folder in folders:
        target = resolve_path(folder, path)
        if target.exists():
            return target
    hint = f"; `irp demo` writes the model {path}" if path == _MODEL_OF_DEMO else ""
    raise WorkbookError(f"there is no {quoted(path)} in {' or '.join(map(str, folders))}{hint}")


def file_problem(folder: Path, path: str) -> str | None:
    """Why ``path`` is not a file in ``folder``; None if it is one."""
    try:
        target = resolve_path(folder, path)
        if target.is_dir():
            return f"{quoted(path)} is a folder; name the file in it"
        return None if target.is_file() else f"there is no file {quoted(path)} in {folder}"
    except (WorkbookError, OSError) as error:
        return str(error)


def settings_problem(path: str, data_dir: Path, models_dir: Path | None) -> str | None:
    """Why ``path`` is not an analysis settings file; None if it is one. Arguments as for :func:`resolve_model`."""
    try:
        target = resolve_model(path, data_dir, models_dir)
        if target.is_dir():
            return f"{quoted(path)} is a folder; name the file in it"
        json_object(target.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        return f"{quoted(path)} is not JSON: it is not UTF-8 text"
    except (WorkbookError, OSError) as error:
        return str(error)
    except ValueError as error:
        return f"{quoted(path)} {error}"
    return None
