"""The tables of the PostgreSQL store, and the SQL that reads and writes them.

They have a schema of their own, and every statement names it: behind a pooler in transaction mode nothing
that was set for a session holds. Job ids are bytes: they may hold a NUL, which PostgreSQL's texts cannot.
Texts sort by their bytes, so that an index outlives an upgrade of the system's collations. No foreign keys:
they would read the target's row once more for every row that a commit writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exporter.ledger import IDS_MASK

SCHEMA: Final = "metastudio_tts_exporter"
SCHEMA_VERSION: Final = 2
LOCK: Final = 0x4D545453
"""Of the transaction that makes or upgrades the tables (``MTTS``). With a second number: of a command."""

_TEXT: Final = 'text COLLATE "C" NOT NULL'

CREATE: Final = f"""
CREATE TABLE {SCHEMA}.format (
    single boolean PRIMARY KEY DEFAULT true CHECK (single), version integer NOT NULL
);
CREATE TABLE {SCHEMA}.targets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name {_TEXT} UNIQUE,
    scope {_TEXT} DEFAULT '',
    project_id {_TEXT} DEFAULT '',
    version bigint NOT NULL DEFAULT 0,
    holder {_TEXT} DEFAULT '',
    fence bigint NOT NULL DEFAULT 0,
    taking {_TEXT} DEFAULT '',
    taken_version bigint NOT NULL DEFAULT 0,
    baseline bigint, settled_until bigint, evicted_until bigint, history bigint, catching_up bigint,
    last_complete_poll bigint,
    buckets {_TEXT} DEFAULT '{{}}',
    totals_deleted_version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.jobs (
    target integer NOT NULL, created bigint NOT NULL, job_id bytea NOT NULL,
    state {_TEXT}, job_type {_TEXT}, tts_service_enum {_TEXT},
    text_length bigint NOT NULL, last_checked bigint NOT NULL,
    misses bigint NOT NULL, missing_since bigint NOT NULL, flags bigint NOT NULL,
    PRIMARY KEY (target, created, job_id)
) WITH (fillfactor = 80);
CREATE TABLE {SCHEMA}.totals (
    target integer NOT NULL,
    name {_TEXT}, job_type {_TEXT}, tts_service_enum {_TEXT}, detail {_TEXT},
    value bigint NOT NULL, version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (target, name, job_type, tts_service_enum, detail)
) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.minutes (
    target integer NOT NULL, minute bigint NOT NULL,
    job_type {_TEXT}, tts_service_enum {_TEXT}, state {_TEXT}, detail {_TEXT},
    jobs bigint NOT NULL, characters bigint NOT NULL, ids bigint, version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (target, minute, job_type, tts_service_enum, state, detail)
);
CREATE TABLE {SCHEMA}.label_sets (
    target integer NOT NULL, job_type {_TEXT}, tts_service_enum {_TEXT}, place bigint NOT NULL,
    PRIMARY KEY (target, job_type, tts_service_enum)
);
CREATE TABLE {SCHEMA}.breakers (credentials {_TEXT} PRIMARY KEY, state {_TEXT});
CREATE TABLE {SCHEMA}.claims (
    credentials {_TEXT} PRIMARY KEY, holder {_TEXT}, until timestamptz NOT NULL, refused boolean NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE {SCHEMA}.replicas (
    id {_TEXT} PRIMARY KEY, expires timestamptz NOT NULL, targets text[] NOT NULL,
    seconds double precision NOT NULL
) WITH (fillfactor = 50);
INSERT INTO {SCHEMA}.format (version) VALUES ({SCHEMA_VERSION});
"""
# Of a target: `fence` counts how often it was taken, `taken_version` is its version when that happened last,
# `taking` a word that no other taking has, and `holder` is the replica that took it, empty once it was
# released. Of a replica: for how many `seconds` it renews its leases. `totals_deleted_version` is its
# version when totals were deleted last; a total and a minute have the version that wrote them.

UPGRADES: Final[dict[int, str]] = {
    1: f"""
ALTER TABLE {SCHEMA}.targets ADD COLUMN taking {_TEXT} DEFAULT '';
ALTER TABLE {SCHEMA}.replicas ADD COLUMN seconds double precision NOT NULL DEFAULT 0;
ALTER TABLE {SCHEMA}.replicas ALTER COLUMN seconds DROP DEFAULT;
""",
}
"""From each former version to the next."""

HAS_SCHEMA: Final = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"
HAS_TABLES: Final = (
    f"SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename = 'format')"
)
"""Not by a cast to ``regclass``: a session remembers a name that was not there, for the whole transaction."""
GET_FORMAT: Final = f"SELECT version FROM {SCHEMA}.format"
SET_FORMAT: Final = f"UPDATE {SCHEMA}.format SET version = %s"
_TABLES: Final = ("targets", "jobs", "totals", "minutes", "label_sets", "breakers", "replicas", "claims")
LOCK_TABLES: Final = f"LOCK TABLE {', '.join(f'{SCHEMA}.{table}' for table in _TABLES)}"
"""All but ``format``, in the order in which others lock them: targets before replicas."""

MAY_CREATE: Final = f"""
SELECT CASE WHEN EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')
    THEN (SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')
        FROM pg_namespace WHERE nspname = '{SCHEMA}')
    ELSE has_database_privilege(current_database(), 'CREATE') END
"""
MAY_UPGRADE: Final = f"""
SELECT bool_and(pg_has_role(tableowner, 'USAGE')) FROM pg_tables WHERE schemaname = '{SCHEMA}'
"""
HAS_RIGHTS: Final = f"""
SELECT bool_and(has_table_privilege(pg_class.oid, needed))
FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed,
    pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = '{SCHEMA}' AND relkind = 'r'
"""

_ALIVE: Final = """
expires BETWEEN clock_timestamp() AND clock_timestamp() + 2 * seconds * interval '1 s'
"""
"""A lease that is not over. One that seems to last much longer than any was given before the database's clock
was set back: without the second bound it would keep the targets of a dead replica for as long.
"""

ADD_TARGET: Final = f"INSERT INTO {SCHEMA}.targets (name) VALUES (%s) ON CONFLICT DO NOTHING"
LOCK_TARGET: Final = f"""
SELECT id, fence, version, taken_version, scope, holder, EXISTS (
    SELECT FROM {SCHEMA}.replicas WHERE replicas.id = holder AND {_ALIVE}
)
FROM {SCHEMA}.targets WHERE name = %s FOR UPDATE OF targets
"""
"""Waits for a commit under way."""
TAKE_TARGET: Final = (
    f"UPDATE {SCHEMA}.targets SET fence = fence + 1, taken_version = version, taking = %s, holder = %s"
    " WHERE id = %s"
)


def _rows(kind: str, types: str) -> str:
    """Rows out of one array a column: the parameters ``kind_0``, ``kind_1`` and so on."""
    arrays = (f"%({kind}_{number})s::{name}[]" for number, name in enumerate(types.split()))
    return f"unnest({', '.join(arrays)})"


# A commit is one statement, so that no process that stops in the middle of it holds locks. (The server's
# `idle_in_transaction_session_timeout` does not end a session whose pipeline ended with a Flush message, as
# psycopg's do.) Where `held` finds no row, none of the others writes any.
_HELD: Final = f"""
held AS (
    UPDATE {SCHEMA}.targets SET version = version + 1, scope = %(scope)s, project_id = %(project_id)s,
        baseline = %(baseline)s, settled_until = %(settled_until)s, evicted_until = %(evicted_until)s,
        history = %(history)s, catching_up = %(catching_up)s, last_complete_poll = %(last_complete_poll)s,
        buckets = %(buckets)s,
        totals_deleted_version = CASE WHEN %(drops_totals)s THEN version + 1 ELSE totals_deleted_version END
    WHERE id = %(id)s AND version = %(version)s AND fence = %(fence)s AND taking = %(taking)s
        AND holder = %(holder)s AND (SELECT version FROM {SCHEMA}.format) = %(format)s
    RETURNING id, version
)"""
# The taking as well: after a promotion of a standby that had lost the latest ones, fences come again. And the
# holder, which is empty once the target was released.
_PARTS: Final = {
    "evicted": f"""
evicted AS (
    DELETE FROM {SCHEMA}.jobs USING held, {_rows("evicted", "bytea bigint")} AS gone (job_id, created)
    WHERE jobs.target = held.id AND jobs.created = gone.created AND jobs.job_id = gone.job_id
)""",
    "jobs": f"""
put_jobs AS (
    INSERT INTO {SCHEMA}.jobs (target, job_id, created, state, job_type, tts_service_enum, text_length,
        last_checked, misses, missing_since, flags)
    SELECT held.id, job.*
    FROM held, {_rows("jobs", "bytea bigint text text text bigint bigint bigint bigint bigint")} AS job
    ON CONFLICT (target, created, job_id) DO UPDATE SET state = excluded.state, job_type = excluded.job_type,
        tts_service_enum = excluded.tts_service_enum, text_length = excluded.text_length,
        last_checked = excluded.last_checked, misses = excluded.misses,
        missing_since = excluded.missing_since, flags = excluded.flags
)""",
    "totals": f"""
put_totals AS (
    INSERT INTO {SCHEMA}.totals (target, name, job_type, tts_service_enum, detail, value, version)
    SELECT held.id, total.*, held.version
    FROM held, {_rows("totals", "text text text text bigint")} AS total
    ON CONFLICT (target, name, job_type, tts_service_enum, detail)
    DO UPDATE SET value = excluded.value, version = excluded.version
)""",
    "totals_deleted_version": f"""
delete_totals AS (
    DELETE FROM {SCHEMA}.totals USING held
    WHERE target = held.id AND (name, job_type, tts_service_enum, detail)
        IN (SELECT * FROM {_rows("totals_deleted_version", "text text text text")})
)""",
    "minutes": f"""
add_minutes AS (
    INSERT INTO {SCHEMA}.minutes
        (target, minute, job_type, tts_service_enum, state, detail, jobs, characters, ids, version)
    SELECT held.id, added.*, held.version
    FROM held, {_rows("minutes", "bigint text text text text bigint bigint bigint")} AS added
    ON CONFLICT (target, minute, job_type, tts_service_enum, state, detail)
    DO UPDATE SET jobs = minutes.jobs + excluded.jobs, characters = minutes.characters + excluded.characters,
        ids = (minutes.ids + excluded.ids) & {IDS_MASK}, version = excluded.version
)""",
    "label_sets": f"""
put_label_sets AS (
    INSERT INTO {SCHEMA}.label_sets (target, job_type, tts_service_enum, place)
    SELECT held.id, job_type, tts_service_enum,
        number + (SELECT coalesce(max(place), 0) FROM {SCHEMA}.label_sets WHERE target = held.id)
    FROM held, {_rows("label_sets", "text text")}
        WITH ORDINALITY AS added (job_type, tts_service_enum, number)
    ON CONFLICT (target, job_type, tts_service_enum) DO NOTHING
)""",
}
_PRUNED: Final = f"""
pruned AS (DELETE FROM {SCHEMA}.minutes USING held WHERE target = held.id AND minute < %(first_minute)s)
SELECT count(*), set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) FROM held
"""


def commit_statement(kinds: Iterable[str]) -> str:
    """Writes these kinds of rows. Its result is the number of targets that were held: 1, or 0 and nothing is
    changed. A commit that returned survives a crash of the server, as in SQLite, whatever its setting is.
    """
    return f"WITH {','.join([_HELD, *(_PARTS[kind] for kind in kinds), _PRUNED])}"


GET_TARGET: Final = f"""
SELECT project_id, version, baseline, settled_until, evicted_until, history, catching_up, last_complete_poll,
    buckets
