"""All that a step worker imports, for Dagster's forkserver to import once.

Measured with 13 empty steps: 26 s with a fresh interpreter each, 11 s with dagster alone preloaded, 5 s with this. The
forkserver drops the ImportErrors of what it preloads; the test of this module does not.
"""

import importlib

import dagster_postgres
import fsspec.implementations.local
import psycopg2.extras
import sqlalchemy.dialects.postgresql.psycopg2
import upath.implementations.local

import irp_pipeline.orchestration.jobs
import irp_pipeline.orchestration.schedules
import irp_pipeline.orchestration.sensors
import irp_pipeline.orchestration.storage
from irp_pipeline.orchestration.internals import MODULES_OF_STEP_WORKER

for name in MODULES_OF_STEP_WORKER:
    importlib.import_module(name)
