-- Every statement on the job table, each in a named block.
-- {jobs} is the table; values are %(name)s parameters. Times are the server's.

-- name: put
-- Store one message as queued. Other columns take their defaults.
INSERT INTO {jobs} (message, queue, claim_order)
VALUES (%(message)s, %(queue)s, %(claim_order)s);

-- name: lock_oldest
-- The first jobs in line that no other consumer is claiming just now, locked until the commit.
-- One queue a statement, and in the index's direction: anything else locks more than it takes.
SELECT id, message, queue, deliveries
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
ORDER BY claim_order, id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: mark_claimed
-- Make the locked jobs the owner's.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = deliveries + 1
WHERE id IN %(ids)s;

-- name: find_oldest
-- The first jobs in line, unlocked: candidates for take_queued on servers without SKIP LOCKED.
SELECT id
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
ORDER BY claim_order, id
LIMIT %(limit)s;

-- name: take_queued
-- Compare and set: of the candidates, the owner gets those that are still queued.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = deliveries + 1
WHERE id IN %(ids)s AND job_status = 0;

-- name: read_taken
-- Which of the candidates take_queued got.
SELECT id, message, queue, deliveries - 1
FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1
ORDER BY claim_order, id;

-- name: ack
-- Done: the rows go. The owner is the fence: a job that was given to somebody else stays.
DELETE FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: release
-- Back to the queue, in the place that the id gives.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: bury
-- Dead: kept for a person, with the reason.
UPDATE {jobs}
SET job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), reason = %(reason)s
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: explain
-- Say better why a dead job is dead.
UPDATE {jobs} SET reason = %(reason)s WHERE id = %(id)s AND job_status = 3;

-- name: owners
-- Every consumer that has claims.
SELECT DISTINCT owner FROM {jobs} WHERE owner IS NOT NULL;

-- name: release_claims_of
-- All that a dead consumer had claimed goes back to the queue.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL
WHERE owner = %(owner)s AND job_status = 1;

-- name: count_ready
-- How many jobs of the queue wait.
SELECT COUNT(*) FROM {jobs} WHERE queue = %(queue)s AND job_status = 0;

-- name: purge
-- Delete some waiting jobs of the queue; repeated until there are none, so that no statement
-- locks the table for long.
DELETE FROM {jobs} WHERE queue = %(queue)s AND job_status = 0 LIMIT 5000;

-- name: describe_table
-- The table's comment, which holds its version; no row when there is no such table.
SELECT table_comment FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = %(table)s;

-- name: describe_columns
-- The table's columns and their types.
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %(table)s
ORDER BY ordinal_position;
