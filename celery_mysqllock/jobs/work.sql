-- Which of many queues have something to take, in one statement.

-- name: named
-- The queues that a statement is about, one of these for each; see with_jobs. By the collation of the
-- tables' own columns, or the server would find their rows in no index.
SELECT %s COLLATE utf8mb4_bin AS queue

-- name: with_jobs
-- Those of the named queues that have a job to take. With a LIMIT in a subquery, and not EXISTS, which
-- the server may make into a join that reads all that is queued.
SELECT named.queue FROM (%(named)s) AS named
WHERE (SELECT 1 FROM {jobs} WHERE queue = named.queue AND job_status = 0 LIMIT 1) IS NOT NULL
  AND (SELECT paused_at FROM {queues} WHERE queue = named.queue) IS NULL

-- name: with_messages
-- Those of the named queues that have a message to take.
SELECT named.queue FROM (%(named)s) AS named
WHERE (SELECT 1 FROM {ephemeral_messages} WHERE queue = named.queue LIMIT 1) IS NOT NULL