FROM {SCHEMA}.targets WHERE id = %s
"""
FIND_TARGET: Final = f"SELECT id, scope FROM {SCHEMA}.targets WHERE name = %s AND version > 0"
GET_JOBS: Final = f"""
SELECT job_id, created, state, job_type, tts_service_enum, text_length, last_checked, misses, missing_since,
    flags
FROM {SCHEMA}.jobs WHERE target = %s ORDER BY created, job_id
"""
GET_OPEN_JOBS: Final = GET_JOBS.replace("ORDER BY", "AND state = ANY (%s) ORDER BY")
GET_TOTALS: Final = f"""
SELECT name, job_type, tts_service_enum, detail, value FROM {SCHEMA}.totals WHERE target = %s
"""
GET_NEW_TOTALS: Final = f"{GET_TOTALS} AND version > %s"
GET_LABEL_SETS: Final = f"""
SELECT job_type, tts_service_enum FROM {SCHEMA}.label_sets WHERE target = %s ORDER BY place
"""
GET_MINUTES: Final = f"""
SELECT minute, job_type, tts_service_enum, state, jobs FROM {SCHEMA}.minutes
WHERE target = %s AND minute >= %s
"""
GET_NEW_MINUTES: Final = f"""
SELECT minute, job_type, tts_service_enum, state, jobs FROM {SCHEMA}.minutes
WHERE target = %(target)s AND minute IN (
    SELECT minute FROM {SCHEMA}.minutes
    WHERE target = %(target)s AND minute >= %(first)s AND version > %(since)s
)
"""
"""All of each minute in which anything changed."""
GET_TAKING: Final = f"SELECT taking, totals_deleted_version FROM {SCHEMA}.targets WHERE id = %s"
GET_MINUTES_OF: Final = f"""
SELECT minute, job_type, tts_service_enum, state, detail, jobs, characters, ids FROM {SCHEMA}.minutes
WHERE target = %s AND minute >= %s AND minute < %s
"""
GET_OPEN_JOBS_OF: Final = GET_OPEN_JOBS.replace("ORDER BY", "AND created >= %s AND created < %s ORDER BY")

GET_BREAKERS: Final = f"SELECT credentials, state FROM {SCHEMA}.breakers"
PUT_BREAKERS: Final = f"""
INSERT INTO {SCHEMA}.breakers (credentials, state) SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (credentials) DO UPDATE SET state = excluded.state
"""
DELETE_BREAKERS: Final = f"DELETE FROM {SCHEMA}.breakers WHERE credentials = ANY (%s)"

TAKE_CLAIM: Final = f"""
INSERT INTO {SCHEMA}.claims AS former (credentials, holder, until, refused)
VALUES (%(credentials)s, %(replica)s, clock_timestamp() + %(seconds)s * interval '1 s', false)
ON CONFLICT (credentials) DO UPDATE SET holder = excluded.holder, until = excluded.until, refused = false
WHERE former.until NOT BETWEEN clock_timestamp() AND clock_timestamp() + %(longest)s * interval '1 s'
    OR (former.holder = excluded.holder AND NOT former.refused)
