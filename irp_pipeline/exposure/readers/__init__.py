"""Reading a source of exposure: CSV, Parquet and SQLite files, PostgreSQL and other databases.

All readers return batches of rows with the types of OED, and the place of each row for messages. The rows are not
checked here: see :mod:`irp_pipeline.exposure.validation`.
"""
