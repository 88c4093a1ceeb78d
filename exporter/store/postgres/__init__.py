"""The store for several replicas: a PostgreSQL database.

Needs psycopg (the extra ``postgres``): import it only where the configuration asks for this store. Must not
know what is counted, nor which replica shall poll what.
"""

from exporter.store.postgres.command_lock import PostgresCommandLock
from exporter.store.postgres.examine import examine_postgres
from exporter.store.postgres.past import PostgresPast
from exporter.store.postgres.rows import postgres_source, postgres_target
from exporter.store.postgres.store import PostgresStore

__all__ = [
    "PostgresCommandLock",
    "PostgresPast",
    "PostgresStore",
    "examine_postgres",
    "postgres_source",
    "postgres_target",
]
