"""Where the files are: the folder ``IRP_HOME``, and the folders of cycles and models in it.

Here: finding these folders, and making ``IRP_HOME``. Not here: writing files into them
(:mod:`irp_pipeline.files`), and what the embedded server keeps there (:mod:`irp_pipeline.embedded`).
"""

from __future__ import annotations

import os
from pathlib import Path

from irp_pipeline import embedded
from irp_pipeline.settings.variables import Home, SettingsError, read

_HOME_NAME = ".irp"


def irp_home() -> Path:
    """Return the folder of the cycles and the embedded server. :func:`make_irp_home` makes it.

    A ``.irp`` folder above the working folder counts only if it belongs to the caller, to root or to the owner of
    the folder around it. Otherwise anybody could put one into ``/tmp`` and make others use that database.

    Returns:
        An absolute path; the folder need not exist.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be read; the working folder is gone, or it holds another user's ``.irp``.
    """
    configured = read(Home).folder
    if configured is not None:
        try:
            return Path(os.path.abspath(Path(configured).expanduser()))  # noqa: PTH100 - without ".." in it
        except RuntimeError as error:
            raise SettingsError(f"IRP_HOME is {configured!r}: {error}. Set it to the path of a folder.") from None
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise SettingsError("The working folder no longer exists. Go to another one, or set IRP_HOME.") from None
    for folder in (here, *here.parents):
        if _is_trusted_home(folder / _HOME_NAME):
            return folder / _HOME_NAME
    if (here / _HOME_NAME).exists():
        raise SettingsError(
            f"{here / _HOME_NAME} is not a folder, or another user put it there. Set IRP_HOME to a folder of your "
            "own, or to this one if you trust it."
        )
    return here / _HOME_NAME


def make_irp_home() -> Path:
    """Make the folder of :func:`irp_home` if it is missing: only its owner can enter it, and git ignores it.

    If others can enter an existing folder, it is closed to them, with everything in it.

    Returns:
        Its absolute path.

    Raises:
        SettingsError: as for :func:`irp_home`; the folder cannot be made, or belongs to another user.
    """
    home = irp_home()
    try:
        return embedded.make_home(home)
    except embedded.EmbeddedServerError as error:
        raise SettingsError(f"The folder {home} cannot be used as IRP_HOME. {error}") from error


def cycles_root() -> Path:
    """Return the folder of the files of all cycles on this machine: ``IRP_HOME/cycles``. Makes nothing.

    With ``IRP_FILES_URL`` it holds copies of what is kept there.
    """
    return irp_home() / "cycles"


def cycles_dir(schema: str) -> Path:
    """Say which folder holds the cycles of a schema: ``IRP_HOME/cycles/<schema>``. Makes nothing.

    Raises:
        SettingsError: the schema's name is not the name of one folder.
    """
    _check_folder_name("schema", schema)
    return cycles_root() / schema


def cycle_dir(schema: str, cycle: str) -> Path:
    """Return the folder of a cycle's files: ``IRP_HOME/cycles/<schema>/<cycle>``. Makes nothing.

    Call :func:`make_irp_home` before you put anything into it.

    Args:
        schema: the PostgreSQL schema of the cycle.
        cycle: the cycle's name.

    Raises:
        SettingsError: one of the two cannot be the name of a folder, such as ``..`` or ``a/b``.
    """
    folder = cycles_dir(schema)
    _check_folder_name("cycle", cycle)
    return folder / cycle


def models_folder() -> Path:
    """Return the folder of models that are not in the workbook's folder: ``IRP_HOME/models``."""
    return irp_home() / "models"


def notebooks_folder() -> Path:
    """Return the folder of notebooks that are not in the workbook's folder: ``IRP_HOME/notebooks``."""
    return irp_home() / "notebooks"


def _check_folder_name(what: str, name: str) -> None:
    if name in {"", ".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
        raise SettingsError(
            f"The {what} {name!r} cannot be the name of a folder for its files. "
            f"Use a {what} name of letters, digits, '_', '-' and '.'."
        )


def _is_trusted_home(folder: Path) -> bool:
    try:
        if not folder.is_dir():
            return False
        return folder.stat().st_uid in {os.geteuid(), 0, folder.parent.stat().st_uid}
    except OSError:
        return False
