"""Plain Python over PostgreSQL: what notebooks, scripts and Dagster ops share.

Nothing here depends on Dagster or the command line. Every function works in the schema of
:mod:`irp_pipeline.helpers.db_context`, so none of them needs a ``schema`` argument.
"""
