"""Search by words: the blocks of events that contain a word, the progress of indexing, the definition of a word."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = (
    # Without these characters, Postgres' parser finds no addresses, paths, tags and signed numbers: a word is a run of
    # letters and digits. Texts are separated by a letter that is practically never typed, so no phrase spans two texts.
    # A tsvector is limited to 1 MB, which is at most twice the text; of longer text, only the beginning is searchable.
    # The cost makes Postgres test other conditions first; a higher one would start workers for some hundred rows.
    r"""
    CREATE FUNCTION event_words(event_type text, message text, source text, details jsonb) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 20
    RETURN (
        SELECT to_tsvector('simple', CASE WHEN octet_length(texts) > 480000 THEN left(texts, 120000) ELSE texts END)
        FROM translate(
            concat_ws(' ' || chr(42606) || ' ', event_type, message, source, (
                SELECT string_agg(leaf #>> '{}', ' ' || chr(42606) || ' ')
                FROM jsonb_path_query(details, 'strict $.**?(@.type() == "string")') AS leaf
            )), '-+./@<&~', '        ') AS texts
    )
    """,
    # 24 bits: at most 16 million keys, and one block in thousands is read without a match.
    """
    CREATE FUNCTION word_hashes(words tsvector) RETURNS integer[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT DISTINCT hashtext(word) & 16777215 FROM unnest(tsvector_to_array(words)) AS word)
    """,
    # A block has the words of every event within these ids and times that existed when it was created.
    """
    CREATE TABLE search_blocks (
        first_id bigint NOT NULL,
        last_id bigint NOT NULL,
        min_ts timestamptz NOT NULL,
        max_ts timestamptz NOT NULL,
        words integer[] NOT NULL
    )
    """,
    "ALTER TABLE search_blocks ALTER COLUMN words SET STORAGE EXTERNAL",  # hashes do not compress
    "CREATE INDEX idx_search_blocks_words ON search_blocks USING gin (words)",
    "CREATE INDEX idx_search_blocks_max_ts ON search_blocks (max_ts, last_id)",
    # One row. Blocks cover the events that arrived up to (xid, id) and, of those that existed before, the events at or
    # after (older_ts, older_id); null means all of them.
    """
    CREATE TABLE search_progress (
        xid bigint NOT NULL,
        id bigint NOT NULL,
        older_ts timestamptz,
        older_id bigint
    )
    """,
    """
    INSERT INTO search_progress (xid, id, older_ts, older_id)
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, 9223372036854775807,
        (SELECT max("timestamp") FROM system_events),
        (SELECT 9223372036854775807 FROM system_events LIMIT 1)
    """,
    "INSERT INTO jobs (name) VALUES ('index')",
)

DOWN = (
    "DELETE FROM jobs WHERE name = 'index'",
    "DROP TABLE search_progress",
    "DROP TABLE search_blocks",
    "DROP FUNCTION word_hashes",
    "DROP FUNCTION event_words",
)


def upgrade() -> None:
    """Execute one statement at a time: a distributed Postgres accepts no more."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop the index; only the search uses it."""
    for statement in DOWN:
        op.execute(statement)
