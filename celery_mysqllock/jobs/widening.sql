-- How the ids of a job table become BIGINT while programs use it.

-- name: type_of_id
SELECT data_type FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s AND column_name = 'id';

-- name: columns
SELECT column_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s ORDER BY ordinal_position;

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

-- name: last_id
SELECT MAX(id) FROM {jobs};

-- name: end_of_part
-- The last of the next so many rows.
SELECT MAX(id) FROM (SELECT id FROM {jobs} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) AS part;

-- name: copy
-- The rows from before. Locked, so that none of them ends between being read and being written; what
-- a trigger has written already is newer and stays.
INSERT IGNORE INTO {wide} (%(columns)s)
SELECT %(columns)s FROM {jobs} WHERE id > %(after)s AND id <= %(to)s LOCK IN SHARE MODE;

-- name: exchange
RENAME TABLE {jobs} TO {narrow}, {wide} TO {jobs};

-- name: drop_narrow
-- With its triggers.
DROP TABLE IF EXISTS {narrow};
