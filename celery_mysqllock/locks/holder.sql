-- name: session
-- User and host of a session. Without the PROCESS privilege only sessions of one's own user are
-- there. TIME is left out: the keep-alive sets it back, so it does not say since when.
SELECT USER, HOST
  FROM information_schema.PROCESSLIST
 WHERE ID = %(id)s

-- name: introduction
-- What a session that holds a lock tells of itself. Needs SELECT on performance_schema, and is
-- empty while that is off, as it is on MariaDB by default.
SELECT variable.VARIABLE_VALUE
  FROM performance_schema.threads AS thread
  JOIN performance_schema.user_variables_by_thread AS variable
    ON variable.THREAD_ID = thread.THREAD_ID
 WHERE thread.PROCESSLIST_ID = %(id)s
   AND variable.VARIABLE_NAME = 'mysqllock_holder'

-- name: attributes
-- What the client told when it logged in, for sessions of one's own user; no privilege is needed.
-- Empty while performance_schema is off.
SELECT ATTR_NAME, ATTR_VALUE
  FROM performance_schema.session_account_connect_attrs
 WHERE PROCESSLIST_ID = %(id)s
