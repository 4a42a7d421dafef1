"""An object store as a place for files: S3, Azure Blob Storage, Google Cloud Storage, through fsspec.

An object appears whole, when its upload is complete. Writing one only if there is none is a conditional request, which
the store itself decides. Credentials come from the environment, as fsspec's libraries read them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from irp_pipeline.store.errors import StoreError
from irp_pipeline.store.patience import is_worth_another_try, patiently
from irp_pipeline.store.place import StoredFile

_EXTRAS: Final = {"s3": "s3", "abfs": "azure", "abfss": "azure", "az": "azure", "gs": "gcs", "gcs": "gcs"}
_HINTS: Final = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another S3 server, AWS_ENDPOINT_URL",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and its key, or those of azure-identity",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_Result = TypeVar("_Result")


class Objects:
    """An object store, or a part of one; see :class:`irp_pipeline.store.place.Place`.

    Args:
        url: such as ``s3://bucket/prefix``.

    Raises:
        StoreError: the library for this kind of address is not installed.
    """

    def __init__(self, url: str) -> None:
        from upath import UPath

        self._url = url
        self._extra = _EXTRAS[urlsplit(url).scheme]
        try:
            # Listings are never remembered: others write too. One instance for each thread and process is fsspec's.
            root = UPath(url, use_listings_cache=False)
            self._files: Any = root.fs
        except ImportError as error:
            raise StoreError(
                f"{url} needs a library that is not installed: pip install 'irp-pipeline[{self._extra}]'"
            ) from error
        self._root = root.path.rstrip("/")

    @property
    def address(self) -> str:
        """The URL."""
        return self._url

    def read(self, key: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        return self._or_none("read", key, lambda: bytes(self._files.cat_file(self._path(key))))

    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one; return whether it was written."""
        return self._created(key, lambda: self._files.pipe_file(self._path(key), content, mode="create"))

    def put(self, source: Path, key: str, *, replace: bool) -> bool:
        """Copy a file to an object, whole or not at all; return whether it was written."""
        path = self._path(key)
        if replace:
            self._patiently("write", key, lambda: self._files.put_file(str(source), path))
            return True
        only_new = {"overwrite": False} if self._extra == "azure" else {"mode": "create"}
        return self._created(key, lambda: self._files.put_file(str(source), path, **only_new))

    def get(self, key: str, target: Path) -> bool:
        """Copy an object to a file; return whether there is such an object."""

        def copy() -> bool:
            self._files.get_file(self._path(key), str(target))
            return True

        return self._or_none("read", key, copy) or False

    def find(self, key: str) -> StoredFile | None:
        """Return what is known of an object; None if there is none."""
        found = self._or_none("find", key, lambda: self._files.info(self._path(key)))
        return None if found is None or found.get("type") != "file" else _stored(key, found)

    def list(self, folder: str) -> Iterator[StoredFile]:
        """Return the objects below a folder, in the order of their keys."""
        found = self._or_none("list", folder, lambda: self._files.find(self._path(folder), detail=True)) or {}
        for path in sorted(found):
            yield _stored(path.removeprefix(f"{self._root}/"), found[path])

    def remove(self, key: str) -> None:
        """Remove an object, if it exists."""
        self._or_none("remove", key, lambda: self._files.rm_file(self._path(key)))

    def rename(self, key: str, new: str) -> None:
        """Give an object another key, if it exists: it is copied, then removed."""
        self._or_none("rename", key, lambda: self._files.cp_file(self._path(key), self._path(new)))
        self.remove(key)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _created(self, key: str, write: Callable[[], object]) -> bool:
        def created() -> bool:
            try:
                write()
            except FileExistsError:
                return False
            except OSError as error:
                # "Precondition failed": there is an object of that name, perhaps from a try whose answer was lost.
                if error.errno in {errno.EEXIST, errno.EBADF} or _says_exists(error):
                    return False
                raise
            return True

        return self._patiently("write", key, created)

    def _or_none(self, verb: str, key: str, action: Callable[[], _Result]) -> _Result | None:
        def found() -> _Result | None:
            try:
                return action()
            except FileNotFoundError as error:
                if _says_no_bucket(error):
                    raise PermissionError(errno.EACCES, "there is no such bucket or container") from error
                return None

        return self._patiently(verb, key, found)

    def _patiently(self, verb: str, key: str, action: Callable[[], _Result]) -> _Result:
        try:
            return patiently(action)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            if is_worth_another_try(error):
                advice = "It was tried again for some time. Check that the store can be reached, then do this again"
            else:
                advice = f"Check IRP_FILES_URL and the credentials in the environment: {_HINTS[self._extra]}"
            raise StoreError(f"Cannot {verb} {key!r} in {self._url}: {said}. {advice}") from error


def _says_exists(error: BaseException) -> bool:
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in {"PreconditionFailed", "ConditionalRequestConflict"}


def _says_no_bucket(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"


def _stored(key: str, found: dict[str, Any]) -> StoredFile:
    changed = found.get("LastModified") or found.get("last_modified") or found.get("mtime")
    version = str(found.get("ETag") or found.get("etag") or found.get("md5Hash") or f"{found['size']}-{changed}")
    seconds = changed.timestamp() if isinstance(changed, datetime) else 0.0
    return StoredFile(key, int(found["size"]), seconds, version)
