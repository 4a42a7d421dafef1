"""Reading a source of exposure: CSV, Parquet and SQLite files, PostgreSQL and other databases.

Everything here ends in batches of rows typed as OED has them, with the place of each row for messages. What is read is
not judged here: see :mod:`irp_pipeline.exposure.validation`.
"""
