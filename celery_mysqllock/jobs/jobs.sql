-- Every statement on the job table, each in a named block.
-- {jobs} is the table; values are %(name)s parameters. Ages count from the server's clock.

-- name: put_and_find_sleeper
-- Store one message, and find the connection of a consumer that sleeps and can be rung.
INSERT INTO {jobs} (message, queue, claim_order, task_id, unique_key, expires_at)
VALUES (%(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(unique_key)s,
        UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND);
SELECT COALESCE(IS_USED_LOCK(%(bell0)s), IS_USED_LOCK(%(bell1)s), IS_USED_LOCK(%(bell2)s),
                IS_USED_LOCK(%(bell3)s), IS_USED_LOCK(%(bell4)s), IS_USED_LOCK(%(bell5)s),
                IS_USED_LOCK(%(bell6)s), IS_USED_LOCK(%(bell7)s));

-- name: put_and_find_sweeper
-- Store one message that is not due for a while, and find the connection of the sweeper, which
-- sleeps until the next one is due.
INSERT INTO {jobs} (message, queue, claim_order, task_id, unique_key, job_status, due_at, expires_at)
VALUES (%(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(unique_key)s, 2,
        UTC_TIMESTAMP(6) + INTERVAL %(delay)s SECOND,
        UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND);
SELECT IS_USED_LOCK(%(sweeper)s);

-- name: find_unique
-- The job that has the key, and whether it has it for no reason any more: nobody has claimed it since
-- it expired, or somebody has changed it by hand.
SELECT id, task_id, created_at, job_status,
       job_status = 3 OR finished_at IS NOT NULL
       OR (job_status = 1 AND LEFT(unique_key, 7) = 'queued:')
       OR (job_status <> 1 AND COALESCE(expires_at <= UTC_TIMESTAMP(6), FALSE))
FROM {jobs}
WHERE unique_key = %(unique_key)s;

-- name: free_unique
-- Take the key from the job that find_unique has found, unless the job has changed.
UPDATE {jobs} SET unique_key = NULL
WHERE id = %(holder)s AND unique_key = %(unique_key)s AND job_status = %(holder_status)s;

-- name: find_unique_of
-- Jobs of these tasks that wait and have a key. The tasks' ids have no index, the keys have one.
SELECT id FROM {jobs}
WHERE unique_key IS NOT NULL AND task_id IN %(task_ids)s AND job_status <> 1;

-- name: free_unique_of
-- Take their keys, unless they have been claimed meanwhile.
UPDATE {jobs} SET unique_key = NULL WHERE id IN %(ids)s AND job_status <> 1;

-- name: change_nothing
-- No row, no commit to wait for; but an error where the server takes no writes.
UPDATE {jobs} SET id = id WHERE FALSE;

-- name: lock_oldest
-- The first jobs in line that no other consumer is claiming just now, locked until the commit.
-- One queue a statement, and in the index's direction: anything else locks more than it takes.
SELECT id, message, queue, deliveries, created_at, task_id, expires_at <= UTC_TIMESTAMP(6)
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
ORDER BY claim_order, id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: mark_claimed
-- Make the locked jobs the owner's. A key for as long as a job is queued is free from here on.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = deliveries + 1,
    unique_key = IF(LEFT(unique_key, 7) = 'queued:', NULL, unique_key)
WHERE id IN %(ids)s;

-- name: find_oldest
-- The first jobs in line, unlocked: candidates for take_queued on servers without SKIP LOCKED.
SELECT id
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
ORDER BY claim_order, id
LIMIT %(limit)s;

-- name: take_queued
-- Compare and set: of the candidates, the owner gets those that are still queued. A key for as long
-- as a job is queued is free from here on.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = deliveries + 1,
    unique_key = IF(LEFT(unique_key, 7) = 'queued:', NULL, unique_key)
WHERE id IN %(ids)s AND job_status = 0;

-- name: read_taken
-- Which of the candidates take_queued got.
SELECT id, message, queue, deliveries - 1, created_at, task_id,
       expires_at <= UTC_TIMESTAMP(6)
FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1
ORDER BY claim_order, id;

-- name: ack
-- Done: the rows go. The owner is the fence: a job that was given to somebody else stays.
DELETE FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: finish
-- Done, with retention: the rows stay as dequeued ones that are finished.
UPDATE {jobs}
SET owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: release
-- Back to the queue, in the place that the id gives.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: unclaim
-- As release, for jobs that no consumer has seen: their delivery does not count.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL, deliveries = deliveries - 1
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: place
-- Where the job belongs: another queue, or the scheduled ones. It has not been delivered.
UPDATE {jobs}
SET queue = %(queue)s, claim_order = COALESCE(%(claim_order)s, claim_order),
    job_status = IF(%(delay)s IS NULL, 0, 2),
    due_at = UTC_TIMESTAMP(6) + INTERVAL %(delay)s SECOND,
    owner = NULL, claimed_at = NULL, deliveries = GREATEST(deliveries, 1) - 1
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: bury
-- Dead: kept for a person, with the reason. A dead job gets a better reason in the same way.
UPDATE {jobs}
SET job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL,
    reason = %(reason)s
WHERE id = %(id)s AND (job_status = 3 OR (owner = %(owner)s AND job_status = 1));

-- name: bury_worn_out_claims_of
-- What a dead consumer had claimed and has been delivered too often: likely what kills them.
UPDATE {jobs}
SET job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL,
    reason = %(reason)s
WHERE owner = %(owner)s AND job_status = 1 AND deliveries >= %(max_deliveries)s;

-- name: release_claims_of
-- All that a dead consumer had claimed goes back to the queue.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL
WHERE owner = %(owner)s AND job_status = 1;

-- name: release_others
-- What the owner has claimed goes back, save the jobs that it knows of.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL
WHERE owner = %(owner)s AND job_status = 1 AND id NOT IN %(kept)s;

-- name: queues_of
-- The queues that a consumer has claims from.
SELECT DISTINCT queue FROM {jobs} WHERE owner = %(owner)s AND job_status = 1;

-- name: queues_with
-- The queues that these jobs are in.
SELECT DISTINCT queue FROM {jobs} WHERE id IN %(ids)s;

-- name: find_due
-- Scheduled jobs whose time has come.
SELECT id, queue FROM {jobs}
WHERE due_at <= UTC_TIMESTAMP(6) AND job_status = 2
ORDER BY due_at
LIMIT 500;

-- name: promote
-- They are queued now.
UPDATE {jobs} SET job_status = 0, due_at = NULL WHERE id IN %(ids)s AND job_status = 2;

-- name: look
-- All that the sweeper acts on, in one statement: when the next scheduled job is due; the queues in
-- which jobs wait (a loose scan of the index "claim", one step a queue); and who has claims or
-- ephemeral queues.
SELECT 'due', NULL, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due_at)) / 1000000
FROM {jobs} WHERE due_at IS NOT NULL
UNION ALL
SELECT 'ready', queue, NULL FROM {jobs} WHERE job_status = 0 GROUP BY queue
UNION ALL
SELECT DISTINCT 'owner', owner, NULL FROM {jobs} WHERE owner IS NOT NULL
UNION ALL
SELECT DISTINCT 'owner', owner, NULL FROM {ephemeral_queues} WHERE owner IS NOT NULL;

-- name: remove_finished
-- Retention is over for some of the finished jobs.
DELETE FROM {jobs}
WHERE job_status = 1 AND finished_at < CURRENT_TIMESTAMP(6) - INTERVAL %(seconds)s SECOND
LIMIT 1000;

-- name: count_ready
-- How many jobs of the queue wait.
SELECT COUNT(*) FROM {jobs} WHERE queue = %(queue)s AND job_status = 0;

-- name: purge
-- Delete some waiting jobs of the queue; repeated until there are none, so that no statement
-- locks the table for long.
DELETE FROM {jobs} WHERE queue = %(queue)s AND job_status IN (0, 2) LIMIT 5000;

-- name: describe_table
-- The table's comment, which holds its version; no row when there is no such table.
SELECT table_comment FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = %(table)s;

-- name: describe_routine
-- What a procedure does; NULL for who may not know.
SELECT routine_definition FROM information_schema.routines
WHERE routine_schema = DATABASE() AND routine_name = %(routine)s;
