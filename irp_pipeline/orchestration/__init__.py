"""All code that uses Dagster: a module for each concept, over the plain functions of :mod:`irp_pipeline.helpers`.

``partitions`` cycles · ``resources`` the database and its schema · ``tracking`` ops that are tracked steps · ``stages``
graphs of steps · ``jobs`` what users launch · ``schedules`` and ``sensors`` what runs automatically · ``storage``,
``coordinator`` and ``launcher`` the classes named in ``dagster.yaml``. :mod:`irp_pipeline.definitions` combines them.
"""
