"""The tables of a schema, as Alembic revisions in ``versions/``: one file for each, with a rising number as its name.

A revision is plain SQL without schema names, since the search path of the migrating transaction holds only that
schema. Every revision keeps existing rows, and no revision changes after a release.
:mod:`irp_pipeline.postgres.schemas` runs them.
"""
