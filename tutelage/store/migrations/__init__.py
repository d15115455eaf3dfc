"""Alembic migrations, run by `store.database.migrate`; there is no alembic.ini."""
