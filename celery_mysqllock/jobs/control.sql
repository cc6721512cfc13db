-- What a person does with jobs and queues. A job that a consumer has is touched by none of it.

-- name: retry
-- Dead jobs are queued again, or in the line of their key, as if they had never been delivered.
UPDATE {jobs}
SET job_status = IF(order_key IS NULL, 0, 4), deliveries = 0, recoveries = 0,
    reason = NULL, finished_at = NULL, claimed_at = NULL, started_at = NULL, deferred_since = NULL,
    expires_at = NULL, ready_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND job_status = 3;

-- name: discard
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY) WHERE j.id IN %(ids)s AND j.owner IS NULL;

-- name: move
UPDATE {jobs} SET queue = %(to)s
WHERE id IN %(ids)s AND owner IS NULL AND job_status <> 1 AND queue <> %(to)s;

-- name: move_queue
-- Some of all that waits in a queue.
UPDATE {jobs} SET queue = %(to)s
WHERE queue = %(queue)s AND job_status IN (0, 2, 4)
LIMIT 1000;

-- name: queues_of
SELECT DISTINCT queue FROM {jobs} WHERE id IN %(ids)s;

-- name: pause
-- One that is paused stays so since when it was.
INSERT INTO {queues} (queue, paused_at) VALUES (%(queue)s, CURRENT_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE paused_at = COALESCE(paused_at, VALUES(paused_at));

-- name: forget_bindings
-- A queue that has jobs, of whatever status, stays declared.
DELETE FROM {bindings}
WHERE queue = %(queue)s AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s);

-- name: forget_pause
DELETE FROM {queues}
WHERE queue = %(queue)s AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s);

-- name: forget_throughput
DELETE FROM {throughput}
WHERE queue = %(queue)s AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s);

-- name: resume
DELETE FROM {queues} WHERE queue = %(queue)s AND paused_at IS NOT NULL;
