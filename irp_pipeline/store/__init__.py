"""Where the files of cycles are kept: ``IRP_HOME/cycles``, a shared folder, or an object store (``IRP_FILES_URL``).

Here: publishing files there, fetching them, and what identifies the place. Not here: what the files are
(:mod:`irp_pipeline.cycle_files`), and which of them a step run wrote (:mod:`irp_pipeline.helpers.artefact`).
"""

from irp_pipeline.store.errors import StoreError
from irp_pipeline.store.identity import store_id

__all__ = ["StoreError", "store_id"]
