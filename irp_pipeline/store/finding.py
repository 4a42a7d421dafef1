"""Which place for files the environment or an address names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from irp_pipeline import settings
from irp_pipeline.store.folder import Folder
from irp_pipeline.store.objects import Objects
from irp_pipeline.store.place import Place


def place_of_cycles() -> Place:
    """Return the place where the files of cycles are: ``IRP_FILES_URL``, else ``IRP_HOME/cycles``.

    Raises:
        SettingsError: ``IRP_FILES_URL`` or ``IRP_HOME`` cannot be used.
        StoreError: the library for this kind of address is not installed.
    """
    url = settings.files_url()
    return Folder(settings.cycles_root()) if url is None else place_at(url)


def place_at(url: str) -> Place:
    """Return the place at an address, such as ``file:///mnt/share`` or ``s3://bucket/prefix``.

    Raises:
        StoreError: the library for this kind of address is not installed.
    """
    parts = urlsplit(url)
    return Folder(Path(unquote(parts.path))) if parts.scheme == "file" else Objects(url)
