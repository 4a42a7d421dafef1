"""What ops print: in ``IRP_HOME``, or, with ``IRP_FILES_URL``, in the store of files, where every machine reads it.

Dagster captures it in a file on the machine of the op. With a store, that file is copied there at the end of the op,
and meanwhile every few seconds; the UI then shows the logs of ops on any machine.

https://docs.dagster.io/deployment/oss/oss-instance-configuration#compute-log-storage
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from dagster import DagsterInstance

from irp_pipeline import store
from irp_pipeline.cycle_files import OF_DAGSTER
from irp_pipeline.files import appearing_when_whole, make_folder
from irp_pipeline.orchestration.internals import (
    IO_TYPE_EXTENSION,
    CloudStorageComputeLogManager,
    ComputeIOType,
    ConfigurableClass,
    ConfigurableClassData,
    LocalComputeLogManager,
)
from irp_pipeline.orchestration.storage import dagster_files
from irp_pipeline.store.finding import place_of_cycles
from irp_pipeline.store.place import Place

_log = logging.getLogger(__name__)
_UPLOAD_SECONDS: Final = 10


class ComputeLogs(LocalComputeLogManager):
    """What ops print, in files below ``IRP_HOME``; with ``IRP_FILES_URL`` it makes a :class:`StoredComputeLogs`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Any:
        """Make the log manager that the settings ask for."""
        if store.is_elsewhere():
            return StoredComputeLogs.from_config_value(inst_data, config_value)
        return cls(base_dir=_folder(), inst_data=inst_data)


class StoredComputeLogs(CloudStorageComputeLogManager[DagsterInstance], ConfigurableClass):
    """What ops print, in the store of files.

    Args:
        here: captures it on this machine.
        inst_data: how Dagster makes it again in another process.
    """

    def __init__(self, here: LocalComputeLogManager, inst_data: ConfigurableClassData | None) -> None:
        self._here, self._inst_data = here, inst_data

    @property
    def _place(self) -> Place:
        return place_of_cycles()  # each time anew: fsspec's objects do not survive a fork

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """How Dagster makes it again in another process."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the log manager."""
        return cls(LocalComputeLogManager(_folder()), inst_data)

    @property
    def local_manager(self) -> LocalComputeLogManager:
        """What captures on this machine."""
        return self._here

    @property
    def upload_interval(self) -> int | None:
        """How often a log that is being written is copied to the store, in seconds."""
        return _UPLOAD_SECONDS

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        """Delete the logs of an op, or of all ops below a prefix, here and in the store."""
        self._here.delete_logs(log_key=log_key, prefix=prefix)
        if log_key:
            for io_type in ComputeIOType:
                for partial in (True, False):
                    self._place.remove(_name(log_key, io_type, partial))
        elif prefix:
            for found in list(self._place.list("/".join((OF_DAGSTER, "logs", *prefix)))):
                self._place.remove(found.key)

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str | None:
        """Return None: a browser has no credentials for the store. The UI shows the text itself."""
        return None

    def display_path_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str:
        """Return the address of a log, for people."""
        return f"{self._place.address}/{_name(log_key, io_type, partial=False)}"

    def cloud_storage_has_logs(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> bool:
        """Return whether the store has a log."""
        return self._place.find(_name(log_key, io_type, partial)) is not None

    def upload_to_cloud_storage(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> None:
        """Copy a log to the store. If that fails it is said, and the op goes on: a log is no reason to fail."""
        path = self._path(log_key, io_type)
        if partial and not path.is_file():
            return
        try:
            make_folder(path.parent)
            path.touch()  # an op that printed nothing has ended, too
            self._place.put(path, _name(log_key, io_type, partial), replace=True)
        except (store.StoreError, OSError) as error:
            _log.warning("What an op printed is not in the store of files: %s", error)

    def download_from_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        """Copy a log to this machine, where Dagster reads it."""
        with appearing_when_whole(self._path(log_key, io_type, partial), durable=False) as target:
            self._place.get(_name(log_key, io_type, partial), target)

    def _path(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> Path:
        return Path(self._here.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type], partial=partial))


def _folder() -> str:
    return str(make_folder(dagster_files() / "logs"))


def _name(log_key: Sequence[str], io_type: ComputeIOType, partial: bool) -> str:
    end = f".{IO_TYPE_EXTENSION[io_type]}" + (".partial" if partial else "")
    return "/".join((OF_DAGSTER, "logs", *log_key)) + end
