"""The identity of the place where the files of cycles are: a UUID in its root, made once."""

from __future__ import annotations

import json
import uuid
from typing import Final

from irp_pipeline import settings
from irp_pipeline.store.errors import StoreError
from irp_pipeline.store.finding import place_of_cycles

IDENTITY: Final = "store.json"
"""The file with the identity, in the root."""

_known: dict[str, str] = {}


def store_id() -> str:
    """Return the identity of the place where the files of cycles are; the first caller makes it.

    Installations that share the files of cycles have the same, and no others: it is a random UUID, kept in
    ``store.json`` in the root of ``IRP_FILES_URL``, else of ``IRP_HOME/cycles``. Safe for any number of callers on any
    number of machines at once. A process asks the store once.

    Returns:
        32 hexadecimal digits.

    Raises:
        StoreError: the store cannot be reached or written, or its ``store.json`` is not one of ours.
        SettingsError: ``IRP_FILES_URL`` or ``IRP_HOME`` cannot be used.
    """
    place = place_of_cycles()
    if place.address not in _known:
        if settings.files_url() is None:
            settings.make_irp_home()
        content = place.read(IDENTITY)
        if content is None:
            place.create(IDENTITY, json.dumps({"id": uuid.uuid4().hex}).encode())
            content = place.read(IDENTITY) or b""  # that of whoever was first
        _known[place.address] = _identity(content, f"{place.address}/{IDENTITY}")
    return _known[place.address]


def _identity(content: bytes, place: str) -> str:
    try:
        return uuid.UUID(json.loads(content)["id"]).hex
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{place} does not hold the identity of a store of cycles' files. If another program wrote it, name "
            "another place in IRP_FILES_URL; else restore the file from a backup"
        ) from None
