-- What migrate asks of a database; how it adopts a table of the original three columns, and makes INT ids
-- BIGINT, while programs use the table. LOCK=NONE: reads and writes go on, or the server refuses.

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

-- name: ids
SELECT MIN(id), MAX(id) FROM {jobs};

-- name: end_of_part
-- The last of the next so many ids.
SELECT MAX(id) FROM (SELECT id FROM {jobs} WHERE id >= %(first)s ORDER BY id LIMIT %(limit)s) AS part;

-- name: users
-- Each consumer that is registered or has claims.
SELECT identity FROM {consumers} UNION SELECT owner FROM {jobs} WHERE owner IS NOT NULL;

-- The steps of an adoption.

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

-- name: fill_old
-- The older rows, part by part, so that no other transaction waits for long.
UPDATE {jobs} SET message_wide = message
WHERE id BETWEEN %(first)s AND %(last)s AND message_wide IS NULL;

-- name: swap
ALTER TABLE {jobs}
    DROP COLUMN message,
    CHANGE message_wide message LONGTEXT CHARACTER SET utf8mb4 NULL,
    LOCK = NONE;

-- name: copy
-- MySQL before 8.0.13 has no default that is an expression. The server copies the table, and
-- INSERTs wait until it has.
ALTER TABLE {jobs} MODIFY message LONGTEXT CHARACTER SET utf8mb4 NULL;

-- The steps to BIGINT ids.

-- name: type_of_id
SELECT data_type FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s AND column_name = 'id';

-- name: make
CREATE TABLE {wide} LIKE {jobs};

-- name: widen
ALTER TABLE {wide} MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT;

-- name: on_insert
CREATE TRIGGER {on_insert} AFTER INSERT ON {jobs} FOR EACH ROW
REPLACE INTO {wide} (%(columns)s) VALUES (%(values)s);

-- name: on_update
CREATE TRIGGER {on_update} AFTER UPDATE ON {jobs} FOR EACH ROW
REPLACE INTO {wide} (%(columns)s) VALUES (%(values)s);

-- name: on_delete
CREATE TRIGGER {on_delete} AFTER DELETE ON {jobs} FOR EACH ROW
DELETE FROM {wide} WHERE id = OLD.id;

-- name: copy_old
-- The older rows. They are locked, so that none is deleted between being read and being written. What a
-- trigger has written is newer, and stays.
INSERT IGNORE INTO {wide} (%(columns)s)
SELECT %(columns)s FROM {jobs} WHERE id BETWEEN %(first)s AND %(last)s LOCK IN SHARE MODE;

-- name: exchange
RENAME TABLE {jobs} TO {narrow}, {wide} TO {jobs};

-- name: drop_narrow
-- With its triggers.
DROP TABLE IF EXISTS {narrow};
