-- What an inspection reads. No statement reads more of the table than it returns, except where it says so.

-- name: queues
-- Which queues there are (a loose scan of the index "claim", one step a queue), and which are paused.
SELECT names.queue, paused.paused_at
FROM (SELECT queue FROM {jobs} GROUP BY queue
      UNION SELECT queue FROM {queues}
      UNION SELECT queue FROM {bindings} WHERE exchange = '' AND routing_key = queue) AS names
LEFT JOIN {queues} AS paused ON paused.queue = names.queue
ORDER BY names.queue;

-- name: counts
-- How many jobs of a queue have each job_status, each up to a limit: of the index alone.
SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 0
                              LIMIT %(limit)s) AS counted) AS ready,
       (SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 2
                              LIMIT %(limit)s) AS counted) AS scheduled,
       (SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 4
                              LIMIT %(limit)s) AS counted) AS waiting,
       (SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 3
                              LIMIT %(limit)s) AS counted) AS dead,
       (SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 1
                              LIMIT %(limit)s) AS counted) AS dequeued;

-- name: claims
-- How many jobs of each queue are claimed.
SELECT queue, COUNT(*) FROM {jobs} WHERE owner IS NOT NULL AND job_status = 1 GROUP BY queue;

-- name: oldest
-- The age in seconds of the oldest ready job of each queue, among the first of each priority.
SELECT line.queue,
       MAX(TIMESTAMPDIFF(MICROSECOND, COALESCE(job.ready_at, job.created_at), NOW(6))) / 1000000
FROM (SELECT queue, MIN(id) AS id FROM {jobs} WHERE job_status = 0
      GROUP BY queue, job_status, claim_order) AS line
JOIN {jobs} AS job ON job.id = line.id
GROUP BY line.queue;

-- name: ended
-- Jobs that ended: per second in the last minute, and in total. The last minute is this calendar minute and
-- the part of the one before that is less than a minute ago.
SELECT queue,
       SUM(IF(minute > UTC_TIMESTAMP() - INTERVAL 2 MINUTE,
              ended * LEAST(60, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP() - INTERVAL 1 MINUTE,
                                              minute + INTERVAL 1 MINUTE)) / 60, 0)) / 60,
       SUM(ended)
FROM {throughput} GROUP BY queue;

-- name: consumers
-- Each consumer that is registered or has claims.
SELECT known.identity, listed.name, listed.queues, COALESCE(claimed.jobs, 0), listed.started_at
FROM (SELECT identity FROM {consumers}
      UNION SELECT owner FROM {jobs} WHERE owner IS NOT NULL) AS known
LEFT JOIN {consumers} AS listed ON listed.identity = known.identity
LEFT JOIN (SELECT owner, COUNT(*) AS jobs FROM {jobs} WHERE owner IS NOT NULL
           GROUP BY owner) AS claimed ON claimed.owner = known.identity
ORDER BY listed.name IS NULL, listed.name, known.identity;

-- name: message
SELECT message FROM {jobs} WHERE id = %(id)s;

