"""What Alembic runs: the migrations, on the connection (and inside the transaction) that `migrate` hands over."""

from __future__ import annotations

from alembic import context

from tutelage.store.database import VERSION_TABLE
from tutelage.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
