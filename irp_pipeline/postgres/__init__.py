"""PostgreSQL as everything above it sees it: connections, statements and their values, schemas.

Here belongs what is true of any statement in any schema. What the tables mean belongs in :mod:`irp_pipeline.helpers`.

``context``
    in which schema the caller works.
``connections``, ``cursors``
    where connections come from, and how each statement takes its schema along.
``transactions``, ``running``
    which connection a caller has and for how long; running statements.
``statements``, ``parameters``
    reading a statement, and what its values become.
``schemas``
    making, migrating and dropping a schema.
``errors``
    what a failure is called, and what the person who reads of it can do.
"""
