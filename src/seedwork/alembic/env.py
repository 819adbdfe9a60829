"""Run migrations on the connection that `pulsaga_program.databases` hands over; one history of one database."""

from alembic import context

given = context.config.attributes
connection, is_ours = given["connection"], given["is_ours"]
context.configure(
    connection=connection,
    target_metadata=given["metadata"],
    version_table=given["version_table"],
    include_name=lambda name, kind, _parents: kind != "table" or is_ours(name),
    render_as_batch=connection.dialect.name == "sqlite",
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
