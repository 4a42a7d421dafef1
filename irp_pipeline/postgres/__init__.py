"""PostgreSQL for all layers above: connections, statements and their values, schemas.

This package contains what holds for any statement in any schema. What the tables mean belongs in
:mod:`irp_pipeline.helpers`.

``context``
    the schema in which the caller works.
``connections``, ``cursors``
    making connections, and sending the schema with each statement.
``transactions``, ``running``
    which connection a caller has and for how long; running statements.
``statements``, ``parameters``
    parsing a statement, and converting its values.
``schemas``
    making, migrating and dropping a schema.
``errors``
    errors for the person who can act on them.
"""
