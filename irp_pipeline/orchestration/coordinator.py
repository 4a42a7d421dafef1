"""The run coordinator that ``dagster.yaml`` names: one run at a time for each cycle of each schema.

Dagster can limit runs by tag but not by config, and the schema of a run is config. So this coordinator reads the schema
from the config of a submitted run, and tags the run. Runs that bypass the queue (``dagster job execute``) also bypass
this limit; then the leases of the steps decide. ``irp run`` bypasses the queue, but its run has the tag, so that the
queue counts it; :mod:`irp_pipeline.orchestration.occupancy` lets only one of two runs start.

https://docs.dagster.io/guides/operate/managing-concurrency
"""

import os
from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun, QueuedRunCoordinator, SubmitRunContext

from irp_pipeline.helpers.db_context import get_schema_from_env
from irp_pipeline.orchestration.internals import PARTITION_NAME_TAG

SCHEMA_TAG = "irp/schema"
LOCK_TAG = "irp/lock"
IN_TRAIL_TAG = "irp/in_trail"
"""Holds the id of a run whose command is in the audit trail; a run that was made from another one has that one's."""


class RunCoordinator(QueuedRunCoordinator):
    """Dagster's queue, with tags for the schema of a run and for the cycle that it has to itself."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run ``irp/schema`` and ``irp/lock``, and put it into the queue."""
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, run_tags(run.run_config, run.tags))
        # Imported here, since it loads dagster_postgres, which the definitions do not need.
        from irp_pipeline.orchestration.storage import sole_decision

        with sole_decision(self._instance):
            return super().submit_run(context)


def run_tags(run_config: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run in the queue.

    Args:
        run_config: the run's config, from which the schema is read.
        tags: the run's tags, from which the cycle is read.

    Returns:
        ``irp/schema``, and for a run of a cycle ``irp/lock``: ``<schema>/<cycle>``.
    """
    schema = schema_of_run(run_config)
    cycle = tags.get(PARTITION_NAME_TAG)
    return {SCHEMA_TAG: schema} | ({LOCK_TAG: f"{schema}/{cycle}"} if cycle else {})


def schema_of_run(run_config: Mapping[str, Any]) -> str:
    """Return the PostgreSQL schema that a run with this config works in."""
    config: Any = run_config
    for key in ("resources", "database", "config", "db_schema"):
        config = config.get(key) if isinstance(config, Mapping) else None
    if isinstance(config, Mapping) and "env" in config:
        config = os.environ.get(str(config["env"]))
    return config if isinstance(config, str) and config else get_schema_from_env()
