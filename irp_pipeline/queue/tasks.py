"""Tasks in the queue: each names a job by its schema and key.

Two installations may share a database and have their files apart. The full name of a queue begins with the name of the
place of the files, so that no worker takes jobs whose files it does not have.

Tasks are those of the schema of :mod:`irp_pipeline.postgres.context`, in the caller's transaction if there is one: what
is rolled back was never queued. Whoever takes a task still has to win the job itself, so a task may be there twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.running import execute_command, execute_scalar, fetch_all
from irp_pipeline.queue.names import DEFAULT_QUEUE, QUEUE_SCHEMA, check_queue
from irp_pipeline.store import store_id

TASK: Final = "irp_job"
"""The name of the only kind of task."""

# A worker that was killed leaves what it had taken. It counts as taken while its worker is heard of.
LIVE_TASKS: Final = """
    SELECT DISTINCT t.args ->> 'key' AS job_key
      FROM irp_queue.procrastinate_jobs t
      LEFT JOIN irp_queue.procrastinate_workers w ON w.id = t.worker_id
     WHERE t.args ->> 'schema' = %s
       AND (t.status = 'todo'
            OR t.status = 'doing' AND w.last_heartbeat > clock_timestamp() - interval '60 seconds')
"""
"""The keys of the jobs that wait in the queue, or were just taken from it; the placeholder is for the schema."""


def queue_name(name: str | None = None) -> str:
    """Return the full name of a queue of this installation.

    Args:
        name: what people call it; None: :data:`~irp_pipeline.queue.names.DEFAULT_QUEUE`.

    Raises:
        QueueError: it cannot be the name of a queue.
        StoreError: the place of the cycles' files cannot be reached.
    """
    return f"{queue_prefix()}{check_queue(DEFAULT_QUEUE if name is None else name)}"


def queue_prefix() -> str:
    """Return what the full names of all queues of this installation begin with."""
    return f"{store_id()}/"


def short_name(queue: str) -> str:
    """Return what people call a queue, from its full name."""
    return queue.rpartition("/")[2]


def enqueue(queues: Mapping[str, str]) -> None:
    """Put tasks into the queue.

    Args:
        queues: the name of the queue by the key of the job.
    """
    execute_scalar(
        f"""
        SELECT irp_queue.procrastinate_defer_jobs_v1(array_agg(
                   ROW (w.queue, '{TASK}', 0, NULL, NULL, jsonb_build_object('schema', %s, 'key', w.key), NULL)
                       ::irp_queue.procrastinate_job_to_defer_v1
                   ORDER BY w.place))
          FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w (key, queue, place)
        """,  # noqa: S608 - a constant
        (get_current_schema(), list(queues), list(queues.values())),
    )


def withdraw(keys: Collection[str] | None = None) -> None:
    """Take tasks that nobody has taken yet out of the queue.

    Args:
        keys: of these jobs; None: all of the schema.
    """
    execute_command(
        """
        DELETE FROM irp_queue.procrastinate_jobs
         WHERE status = 'todo' AND args ->> 'schema' = %s AND (%s::text[] IS NULL OR args ->> 'key' = ANY(%s))
        """,
        (get_current_schema(), *(2 * (None if keys is None else list(keys),))),
    )


def queues_with_work(store: str) -> list[str]:
    """Return the names of the queues of a store in which tasks wait."""
    rows = fetch_all(
        """
        SELECT DISTINCT queue_name FROM irp_queue.procrastinate_jobs
         WHERE status = 'todo' AND starts_with(queue_name, %s)
         ORDER BY queue_name
        """,
        (store,),
        QUEUE_SCHEMA,
    )
    return [row["queue_name"] for row in rows]


def release_abandoned() -> int:
    """Put back what workers had taken that are no longer heard of; return how many tasks.

    If the job had begun, whoever takes its task finds that out, and drops it.
    """
    return execute_command(
        """
        UPDATE irp_queue.procrastinate_jobs t
           SET status = 'todo', worker_id = NULL, abort_requested = false
         WHERE t.status = 'doing'
           AND NOT EXISTS (SELECT FROM irp_queue.procrastinate_workers w
                            WHERE w.id = t.worker_id
                              AND w.last_heartbeat > clock_timestamp() - interval '60 seconds')
        """,
        schema=QUEUE_SCHEMA,
    )
