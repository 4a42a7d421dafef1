"""Plain Python over PostgreSQL: what notebooks, scripts and Dagster ops share.

Nothing here knows Dagster or the command line. Every function works in the schema that
:mod:`irp_pipeline.helpers.db_context` names, so none of them needs a ``schema`` argument.
"""
