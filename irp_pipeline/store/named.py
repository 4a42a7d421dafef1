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
from irp_pipeline.store.published import PUBLISHED, is_elsewhere

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
    cycles, addresses = settings.cycles_root(), settings.irp_home() / _ADDRESSES
    if is_elsewhere() and path.is_relative_to(cycles):
        return "/".join((settings.files_url() or "", *path.relative_to(cycles).parts))
    parts = path.relative_to(addresses).parts if path.is_relative_to(addresses) else ()
    return f"{parts[0]}://{unquote('/'.join(parts[1:]))}" if len(parts) > 1 else None


def bring(path: Path) -> Path:
    """Copy a file to its place on this machine, if it is elsewhere and not here in its present version.

    Args:
        path: the place. A file there that was not copied from elsewhere stays, unless there is one elsewhere.

    Returns:
        The same path. There need not be a file.

    Raises:
        StoreError: the store cannot be reached.
    """
    if not is_elsewhere() and _ADDRESSES not in path.parts:
        return path
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
        with appearing_when_whole(path, durable=False) as partial:
            if not place.get(key, partial):
                raise StoreError(f"{place.address}/{key} was removed while it was read. Put it there again")
            sha256 = hashes.bytes_sha256(partial)
        hashes.remember_source(path, found.version, sha256)
    _looked[look] = time.monotonic()
    return path


def bring_all(folder: str) -> None:
    """Copy all files that people put into a folder of the store to this machine, without those that were published.

    Args:
        folder: such as ``public`` or ``public/Q1-2024``.

    Raises:
        StoreError: the store cannot be reached.
    """
    for found in place_of_cycles().list(folder):
        if found.key.split("/")[2:3] != [PUBLISHED]:
            bring(settings.cycles_root() / found.key)


def put(source: Path, key: str) -> None:
    """Put a file into the store by its name, as people do; a file of that name is replaced.

    Args:
        source: the file.
        key: its place among the files of all cycles.

    Raises:
        StoreError: the store cannot be reached or written.
    """
    place_of_cycles().put(source, key, replace=True)


def _path_of_address(text: str) -> Path:
    try:
        address = checked_address(text)
    except ValueError as error:
        raise StoreError(f"The address of a file cannot be used: {error}") from None
    scheme, _, rest = address.partition("://")
    store = settings.files_url()
    if store is not None and address.startswith(f"{store}/"):
        return settings.cycles_root() / address.removeprefix(f"{store}/")
    if scheme == "file":
        return Path(unquote(rest))
    return settings.irp_home() / _ADDRESSES / scheme / quote(rest)


def _source_of(path: Path) -> tuple[Place, str] | None:
    """Return the place and the key of the file that is copied to a path; None if none is."""
    cycles = settings.cycles_root()
    if path.is_relative_to(cycles):
        return (place_of_cycles(), "/".join(path.relative_to(cycles).parts)) if is_elsewhere() else None
    if (address := name_of_path(path)) is None:
        return None
    scheme, _, rest = address.partition("://")
    container, _, key = rest.partition("/")
    return place_at(f"{scheme}://{container}"), key
