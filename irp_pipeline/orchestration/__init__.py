"""All of Dagster: one module for each of its concepts, over the plain functions of :mod:`irp_pipeline.helpers`.

``partitions`` cycles · ``resources`` the database and its schema · ``tracking`` ops that are tracked steps · ``stages``
graphs of steps · ``jobs`` what can be launched · ``schedules`` and ``sensors`` what launches by itself · ``storage``,
``coordinator`` and ``launcher`` what ``dagster.yaml`` names. :mod:`irp_pipeline.definitions` puts them together.
"""
