"""The script that Alembic runs for each migration, on the caller's connection and in the caller's transaction."""

from alembic import context

given = context.config.attributes

context.configure(
    connection=given["connection"],
    version_table=given["version_table"],
    version_table_schema=given["schema"],
)
context.run_migrations()
