-- What migrate asks of a database, and how it adopts a table of the original three columns while programs use
-- it. LOCK=NONE: reads and writes go on, or the server refuses.

-- name: describe_table
SELECT table_type, COALESCE(engine, ''), COALESCE(row_format, ''), COALESCE(table_comment, '')
FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = %(table)s;

-- name: describe_columns
SELECT column_name, column_comment FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s;

-- name: describe_types
SELECT column_name, data_type, COALESCE(character_set_name, ''), extra, column_default
FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s
ORDER BY ordinal_position;

-- name: describe_keys
SELECT index_name, column_name FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = %(table)s
ORDER BY index_name, seq_in_index;

-- name: describe_routine
-- The procedure's comment, by which a release knows its own.
SELECT routine_comment FROM information_schema.routines
WHERE routine_schema = DATABASE() AND routine_name = %(routine)s;

-- name: users
-- Each consumer that is registered or has claims.
SELECT identity FROM {consumers} UNION SELECT owner FROM {jobs} WHERE owner IS NOT NULL;

-- name: take_over
-- From now on the table is known as ours, and the next run finishes what this one has begun.
ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 1';

-- name: lengthen_keys
-- In the old row formats no key is long enough for the name of a queue.
ALTER TABLE {jobs} ROW_FORMAT = DYNAMIC, LOCK = NONE;

-- name: queue_by_default
-- A row whose INSERT does not name job_status is queued.
ALTER TABLE {jobs} ALTER COLUMN job_status SET DEFAULT 0, LOCK = NONE;

-- name: add_wide
-- A message of any length and script needs another type, and a change of type would copy the table
-- while INSERTs wait. A second column takes the place of the first instead.
ALTER TABLE {jobs} ADD message_wide LONGTEXT CHARACTER SET utf8mb4 NULL AFTER id, LOCK = NONE;

-- name: fill_new
-- Every INSERT fills it from now on.
ALTER TABLE {jobs} ALTER COLUMN message_wide SET DEFAULT (message), LOCK = NONE;

-- name: last_id
SELECT COALESCE(MAX(id), 0) FROM {jobs};

-- name: end_of_part
-- The last of the next so many rows.
SELECT MAX(id) FROM (SELECT id FROM {jobs} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) AS part;

-- name: fill_old
-- The older rows, part by part, so that no other transaction waits for long.
UPDATE {jobs} SET message_wide = message
WHERE id > %(after)s AND id <= %(to)s AND message_wide IS NULL;

-- name: swap
ALTER TABLE {jobs}
    DROP COLUMN message,
    CHANGE message_wide message LONGTEXT CHARACTER SET utf8mb4 NULL,
    LOCK = NONE;

-- name: copy
-- MySQL before 8.0.13 has no default that is an expression. The server copies the table, and
-- INSERTs wait until it has.
ALTER TABLE {jobs} MODIFY message LONGTEXT CHARACTER SET utf8mb4 NULL;
