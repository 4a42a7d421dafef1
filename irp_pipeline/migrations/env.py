"""What Alembic runs for each migration: it uses the connection and the transaction that it is given."""

from alembic import context

given = context.config.attributes

context.configure(
    connection=given["connection"],
    version_table=given["version_table"],
    version_table_schema=given["schema"],
)
context.run_migrations()
