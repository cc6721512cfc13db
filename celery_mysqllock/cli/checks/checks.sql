-- name: variables
-- All that is set.
SHOW GLOBAL VARIABLES

-- name: status
-- All that is counted.
SHOW GLOBAL STATUS

-- name: isolation
-- This session's isolation level, under its old name or its new one.
SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')

-- name: session_variables
-- What this session has of these.
SHOW SESSION VARIABLES WHERE Variable_name IN %(names)s

-- name: encryption
-- The cipher of this connection, empty when it is not encrypted.
SHOW SESSION STATUS LIKE 'Ssl_cipher'

-- name: clock
-- The server's time, in seconds since 1970.
SELECT UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6))

-- name: oldest_transaction
-- The age of the oldest open transaction in seconds. Needs the PROCESS privilege.
SELECT TIMESTAMPDIFF(SECOND, MIN(trx_started), NOW()) FROM information_schema.INNODB_TRX

-- name: sizes
-- What the server estimates of these tables.
SELECT TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH, INDEX_LENGTH
  FROM information_schema.TABLES
 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN %(tables)s AND TABLE_TYPE = 'BASE TABLE'
 ORDER BY TABLE_NAME

-- name: ids
-- The type of the job table's ids, and the next one as far as the server tells.
SELECT col.COLUMN_TYPE, COALESCE(tab.AUTO_INCREMENT, 0)
  FROM information_schema.COLUMNS AS col
  JOIN information_schema.TABLES AS tab
    ON tab.TABLE_SCHEMA = col.TABLE_SCHEMA AND tab.TABLE_NAME = col.TABLE_NAME
 WHERE col.TABLE_SCHEMA = DATABASE() AND col.TABLE_NAME = %(table)s AND col.COLUMN_NAME = 'id'

-- name: last_id
SELECT COALESCE(MAX(id), 0) FROM {jobs}

-- name: may_SELECT
-- Reads no row; of a whole table there is may_SELECT_all.
SELECT {column} FROM {table} WHERE FALSE

-- name: may_SELECT_all
SELECT * FROM {table} WHERE FALSE

-- name: may_INSERT
-- Stores no row.
INSERT INTO {table} ({column}) SELECT '' FROM DUAL WHERE FALSE

-- name: may_UPDATE
-- Changes no row.
UPDATE {table} SET {column} = NULL WHERE FALSE

-- name: may_DELETE
-- Deletes no row.
DELETE FROM {table} WHERE FALSE

-- name: users
-- Who is registered as a consumer, or has claims.
SELECT identity FROM {consumers} UNION SELECT owner FROM {jobs} WHERE owner IS NOT NULL

-- name: login_of
-- Whose session that is, where this user may know it.
SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID = %(id)s
