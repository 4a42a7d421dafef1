"""The queue of jobs, in PostgreSQL: tasks that wait until a worker takes them.

The queue is procrastinate's (https://procrastinate.readthedocs.io), in the schema ``irp_queue`` that all our schemas of
a database share. A task names a job and nothing more; everything else about the job is in its row of ``irp_job``.

``names``
    what people call the queues.
``schema``
    making the tables of the queue, and upgrading them.
``tasks``
    putting tasks into the queue and taking them out, in the caller's transaction; what is waiting.

The workers are in :mod:`irp_pipeline.workers`.
"""
