-- name: is_instrumented
-- Whether performance_schema keeps track of locks: it does by default on MySQL 8, not on MariaDB.
SELECT ENABLED = 'YES'
  FROM performance_schema.setup_instruments
 WHERE NAME = 'wait/lock/metadata/sql/mdl'

-- name: metadata_locks
-- Every named lock, who holds it and who waits for it. Fences are left out.
SELECT locks.OBJECT_NAME, threads.PROCESSLIST_ID, locks.LOCK_STATUS = 'GRANTED'
  FROM performance_schema.metadata_locks AS locks
  JOIN performance_schema.threads AS threads ON threads.THREAD_ID = locks.OWNER_THREAD_ID
 WHERE locks.OBJECT_TYPE = 'USER LEVEL LOCK'
   AND locks.OBJECT_NAME NOT LIKE 'mysqllock:fence:%%'

-- name: metadata_lock_info
-- Every named lock and who holds it, from MariaDB's plugin of that name.
SELECT TABLE_SCHEMA, THREAD_ID, 1
  FROM information_schema.METADATA_LOCK_INFO
 WHERE LOCK_TYPE = 'User lock'
   AND TABLE_SCHEMA NOT LIKE 'mysqllock:fence:%%'

-- name: sessions
-- All sessions that this user sees: all there are with the PROCESS privilege, else its own.
SELECT ID, USER, HOST, TIME, STATE, INFO
  FROM information_schema.PROCESSLIST
