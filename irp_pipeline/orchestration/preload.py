"""All that a step worker imports, for Dagster's forkserver to import once.

Measured with 13 empty steps: 26 s with a fresh interpreter each, 11 s with dagster alone preloaded, 5 s with this. The
forkserver drops the ImportErrors of what it preloads; the test of this module does not.
"""

import dagster._cli.job
import dagster._core.instance.factory
import dagster._core.storage.local_compute_log_manager
import dagster._core.storage.root
import dagster._core.utility_ops
import dagster._core.workspace.autodiscovery
import dagster_postgres
import fsspec.implementations.local
import psycopg2.extras
import sqlalchemy.dialects.postgresql.psycopg2
import upath.implementations.local

import irp_pipeline.orchestration.jobs
import irp_pipeline.orchestration.schedules
import irp_pipeline.orchestration.sensors
import irp_pipeline.orchestration.storage
