"""Workers: processes that take jobs from the queue and run them, on this machine or on others. No Dagster here.

``worker``
    one worker: slots, the queue, heartbeats, and its end.
``job``
    one job: begun, run, reported.
``presence``
    which workers there are, and what each does.
``secrecy``
    what the programs of jobs cannot see of their worker.
``__main__``
    the worker that starts by itself on one machine and ends when nothing waits.

The leases of jobs are :mod:`irp_pipeline.engines.leases`, the queue :mod:`irp_pipeline.queue`.
"""
