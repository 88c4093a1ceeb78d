"""Makes the tables of a PostgreSQL store, and brings those of a former version up to date."""

from __future__ import annotations

from exporter.errors import StoreCorruptError, StoreError, StoreVersionError
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database, DatabaseConnection, Transaction


def make_tables(database: Database) -> None:
    """Or bring them up to date. Raises StoreError. Replicas may run meanwhile: those of the former version
    refuse to write afterwards. Processes that start at the same time do so one after the other.
    """
    with database.transaction() as transaction:
        if stored_version(transaction, database.address) == schema.SCHEMA_VERSION:
            return
    with database.long_transaction(schema.LOCK) as connection:
        make_or_upgrade(connection, database.address)


def make_or_upgrade(connection: DatabaseConnection, address: str) -> None:
    """In the connection's transaction. Raises StoreError."""
    check_encoding(connection, address)
    version = stored_version(connection, address)
    if version == 0:
        row = connection.execute(schema.HAS_SCHEMA).fetchone()
        if row is None or not row[0]:
            connection.execute(f"CREATE SCHEMA {schema.SCHEMA}")
        connection.execute(schema.CREATE)
    elif version != schema.SCHEMA_VERSION:
        connection.execute(schema.LOCK_TABLES)
        for former in range(version, schema.SCHEMA_VERSION):
            connection.execute(schema.UPGRADES[former])
        connection.execute(schema.SET_FORMAT, (schema.SCHEMA_VERSION,))


def check_encoding(connection: DatabaseConnection, address: str) -> None:
    """Raises StoreError for a database that cannot hold every text."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"{address}: the database has the encoding {encoding}: make one with UTF8")


def stored_version(session: Transaction | DatabaseConnection, address: str) -> int:
    """Of the tables; 0 where there are none. Raises StoreError."""
    row = session.execute(schema.HAS_TABLES).fetchone()
    return check_version(session, address) if row and row[0] else 0


def check_version(session: Transaction | DatabaseConnection, address: str) -> int:
    """Raises StoreVersionError when the tables are those of a newer version."""
    row = session.execute(schema.GET_FORMAT).fetchone()
    version = int(row[0]) if row else 0
    if version < 1:
        raise StoreCorruptError(f"{address}: the tables in schema {schema.SCHEMA} were changed from outside")
    if version > schema.SCHEMA_VERSION:
        raise StoreVersionError(
            f"{address}: written by a newer version of this exporter (store version {version}, this one knows"
            f" {schema.SCHEMA_VERSION}): upgrade the exporter of this replica, too"
        )
    return version
