"""The tables of a schema, as Alembic revisions in ``versions/``: one file each, named by a number that only grows.

A revision is plain SQL without schema names, since the search path of the migrating transaction holds just the one
schema. Existing rows are kept by every revision, and none is ever changed after a release. Running them is for
:mod:`irp_pipeline.postgres.schemas`.
"""
