"""Where the files of cycles are kept: ``IRP_HOME/cycles``, a shared folder, or an object store (``IRP_FILES_URL``).

Here: publishing files there, fetching them, and what identifies the place. Not here: what the files are
(:mod:`irp_pipeline.cycle_files`), and which of them a step run wrote (:mod:`irp_pipeline.helpers.artefact`).
"""

from irp_pipeline.store.errors import MissingFileError, StoreError
from irp_pipeline.store.identity import store_id
from irp_pipeline.store.job_files import END, LOG, fetch_job_file, publish_job_files, publish_job_log
from irp_pipeline.store.named import bring, bring_all, name_of_path, path_of_name, put
from irp_pipeline.store.published import (
    PUBLISHED,
    PublishedFile,
    exists,
    fetch,
    fetch_all,
    is_elsewhere,
    key_of,
    list_published,
    missing,
    publish,
    publish_all,
    remove,
)
from irp_pipeline.store.reach import Reach, reach

__all__ = [
    "END",
    "LOG",
    "PUBLISHED",
    "MissingFileError",
    "PublishedFile",
    "Reach",
    "StoreError",
    "bring",
    "bring_all",
    "exists",
    "fetch",
    "fetch_all",
    "fetch_job_file",
    "is_elsewhere",
    "key_of",
    "list_published",
    "missing",
    "name_of_path",
    "path_of_name",
    "publish",
    "publish_all",
    "publish_job_files",
    "publish_job_log",
    "put",
    "reach",
    "remove",
    "store_id",
]