-- name: open_transaction
-- The oldest transaction. Its beginning is in the server's own time zone, whatever the session's.
SELECT TIMESTAMPDIFF(SECOND, trx.trx_started, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')),
       trx.trx_mysql_thread_id, client.USER, client.HOST
FROM information_schema.INNODB_TRX AS trx
LEFT JOIN information_schema.PROCESSLIST AS client ON client.ID = trx.trx_mysql_thread_id
WHERE trx.trx_mysql_thread_id NOT IN (0, CONNECTION_ID())
ORDER BY trx.trx_started
LIMIT 1;

-- name: history_of_mysql
SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len';

-- name: history_of_mariadb
SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS
WHERE VARIABLE_NAME = 'INNODB_HISTORY_LIST_LENGTH';

-- The rest are parts of statements: columns, conditions, and orders.

-- name: ids
-- The last column is that of jobs, when a task is looked for.
SELECT job.id, CASE WHEN %(task)s IS NULL THEN FALSE
                    WHEN %(is_deep)s THEN TRUE ELSE %(is_pythons)s END
FROM {jobs} AS job

-- name: is_pythons
-- Whether a message may be JSON for Python but not for the server: it has NaN or Infinity in it, or nests more
-- deeply than MariaDB reads.
(NOT JSON_VALID(job.message) AND LTRIM(job.message) LIKE '{%%')

-- name: is_deep
-- Whether a message has so many brackets that it may nest too deeply for MySQL; never for MariaDB.
(CHAR_LENGTH(job.message) - CHAR_LENGTH(REPLACE(REPLACE(job.message, '[', ''), '{', '')) >= 100)

-- name: jobs
-- MySQL fails on JSON that nests more than 100 levels, even in JSON_VALID. It does not get what may: the last
-- column marks it, and JSON that only Python reads.
SELECT job.id, job.queue, job.job_status, job.owner,
       CASE WHEN %(is_deep)s THEN NULL WHEN JSON_VALID(job.message)
            THEN JSON_UNQUOTE(COALESCE(JSON_EXTRACT(job.message, '$.headers.task'),
                                       JSON_EXTRACT(job.message, '$.task'))) END,
       COALESCE(job.task_id, CASE WHEN %(is_deep)s THEN NULL WHEN JSON_VALID(job.message)
                                  THEN JSON_UNQUOTE(JSON_EXTRACT(job.message, '$.headers.id')) END),
       job.claim_order, job.deliveries, job.created_at, job.ready_at, job.due_at, job.expires_at,
       job.claimed_at, job.finished_at,
       COALESCE((SELECT name FROM {consumers} WHERE identity = job.owner), job.owner), job.reason,
       CASE WHEN %(is_deep)s THEN TRUE ELSE %(is_pythons)s END
FROM {jobs} AS job

-- name: with_id
WHERE job.id = %(sought)s

-- name: with_task_id
-- No index has it: this reads the whole table.
WHERE job.task_id = %(sought)s
   OR (job.task_id IS NULL
       AND CASE WHEN %(is_deep)s THEN LOCATE(%(sought)s, job.message) > 0
                WHEN JSON_VALID(job.message)
                THEN JSON_UNQUOTE(JSON_EXTRACT(job.message, '$.headers.id')) = %(sought)s
                ELSE %(is_pythons)s AND LOCATE(%(sought)s, job.message) > 0 END)
ORDER BY job.id

-- name: running
WHERE job.owner IS NOT NULL AND job.job_status = 1

-- name: selected
WHERE job.queue = %(queue)s AND job.job_status = %(job_status)s
  AND (%(seconds)s IS NULL OR job.created_at < NOW(6) - INTERVAL %(seconds)s SECOND)
  AND (%(task)s IS NULL
       OR CASE WHEN %(is_deep)s THEN LOCATE(%(task_in_json)s, job.message) > 0
               WHEN JSON_VALID(job.message)
               THEN JSON_UNQUOTE(COALESCE(JSON_EXTRACT(job.message, '$.headers.task'),
                                          JSON_EXTRACT(job.message, '$.task'))) = %(task)s
               ELSE %(is_pythons)s AND LOCATE(%(task_in_json)s, job.message) > 0 END)

-- name: in_line
-- In the order in which they are claimed.
ORDER BY job.claim_order, job.id
LIMIT %(limit)s

-- name: claimed
-- Claimed ones. Not in an index's order: there may be a million finished ones beside them.
AND job.owner IS NOT NULL
ORDER BY job.claimed_at
LIMIT %(limit)s

-- name: unowned
-- Those without an owner, the last in the index first.
AND job.owner IS NULL
ORDER BY job.claim_order DESC, job.id DESC
LIMIT %(limit)s

-- name: next_due
-- The scheduled jobs of some queues that are due next, among the first of all queues: in an index's order, and
-- bounded. Large messages are left out.
SELECT job.id, IF(OCTET_LENGTH(job.message) <= %(bytes)s, job.message, NULL), job.queue,
       job.task_id, job.claim_order, job.due_at, job.created_at
FROM (SELECT id FROM {jobs} FORCE INDEX (due)
      WHERE due_at >= '1000-01-01' AND job_status = 2
      ORDER BY due_at LIMIT %(most)s) AS next
JOIN {jobs} AS job ON job.id = next.id
WHERE job.queue IN %(queues)s
ORDER BY job.due_at, job.id
LIMIT %(limit)s;
