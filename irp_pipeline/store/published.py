"""Files that are known by their hash: published once, never changed, fetched through the copy on this machine.

The *key* of such a file is its path relative to ``IRP_HOME/cycles``. Without ``IRP_FILES_URL`` that is where it is, and
nothing is copied. With it, that is where its copy on this machine is, and the file itself is the object
``<schema>/<cycle>/published/<key within the cycle>/<SHA-256><suffix>``. Since the name follows from the content:

- writing one never replaces another; a process that was taken for dead and goes on can do no harm;
- publishing again changes nothing, so it may be repeated whenever it is not known whether it was done;
- an earlier version stays until ``irp files prune`` removes it.

The copy on this machine may be missing, old or damaged: it is used only if it has the wanted hash, else fetched again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from irp_pipeline import hashes, settings
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.store.errors import MissingFileError, StoreError
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.place import Place

PUBLISHED: Final = "published"
"""The folder of published files in the folder of a cycle."""

_DAMAGED: Final = "damaged"
_NEWEST: Final = "newest"
_NAME: Final = re.compile(rf"([0-9a-f]{{64}}|{_NEWEST})(\..*)?")
_AT_ONCE: Final = 16
# The time stamps of a file system are coarse: a file as old as this is known to be as it was hashed.
_SETTLED_SECONDS: Final = 5.0


_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _OtherContentError(Exception):
    """A copy does not have the wanted hash."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file, known by its hash.

    Attributes:
        key: its place among the files of all cycles.
        sha256: of its bytes, in hexadecimal; empty for a log, which is not known by its hash.
        bytes: its size.
        changed: when it was published, in seconds since 1970; 0 if that is not known.
    """

    key: str
    sha256: str
    bytes: int
    changed: float = 0


def is_elsewhere() -> bool:
    """Return whether ``IRP_FILES_URL`` names a place: files of cycles in ``IRP_HOME`` are then copies."""
    return settings.files_url() is not None


def key_of(path: Path) -> str:
    """Return the key of a file among the files of cycles on this machine.

    Raises:
        StoreError: it is not among them.
    """
    root = settings.cycles_root()
    if not path.is_relative_to(root):
        raise StoreError(f"{path} is not among the files of cycles in {root}")
    return path.relative_to(root).as_posix()


def publish(source: Path, key: str, sha256: str) -> None:
    """Publish a file, whole or not at all. If it is published already, nothing happens.

    Args:
        source: the file, which must not change meanwhile. Without ``IRP_FILES_URL``, a file that is not in its place is
            copied there.
        key: its place among the files of all cycles.
        sha256: of its bytes, in hexadecimal.

    Raises:
        StoreError: the store cannot be reached or written; the message says what to do.
        OSError: the file cannot be read.
    """
    publish_all([(source, key, sha256)])


def publish_all(files: Iterable[tuple[Path, str, str]]) -> None:
    """Publish several files at once; arguments of each, and errors, as for :func:`publish`."""
    place = place_of_cycles()
    if is_elsewhere():
        _for_each(lambda file: _put(place, *file), list(files))
        return
    settings.make_irp_home()
    for source, key, _ in files:
        target = settings.cycles_root() / key
        if not (target.exists() and target.samefile(source)):
            place.put(source, key, replace=True)


def fetch(key: str, sha256: str) -> Path:
    """Return the file on this machine, after a check of its hash; it is copied from the store if necessary.

    Any number of processes may fetch the same file at once, and may be killed while they do.

    Args:
        key: its place among the files of all cycles.
        sha256: of its bytes, in hexadecimal.

    Raises:
        MissingFileError: it is not there, or is damaged; the message says what to do.
        StoreError: the store cannot be reached.
        OSError: it cannot be read, or not be written here.
    """
    return fetch_all([(key, sha256)])[0]


def fetch_all(files: Iterable[tuple[str, str]]) -> list[Path]:
    """Fetch several files at once; key and SHA-256 of each, errors and order as for :func:`fetch`."""
    root = settings.cycles_root()
    wanted = [(root / key, key, sha256) for key, sha256 in files]
    not_here = [file for file in wanted if not _is(file[0], file[2])]
    if not_here:
        if not is_elsewhere():
            raise MissingFileError(f"The file {not_here[0][0]} is missing or has other content than recorded")
        settings.make_irp_home()
        place = place_of_cycles()
        _for_each(lambda file: _copy(place, *file), not_here)
        hashes.remember_all({target: sha256 for target, _, sha256 in not_here})
    return [target for target, _, _ in wanted]


def exists(key: str, sha256: str) -> bool:
    """Return whether a file can be read here: its copy on this machine is whole, or the store has it.

    Raises:
        StoreError: the store cannot be reached.
    """
    if _is(settings.cycles_root() / key, sha256):
        return True
    return is_elsewhere() and place_of_cycles().find(object_name(key, sha256)) is not None


def missing(files: Iterable[tuple[str, str, int]]) -> list[str]:
    """Return the keys of files that the store does not have, or has in another size, in the given order.

    Args:
        files: key, SHA-256 and size in bytes of each.

    Raises:
        StoreError: the store cannot be reached.
    """
    place = place_of_cycles()

    def is_missing(file: tuple[str, str, int]) -> str | None:
        key, sha256, size = file
        found = place.find(object_name(key, sha256))
        return key if found is None or found.bytes != size else None

    return [key for key in _for_each(is_missing, list(files)) if key is not None]


def list_published(folder: str) -> Iterator[PublishedFile]:
    """Return the published files of a schema or a cycle, all versions, in the order of their names.

    Args:
        folder: such as ``public`` or ``public/Q1-2024``.

    Raises:
        StoreError: the store cannot be reached.
    """
    for found in place_of_cycles().list(folder):
        parts = PurePosixPath(found.key).parts
        match = _NAME.fullmatch(parts[-1])
        if match and parts[2:3] == (PUBLISHED,) and len(parts) > 4 and not match[0].endswith(_DAMAGED):
            sha256 = "" if match[1] == _NEWEST else match[1]
            yield PublishedFile("/".join((*parts[:2], *parts[3:-1])), sha256, found.bytes, found.changed)


def remove(key: str, sha256: str) -> None:
    """Remove a published file from the store, if it exists; a copy on this machine stays.

    Raises:
        StoreError: the store cannot be reached, or refuses.
    """
    place_of_cycles().remove(object_name(key, sha256) if is_elsewhere() else key)


def object_name(key: str, sha256: str) -> str:
    """Return the name of the object that a published file is; without a hash, that of its newest state.

    Raises:
        StoreError: it is not the key of a file of a cycle.
    """
    parts = PurePosixPath(key).parts
    if len(parts) < 3 or ".." in parts or key.startswith("/"):
        raise StoreError(f"{key!r} is not the key of a file of a cycle, such as public/Q1-2024/report/report.html")
    return "/".join((*parts[:2], PUBLISHED, *parts[2:], (sha256 or _NEWEST) + PurePosixPath(key).suffix))


def _put(place: Place, source: Path, key: str, sha256: str) -> None:
    name, size = object_name(key, sha256), source.stat().st_size
    if place.put(source, name, replace=False):
        return
    found = place.find(name)
    if found is not None and found.bytes != size:  # not what its name says
        place.put(source, name, replace=True)


def _copy(place: Place, target: Path, key: str, sha256: str) -> None:
    name = object_name(key, sha256)
    for _ in range(2):  # a transfer may be damaged: twice the same is the object's fault
        with suppress(_OtherContentError), appearing_when_whole(target, durable=False) as partial:
            if not place.get(name, partial):
                raise MissingFileError(
                    f"There is no {name!r} in {place.address}. Run the cycle again: the step that writes this file "
                    "then writes it anew"
                )
            if hashes.bytes_sha256(partial) != sha256:
                raise _OtherContentError
            settled = time.time() - _SETTLED_SECONDS
            os.utime(partial, (settled, settled))
            return
    place.rename(name, f"{name}.{_DAMAGED}")  # so that the next publication can take its place
    raise MissingFileError(
        f"The file {key!r} in {place.address} does not have the SHA-256 {sha256[:12]}… by which it is known: it was "
        f"damaged or edited there. It was put aside as {name}.{_DAMAGED}. Run the cycle again: the step that writes it "
        "then writes it anew"
    )


def _is(path: Path, sha256: str) -> bool:
    try:
        return path.is_file() and hashes.file_sha256(path) == sha256
    except OSError:
        return False


def _for_each(action: Callable[[_Given], _Result], items: Sequence[_Given]) -> list[_Result]:
    if len(items) < 2:
        return [action(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(action, items))
