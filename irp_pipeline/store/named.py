"""Files that people put into the store or at another address, by name: workbooks, sources, settings of models.

They may change at any time. Each has a place for its copy on this machine: below ``IRP_HOME/cycles`` for those in the
store, else below ``IRP_HOME/addresses``. A path of such a place stands for the file; :func:`bring` makes sure that the
copy is as new as the file. Without ``IRP_FILES_URL``, files of cycles are in their places already.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from irp_pipeline import hashes, settings
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.settings.addresses import checked_address, is_address
from irp_pipeline.store.errors import StoreError
from irp_pipeline.store.finding import place_at, place_of_cycles
from irp_pipeline.store.place import Place
from irp_pipeline.store.published import is_elsewhere

_ADDRESSES: Final = "addresses"
# Steps look at the same file several times in a row.
_LOOK_AGAIN_SECONDS: Final = 1.0
_looked: dict[tuple[str, str], float] = {}


def path_of_name(name: str) -> Path:
    """Return the place on this machine of a file or folder that a person names; nothing is copied.

    Args:
        name: an address, such as ``s3://bucket/q1/configuration.xlsx``; or a path. With ``IRP_FILES_URL``, a relative
            path of a file that is not here is one within the store.

    Raises:
        StoreError: the address cannot be used; the message does not quote it, since it may hold a password.
    """
    if is_address(name):
        return _path_of_address(name)
    path = Path(name).expanduser()
    if not path.is_absolute() and is_elsewhere() and not path.exists():
        return Path(os.path.normpath(settings.cycles_root() / path))
    return path


def name_of_path(path: Path) -> str | None:
    """Return the address whose copy on this machine is at a path; None if it is no such place."""
    found = _source_of(path)
    return None if found is None else f"{found[0].address}/{found[1]}".rstrip("/")


def bring(path: Path) -> Path:
    """Copy a file to its place on this machine, if it is elsewhere and not here in its present version.

    Args:
        path: the place. A file there that was not copied from elsewhere stays, unless there is one elsewhere.

    Returns:
        The same path. There need not be a file.

    Raises:
        StoreError: the store cannot be reached.
    """
    source = _source_of(path)
    if source is None or not source[1]:
        return path
    place, key = source
    look = place.address, str(path)
    if time.monotonic() - _looked.get(look, float("-inf")) < _LOOK_AGAIN_SECONDS:
        return path
    settings.make_irp_home()
    found, known = place.find(key), hashes.remembered_source(path)
    if found is None:
        if known is not None:  # it was removed there
            path.unlink(missing_ok=True)
            hashes.remember_source(path, None)
    elif known is None or known[0] != found.version or not path.is_file() or hashes.file_sha256(path) != known[1]:
        with appearing_when_whole(path) as partial:
            if not place.get(key, partial):
                raise StoreError(f"{place.address}/{key} was removed while it was read. Put it there again")
            sha256 = hashes.file_sha256(partial, recheck=True)
        hashes.remember_source(path, found.version, sha256)
    _looked[look] = time.monotonic()
    return path


def _path_of_address(text: str) -> Path:
    try:
        address = checked_address(text)
    except ValueError as error:
        raise StoreError(f"The address of a file cannot be used: {error}") from None
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        return Path(unquote(rest))
    store = settings.files_url()
    if store is not None and address.startswith(f"{store}/"):
        return settings.cycles_root() / address.removeprefix(f"{store}/")
    return settings.irp_home() / _ADDRESSES / scheme / quote(rest)


def _source_of(path: Path) -> tuple[Place, str] | None:
    """Return the place and the key of the file that is copied to a path; None if none is."""
    cycles, addresses = settings.cycles_root(), settings.irp_home() / _ADDRESSES
    if path.is_relative_to(cycles):
        return (place_of_cycles(), "/".join(path.relative_to(cycles).parts)) if is_elsewhere() else None
    if path == addresses or not path.is_relative_to(addresses):
        return None
    scheme, *rest = (unquote(part) for part in path.relative_to(addresses).parts)
    return (place_at(f"{scheme}://{rest[0]}"), "/".join(rest[1:])) if rest else None
