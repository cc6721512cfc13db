-- Every statement on the job table, each in a named block.
-- {jobs} is the table; values are %(name)s parameters. Ages count from the server's clock.
--
-- A DELETE waits for each row that it looks at and somebody has not committed yet, even if it would
-- not delete it (an UPDATE passes such rows by). So each one is by primary key, and made to be: the
-- server likes to read all of a small table. The form with "j" is the one that takes FORCE INDEX.

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
INSERT INTO {jobs} (message, queue, claim_order, task_id, unique_key, order_key, order_limit,
                    job_status, due_at, expires_at)
VALUES (%(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(unique_key)s, %(order_key)s,
        %(order_limit)s, 2,
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

-- name: put_waiting
-- Store one message that waits until its key's turn has come; who does that lets it go after the
-- commit. Nobody is to be rung.
INSERT INTO {jobs} (message, queue, claim_order, task_id, unique_key, order_key, order_limit,
                    job_status, expires_at)
VALUES (%(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(unique_key)s, %(order_key)s,
        %(order_limit)s, 4, UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND);
SELECT NULL;

-- name: put_in_line
-- As put_waiting, with the key's row locked. No row is stored when there is no such lock.
INSERT INTO {jobs} (message, queue, claim_order, task_id, order_key, order_limit, job_status,
                    expires_at)
SELECT %(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(order_key)s, %(order_limit)s, 4,
       UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND
FROM {order_locks} WHERE slot = %(slot)s FOR UPDATE;

-- name: queue_new
-- It is the new job's turn at once when no more than the limit, itself included, are in its line.
UPDATE {jobs} SET job_status = 0
WHERE id = LAST_INSERT_ID() AND %(order_limit)s >= (
    SELECT COUNT(*) FROM (
        SELECT 1 FROM {jobs} FORCE INDEX (order_key)
        WHERE order_key = %(order_key)s AND job_status IN (0, 1, 2, 4)
          AND (job_status IN (0, 4) OR (job_status = 1 AND owner IS NOT NULL)
               OR (job_status = 2 AND deferred_since IS NOT NULL))
        LIMIT %(too_many)s) AS line);

-- name: find_sleeper
-- Behind put_in_line and its commit: the new job's id, and the connection of a consumer that sleeps
-- and can be rung.
SELECT LAST_INSERT_ID(),
       COALESCE(IS_USED_LOCK(%(bell0)s), IS_USED_LOCK(%(bell1)s), IS_USED_LOCK(%(bell2)s),
                IS_USED_LOCK(%(bell3)s), IS_USED_LOCK(%(bell4)s), IS_USED_LOCK(%(bell5)s),
                IS_USED_LOCK(%(bell6)s), IS_USED_LOCK(%(bell7)s));

-- name: lock_lines
-- Who decides which jobs of a key are next decides alone. In the index's order, which is everybody's.
SELECT slot FROM {order_locks} WHERE slot IN %(slots)s ORDER BY slot FOR UPDATE;

-- name: lock_free_lines
-- As lock_lines; lines that somebody else has locked are passed over.
SELECT slot FROM {order_locks} WHERE slot IN %(slots)s ORDER BY slot FOR UPDATE SKIP LOCKED;

-- name: lock_any_line
SELECT slot FROM {order_locks} LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: head_of_line
-- The first that waits of a key: the end of one range of the index "order_key".
SELECT MIN(id) AS id FROM {jobs} WHERE order_key = %(order_key)s AND job_status = 4

-- name: next_in_lines
-- Those heads of lines whose turn it is. Active are jobs that are queued, claimed, or put aside.
SELECT next.id, next.queue
FROM (%(heads)s) AS head
STRAIGHT_JOIN {jobs} AS next ON next.id = head.id
LEFT JOIN (
    SELECT order_key, COUNT(*) AS jobs FROM {jobs} FORCE INDEX (order_key)
    WHERE order_key IN %(keys)s AND job_status IN (0, 1, 2)
      AND (job_status = 0 OR (job_status = 1 AND owner IS NOT NULL)
           OR (job_status = 2 AND deferred_since IS NOT NULL))
    GROUP BY order_key) AS active ON active.order_key = next.order_key
WHERE GREATEST(COALESCE(next.order_limit, 1), 1) > COALESCE(active.jobs, 0);

-- name: queue_next
-- It is their turn. By id: a subquery would have MariaDB lock the whole table.
UPDATE {jobs} SET job_status = 0, ready_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(next_ids)s AND job_status = 4;

-- name: find_waiting
-- Some keys with waiting jobs, in the order of the keys, and how many more places each has than active
-- jobs. A loose scan of the index "order_key", one step a key.
SELECT waiting.order_key, CAST(GREATEST(COALESCE(first.order_limit, 1), 1) AS SIGNED) - (
    SELECT COUNT(*) FROM {jobs} AS active
    WHERE active.order_key = waiting.order_key
      AND (active.job_status = 0 OR (active.job_status = 1 AND active.owner IS NOT NULL)
           OR (active.job_status = 2 AND active.deferred_since IS NOT NULL)))
FROM (SELECT order_key, MIN(id) AS id FROM {jobs}
      WHERE order_key > %(after)s AND job_status = 4
      GROUP BY order_key ORDER BY order_key LIMIT %(limit)s) AS waiting
JOIN {jobs} AS first ON first.id = waiting.id
ORDER BY waiting.order_key;

-- name: order_keys_with
-- The order keys of these jobs.
SELECT id, order_key FROM {jobs} WHERE id IN %(ids)s AND order_key IS NOT NULL;

-- name: change_nothing
-- No row, no commit to wait for; but an error where the server takes no writes.
UPDATE {jobs} SET id = id WHERE FALSE;

-- name: lock_oldest
-- The first jobs in line that no other consumer is claiming just now, locked until the commit.
-- One queue a statement, and in the index's direction: anything else locks more than it takes.
-- Of a paused queue none: the server reads that one row once, and does not lock it.
SELECT id, message, queue, deliveries, created_at, task_id, order_key, recoveries,
       TIMESTAMPDIFF(SECOND, deferred_since, CURRENT_TIMESTAMP(6)), expires_at <= UTC_TIMESTAMP(6)
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
  AND (SELECT paused_at FROM {queues} WHERE queue = %(queue)s) IS NULL
ORDER BY claim_order, id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: lock_found
-- Those of the found jobs that are still queued and that no other consumer is claiming just now.
SELECT id, message, queue, deliveries, created_at, task_id, order_key, recoveries,
       TIMESTAMPDIFF(SECOND, deferred_since, CURRENT_TIMESTAMP(6)), expires_at <= UTC_TIMESTAMP(6)
FROM {jobs}
WHERE id IN %(ids)s AND job_status = 0
ORDER BY claim_order, id
FOR UPDATE SKIP LOCKED;

-- name: mark_claimed
-- Make the locked jobs the owner's; those that begin at once count as delivered. A key for as long
-- as a job is queued is free from here on. Should somebody else have taken one of them, the server's
-- SKIP LOCKED does not lock: the status is the fence, and the count tells.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = LEAST(deliveries + (id IN %(started)s), 4294967295),
    started_at = IF(id IN %(started)s, CURRENT_TIMESTAMP(6), NULL),
    unique_key = IF(LEFT(unique_key, 7) = 'queued:', NULL, unique_key)
WHERE id IN %(ids)s AND job_status = 0;

-- name: find_oldest
-- The first jobs in line, unlocked: for lock_found, or for take_queued on servers without SKIP LOCKED.
SELECT id, recoveries
FROM {jobs}
WHERE queue = %(queue)s AND job_status = 0
  AND (SELECT paused_at FROM {queues} WHERE queue = %(queue)s) IS NULL
ORDER BY claim_order, id
LIMIT %(limit)s;

-- name: take_queued
-- Compare and set: of the candidates, the owner gets those that are still queued. A key for as long
-- as a job is queued is free from here on.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = LEAST(deliveries + (id IN %(started)s), 4294967295),
    started_at = IF(id IN %(started)s, CURRENT_TIMESTAMP(6), NULL),
    unique_key = IF(LEFT(unique_key, 7) = 'queued:', NULL, unique_key)
WHERE id IN %(ids)s AND job_status = 0;

-- name: read_taken
-- Which of the candidates take_queued got.
SELECT id, message, queue, deliveries - (started_at IS NOT NULL), created_at, task_id, order_key,
       recoveries, TIMESTAMPDIFF(SECOND, deferred_since, CURRENT_TIMESTAMP(6)),
       expires_at <= UTC_TIMESTAMP(6)
FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1
ORDER BY claim_order, id;

-- name: ack
-- Done: the rows go. The owner is the fence: a job that was given to somebody else stays.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.owner = %(owner)s AND j.job_status = 1;

-- name: finish
-- Done, with retention: the rows stay as dequeued ones that are finished, and are in no line.
UPDATE {jobs}
SET owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL, order_key = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: start
-- They have begun: their delivery counts. The column has a greatest number.
UPDATE {jobs}
SET deliveries = LEAST(deliveries + 1, 4294967295), started_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1 AND started_at IS NULL;

-- name: release
-- Back to the queue as they were, in the place that the id gives: their delivery does not count.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL,
    deliveries = IF(started_at IS NULL, deliveries, GREATEST(deliveries, 1) - 1), started_at = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: place
-- Where the job belongs: another queue, or the scheduled ones. It has not been delivered.
UPDATE {jobs}
SET queue = %(queue)s, claim_order = COALESCE(%(claim_order)s, claim_order),
    job_status = IF(%(delay)s IS NULL, 0, 2),
    due_at = UTC_TIMESTAMP(6) + INTERVAL %(delay)s SECOND,
    owner = NULL, claimed_at = NULL, deferred_since = NULL,
    deliveries = IF(started_at IS NULL, deliveries, GREATEST(deliveries, 1) - 1), started_at = NULL
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: put_aside
-- Back to the queue in the same place, but not for a while. The delivery counts if there was
-- something wrong with it. What nobody knew what to do with has been so since the first time.
UPDATE {jobs}
SET job_status = IF(%(seconds)s > 0, 2, 0), owner = NULL, claimed_at = NULL,
    due_at = IF(%(seconds)s > 0, UTC_TIMESTAMP(6) + INTERVAL %(seconds)s SECOND, NULL),
    deferred_since = IF(%(is_unknown)s AND deferred_since BETWEEN '2000-01-01' AND NOW(6),
                        deferred_since, CURRENT_TIMESTAMP(6)),
    deliveries = IF(%(counts)s OR started_at IS NULL, deliveries, GREATEST(deliveries, 1) - 1),
    started_at = NULL
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: bury
-- Dead: kept for a person, with the reason. A dead job gets a better reason in the same way.
UPDATE {jobs}
SET job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL,
    reason = %(reason)s
WHERE id = %(id)s AND (job_status = 3 OR (owner = %(owner)s AND job_status = 1));

-- name: bury_these
-- As bury, for several jobs and one reason.
UPDATE {jobs}
SET job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL,
    reason = %(reason)s
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: add_throughput
-- Add to what a consumer has ended in this minute.
INSERT INTO {throughput} (queue, minute, consumer, ended)
VALUES (%(queue)s, UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, %(owner)s, %(ended)s)
ON DUPLICATE KEY UPDATE ended = ended + VALUES(ended);

-- name: has_old_throughput
SELECT 1 FROM {throughput}
WHERE minute BETWEEN '1970-01-02' AND UTC_TIMESTAMP() - INTERVAL 10 MINUTE LIMIT 1;

-- name: sum_up_throughput
-- A script: what ended more than 10 minutes ago goes into the total of its queue, which is the row of
-- no consumer and no minute. The rows are locked first: another sweeper must not add them too.
BEGIN;
SET @summed_up = UTC_TIMESTAMP() - INTERVAL 10 MINUTE;
SELECT COUNT(*) FROM {throughput} WHERE minute BETWEEN '1970-01-02' AND @summed_up FOR UPDATE;
INSERT INTO {throughput} (queue, minute, consumer, ended)
SELECT queue, '1970-01-01', '', summed FROM
    (SELECT queue, SUM(ended) AS summed FROM {throughput}
     WHERE minute BETWEEN '1970-01-02' AND @summed_up GROUP BY queue) AS old
ON DUPLICATE KEY UPDATE ended = ended + VALUES(ended);
DELETE FROM {throughput} WHERE minute BETWEEN '1970-01-02' AND @summed_up;
COMMIT;

-- name: find_claims_of
-- Some of what a dead consumer had claimed; and whether it had begun, as far as is known.
SELECT id, queue, order_key, deliveries, started_at IS NOT NULL
FROM {jobs} FORCE INDEX (owner)
WHERE owner = %(owner)s AND job_status = 1
LIMIT 500

-- name: recover
-- What a dead consumer had claimed goes back to the queue: at once, or after a pause.
UPDATE {jobs}
SET job_status = IF(%(seconds)s > 0, 2, 0), owner = NULL, claimed_at = NULL,
    due_at = IF(%(seconds)s > 0, UTC_TIMESTAMP(6) + INTERVAL %(seconds)s SECOND, NULL),
    deferred_since = IF(%(seconds)s > 0, CURRENT_TIMESTAMP(6), deferred_since),
    recoveries = LEAST(recoveries + 1, 4294967295), started_at = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: release_others
-- What the owner has claimed goes back as it was, save the jobs that it knows of.
UPDATE {jobs}
SET job_status = 0, owner = NULL, claimed_at = NULL,
    deliveries = IF(started_at IS NULL, deliveries, GREATEST(deliveries, 1) - 1), started_at = NULL
WHERE owner = %(owner)s AND job_status = 1 AND id NOT IN %(kept)s;

-- name: queues_with
-- The queues that these jobs are in.
SELECT DISTINCT queue FROM {jobs} WHERE id IN %(ids)s;

-- name: passing_over
-- The end of a statement that finds rows: they are locked, and those that somebody else has locked
-- are not among them.
FOR UPDATE SKIP LOCKED

-- name: exist
-- Which of these jobs there are; with passing_over, which of them nobody else has locked.
SELECT id FROM {jobs} FORCE INDEX (PRIMARY) WHERE id IN %(ids)s

-- name: find_due
-- Scheduled jobs whose time has come.
SELECT id, queue, order_key FROM {jobs} FORCE INDEX (due)
WHERE due_at <= UTC_TIMESTAMP(6) AND job_status = 2
ORDER BY due_at
LIMIT 500

-- name: promote
-- They are queued now, or in the line of their key. What was put aside has kept its place.
UPDATE {jobs}
SET job_status = IF(order_key IS NULL OR deferred_since IS NOT NULL, 0, 4), due_at = NULL,
    ready_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND job_status = 2;

-- name: look
-- All that the sweeper acts on, in one statement: when the next scheduled job is due; the queues in
-- which jobs wait (a loose scan of the index "claim", one step a queue), and those that are paused;
-- who has claims or ephemeral queues; and who is registered as a consumer. From a zero date MySQL
-- counts nothing.
SELECT 'due', NULL, IF(MIN(due_at) < '1970-01-01', 0,
                       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due_at)) / 1000000)
FROM {jobs} WHERE due_at IS NOT NULL
UNION ALL
SELECT 'ready', queue, NULL FROM {jobs} WHERE job_status = 0 GROUP BY queue
UNION ALL
SELECT 'paused', queue, NULL FROM {queues} WHERE paused_at IS NOT NULL
UNION ALL
SELECT DISTINCT 'owner', owner, NULL FROM {jobs} WHERE owner IS NOT NULL
UNION ALL
SELECT DISTINCT 'owner', owner, NULL FROM {ephemeral_queues} WHERE owner IS NOT NULL
UNION ALL
SELECT 'consumer', identity, NULL FROM {consumers};

-- name: find_finished
-- Finished jobs whose retention is over.
SELECT id FROM {jobs} FORCE INDEX (finished)
WHERE job_status = 1 AND finished_at < CURRENT_TIMESTAMP(6) - INTERVAL %(seconds)s SECOND
LIMIT 1000

-- name: remove_finished
-- They go.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.job_status = 1 AND j.finished_at IS NOT NULL;

-- name: count_ready
-- How many jobs of the queue wait, for a consumer or for the turn of their key.
SELECT COUNT(*) FROM {jobs} WHERE queue = %(queue)s AND job_status IN (0, 4);

-- name: find_unclaimed
-- Some waiting jobs of the queue; so few that no statement locks the table for long.
SELECT id FROM {jobs} FORCE INDEX (claim)
WHERE queue = %(queue)s AND job_status IN (0, 2, 4) LIMIT 5000

-- name: purge
-- They go, unless they have been claimed meanwhile.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.job_status IN (0, 2, 4);