RETURNING 1
"""
CLAIM_REFUSED: Final = f"""
SELECT extract(epoch FROM until - clock_timestamp())::float FROM {SCHEMA}.claims
WHERE credentials = %(credentials)s AND refused
"""
END_CLAIM: Final = f"""
UPDATE {SCHEMA}.claims SET until = clock_timestamp() + %(seconds)s * interval '1 s', refused = %(seconds)s > 0
WHERE credentials = %(credentials)s AND holder = %(replica)s AND NOT refused
"""

RENEW: Final = f"""
WITH forgotten AS (
    DELETE FROM {SCHEMA}.replicas WHERE expires < clock_timestamp() - interval '1 day' AND id != %(replica)s
)
INSERT INTO {SCHEMA}.replicas (id, expires, targets, seconds)
VALUES (%(replica)s, clock_timestamp() + %(seconds)s * interval '1 s', %(targets)s, %(seconds)s)
ON CONFLICT (id)
DO UPDATE SET expires = excluded.expires, targets = excluded.targets, seconds = excluded.seconds
"""
GET_REPLICAS: Final = f"""
SELECT id, targets, ARRAY(
    SELECT objid::int FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK} AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted
)
FROM {SCHEMA}.replicas WHERE {_ALIVE}
"""
"""With the numbers of commands' locks, the same in each row: one statement is one wait for the server."""
GET_HOLDERS: Final = f"SELECT name, holder, version FROM {SCHEMA}.targets"
TAKE_COMMAND_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s, %s)"
GET_LONGEST_LEASE: Final = f"SELECT coalesce(max(seconds), 0) FROM {SCHEMA}.replicas WHERE {_ALIVE}"
RELEASE: Final = f"UPDATE {SCHEMA}.targets SET holder = '' WHERE holder = %s AND name = ANY (%s)"
RELEASE_ALL: Final = f"UPDATE {SCHEMA}.targets SET holder = '' WHERE holder = %s"
RESIGN: Final = f"DELETE FROM {SCHEMA}.replicas WHERE id = %s"
