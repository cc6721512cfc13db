-- Every statement on the job table, each in a named block.
-- {jobs} is the table; values are %(name)s parameters. Ages count from the server's clock.
--
-- A DELETE waits for each uncommitted row that it looks at, even one that it would not delete (an
-- UPDATE passes such rows by). So each DELETE is by primary key, and is forced to be: the server
-- prefers to read all of a small table. The form with "j" is the one that takes FORCE INDEX.

-- fragment: active
-- Jobs that count against the limit of their order key: queued, claimed, or deferred after a claim.
(job_status = 0 OR (job_status = 1 AND owner IS NOT NULL)
 OR (job_status = 2 AND deferred_since IS NOT NULL))

-- fragment: details
-- The columns of a claimed job that follow its deliveries.
created_at, task_id, order_key, recoveries,
TIMESTAMPDIFF(SECOND, deferred_since, CURRENT_TIMESTAMP(6)), expires_at <= UTC_TIMESTAMP(6)

-- fragment: first_in_queue
-- The first jobs in the order of the index "claim"; of a paused queue none. The server reads the row
-- of the pause once, and does not lock it.
queue = %(queue)s AND job_status = 0
  AND (SELECT paused_at FROM {queues} WHERE queue = %(queue)s) IS NULL
ORDER BY claim_order, id
LIMIT %(limit)s

-- fragment: uncounted
-- The deliveries of a job that goes back as if it had not been claimed.
IF(started_at IS NULL, deliveries, GREATEST(deliveries, 1) - 1)

-- fragment: released
-- Back in the queue as it was, in the place that the id gives.
job_status = 0, owner = NULL, claimed_at = NULL, deliveries = {uncounted}, started_at = NULL

-- fragment: buried
-- Dead: kept for an operator, with the reason.
job_status = 3, owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL,
reason = %(reason)s

-- Publishing --------------------------------------------------------------------------------------

-- name: insert
-- Store one message. A job without a delay has no due_at.
INSERT INTO {jobs} (message, queue, claim_order, task_id, unique_key, order_key, order_limit,
                    job_status, due_at, expires_at)
VALUES (%(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(unique_key)s, %(order_key)s,
        %(order_limit)s, %(job_status)s,
        UTC_TIMESTAMP(6) + INTERVAL %(delay)s SECOND,
        UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND);

-- name: find_sleeper
-- After a job was queued: the connection of an idle consumer of the queue.
SELECT COALESCE(IS_USED_LOCK(%(bell0)s), IS_USED_LOCK(%(bell1)s), IS_USED_LOCK(%(bell2)s),
                IS_USED_LOCK(%(bell3)s), IS_USED_LOCK(%(bell4)s), IS_USED_LOCK(%(bell5)s),
                IS_USED_LOCK(%(bell6)s), IS_USED_LOCK(%(bell7)s));

-- name: find_sweeper
-- After a job was scheduled: the connection of the sweeper, which sleeps until the next one is due.
SELECT IS_USED_LOCK(%(sweeper)s);

-- name: find_nobody
-- After a job was stored as blocked: no consumer is woken before it is unblocked.
SELECT NULL;

-- name: last_id
-- The id of the job that was inserted last.
SELECT LAST_INSERT_ID();

-- name: put_ordered
-- Store a blocked job with its key's row of {order_locks} locked. Without that row nothing is stored.
INSERT INTO {jobs} (message, queue, claim_order, task_id, order_key, order_limit, job_status,
                    expires_at)
SELECT %(message)s, %(queue)s, %(claim_order)s, %(task_id)s, %(order_key)s, %(order_limit)s, 4,
       UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND
FROM {order_locks} WHERE slot = %(slot)s FOR UPDATE;

-- name: unblock_new
-- The new job may run at once when its key has no more active and blocked jobs than the limit, itself
-- included.
UPDATE {jobs} SET job_status = 0
WHERE id = LAST_INSERT_ID() AND %(order_limit)s >= (
    SELECT COUNT(*) FROM (
        SELECT 1 FROM {jobs} FORCE INDEX (order_key)
        WHERE order_key = %(order_key)s AND job_status IN (0, 1, 2, 4)
          AND (job_status = 4 OR {active})
        LIMIT %(too_many)s) AS ahead);

-- name: change_nothing
-- Changes no row, so that no commit waits; but is an error where the server takes no writes.
UPDATE {jobs} SET id = id WHERE FALSE;

-- Unique keys -------------------------------------------------------------------------------------

-- name: find_unique
-- The job that has the key, and whether it should have lost it: it expired before it was claimed, or
-- it was changed by hand.
SELECT id, task_id, created_at, job_status,
       job_status = 3 OR finished_at IS NOT NULL OR (job_status = 1 AND %(until_claimed)s)
       OR (job_status <> 1 AND COALESCE(expires_at <= UTC_TIMESTAMP(6), FALSE))
FROM {jobs}
WHERE unique_key = %(unique_key)s;

-- name: free_unique
-- Take the key from the job that find_unique found, unless the job has changed since.
UPDATE {jobs} SET unique_key = NULL
WHERE id = %(holder)s AND unique_key = %(unique_key)s AND job_status = %(holder_status)s;

-- name: find_unique_of
-- Unclaimed jobs of these tasks that have a key. The tasks' ids have no index, the keys have one.
SELECT id FROM {jobs}
WHERE unique_key IS NOT NULL AND task_id IN %(task_ids)s AND job_status <> 1;

-- name: free_unique_of
-- Take their keys, unless they have been claimed since.
UPDATE {jobs} SET unique_key = NULL WHERE id IN %(ids)s AND job_status <> 1;

-- Order keys --------------------------------------------------------------------------------------

-- name: lock_order_keys
-- Serialises decisions about which jobs of a key are next. Rows are locked in index order, so that
-- transactions do not deadlock.
SELECT slot FROM {order_locks} WHERE slot IN %(slots)s ORDER BY slot FOR UPDATE;

-- name: lock_free_order_keys
-- As lock_order_keys, without the rows that another transaction has locked.
SELECT slot FROM {order_locks} WHERE slot IN %(slots)s ORDER BY slot FOR UPDATE SKIP LOCKED;

-- name: lock_any_order_key
-- Any free row, to see whether SKIP LOCKED works.
SELECT slot FROM {order_locks} LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: first_blocked
-- The first blocked job of a key: the end of one range of the index "order_key".
SELECT MIN(id) AS id FROM {jobs} WHERE order_key = %(order_key)s AND job_status = 4

-- name: find_unblocked
-- Those of the first blocked jobs whose key has fewer active jobs than its limit.
SELECT next.id, next.queue
FROM (%(firsts)s) AS first
STRAIGHT_JOIN {jobs} AS next ON next.id = first.id
LEFT JOIN (
    SELECT order_key, COUNT(*) AS jobs FROM {jobs} FORCE INDEX (order_key)
    WHERE order_key IN %(keys)s AND job_status IN (0, 1, 2) AND {active}
    GROUP BY order_key) AS active ON active.order_key = next.order_key
WHERE GREATEST(COALESCE(next.order_limit, 1), 1) > COALESCE(active.jobs, 0);

-- name: unblock
-- Queue them. By id: a subquery would have MariaDB lock the whole table.
UPDATE {jobs} SET job_status = 0, ready_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND job_status = 4;

-- name: find_stalled
-- Some keys with blocked jobs, in the order of the keys, and how many more active jobs each may have.
-- A loose scan of the index "order_key", one step a key.
SELECT blocked.order_key, CAST(GREATEST(COALESCE(first.order_limit, 1), 1) AS SIGNED) - (
    SELECT COUNT(*) FROM {jobs} WHERE order_key = blocked.order_key AND {active})
FROM (SELECT order_key, MIN(id) AS id FROM {jobs}
      WHERE order_key > %(after)s AND job_status = 4
      GROUP BY order_key ORDER BY order_key LIMIT %(limit)s) AS blocked
JOIN {jobs} AS first ON first.id = blocked.id
ORDER BY blocked.order_key;

-- name: order_keys_of
-- The order keys of these jobs.
SELECT id, order_key FROM {jobs} WHERE id IN %(ids)s AND order_key IS NOT NULL;

-- Claims ------------------------------------------------------------------------------------------

-- name: lock_oldest
-- The first jobs that no other consumer is claiming now, locked until the commit. One queue a
-- statement, and in the index's direction: anything else locks more than it takes.
SELECT id, message, queue, deliveries, {details} FROM {jobs}
WHERE {first_in_queue}
FOR UPDATE SKIP LOCKED;

-- name: lock_found
-- Those of the found jobs that are still queued and that no other consumer is claiming now.
SELECT id, message, queue, deliveries, {details} FROM {jobs}
WHERE id IN %(ids)s AND job_status = 0
ORDER BY claim_order, id
FOR UPDATE SKIP LOCKED;

-- name: find_oldest
-- The first jobs, not locked: candidates for lock_found, or for claim on servers without SKIP LOCKED.
SELECT id, recoveries FROM {jobs} WHERE {first_in_queue};

-- name: claim
-- Make the jobs the owner's; those that begin at once count as delivered. A key that begins with
-- queued: is free from here on: jobs/unique.py says why its kind has no column. The status is the fence where the jobs are not locked, and on a
-- server whose SKIP LOCKED does not lock: the count tells whether another consumer took one of them.
UPDATE {jobs}
SET job_status = 1, owner = %(owner)s, claimed_at = CURRENT_TIMESTAMP(6),
    deliveries = LEAST(deliveries + (id IN %(started)s), 4294967295),
    started_at = IF(id IN %(started)s, CURRENT_TIMESTAMP(6), NULL),
    unique_key = IF(LEFT(unique_key, 7) = 'queued:', NULL, unique_key)
WHERE id IN %(ids)s AND job_status = 0;

-- name: read_claimed
-- Which of the candidates claim got.
SELECT id, message, queue, deliveries - (started_at IS NOT NULL), {details} FROM {jobs}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1
ORDER BY claim_order, id;

-- name: ack
-- Done: the rows go. The owner is the fence: a job that was given to another consumer stays.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.owner = %(owner)s AND j.job_status = 1;

-- name: finish
-- Done, with retention: the rows stay as dequeued and finished, and count against no key.
UPDATE {jobs}
SET owner = NULL, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL, order_key = NULL
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: start
-- They have begun: their delivery counts, up to the column's greatest number.
UPDATE {jobs}
SET deliveries = LEAST(deliveries + 1, 4294967295), started_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1 AND started_at IS NULL;

-- name: release
-- Back to the queue as they were.
UPDATE {jobs} SET {released}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: release_others
-- Everything that the owner has claimed goes back as it was, except the jobs that it knows of.
UPDATE {jobs} SET {released}
WHERE owner = %(owner)s AND job_status = 1 AND id NOT IN %(kept)s;

-- name: reroute
-- To the queue where the job belongs, or to the scheduled jobs. It has not been delivered.
UPDATE {jobs}
SET queue = %(queue)s, claim_order = COALESCE(%(claim_order)s, claim_order),
    job_status = IF(%(delay)s IS NULL, 0, 2),
    due_at = UTC_TIMESTAMP(6) + INTERVAL %(delay)s SECOND,
    owner = NULL, claimed_at = NULL, deferred_since = NULL,
    deliveries = {uncounted}, started_at = NULL
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: defer
-- Back to the queue in the same place, after a while. The delivery counts if the job failed. A job
-- that no worker knows has been deferred since its first time.
UPDATE {jobs}
SET job_status = IF(%(seconds)s > 0, 2, 0), owner = NULL, claimed_at = NULL,
    due_at = IF(%(seconds)s > 0, UTC_TIMESTAMP(6) + INTERVAL %(seconds)s SECOND, NULL),
    deferred_since = IF(%(is_unknown)s AND deferred_since BETWEEN '2000-01-01' AND NOW(6),
                        deferred_since, CURRENT_TIMESTAMP(6)),
    deliveries = IF(%(counts)s, deliveries, {uncounted}), started_at = NULL
WHERE id = %(id)s AND owner = %(owner)s AND job_status = 1;

-- name: bury
-- One job. A dead one gets a better reason in the same way.
UPDATE {jobs} SET {buried}
WHERE id = %(id)s AND (job_status = 3 OR (owner = %(owner)s AND job_status = 1));

-- name: bury_these
-- Several jobs, for one reason.
UPDATE {jobs} SET {buried}
WHERE id IN %(ids)s AND owner = %(owner)s AND job_status = 1;

-- name: add_throughput
-- Add to what a consumer has ended in this minute.
INSERT INTO {throughput} (queue, minute, consumer, ended)
VALUES (%(queue)s, UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) SECOND, %(owner)s, %(ended)s)
ON DUPLICATE KEY UPDATE ended = ended + VALUES(ended);

-- name: queues_of
-- The queues that these jobs are in.
SELECT DISTINCT queue FROM {jobs} WHERE id IN %(ids)s;

-- name: exist
-- Which of these jobs there are; with skip_locked, which of them no other transaction has locked.
SELECT id FROM {jobs} FORCE INDEX (PRIMARY) WHERE id IN %(ids)s

-- name: skip_locked
-- The end of a statement that finds rows: it locks them, and leaves out those that another
-- transaction has locked.
FOR UPDATE SKIP LOCKED

-- Maintenance -------------------------------------------------------------------------------------

-- name: survey
-- All that the sweeper acts on, in one statement: when the next scheduled job is due; the queues that
-- have queued jobs (a loose scan of the index "claim", one step a queue), and those that are paused;
-- the owners of claims or ephemeral queues; and the registered consumers. From a zero date MySQL
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

-- name: find_due
-- Some scheduled jobs that are due.
SELECT id, queue, order_key FROM {jobs} FORCE INDEX (due)
WHERE due_at <= UTC_TIMESTAMP(6) AND job_status = 2
ORDER BY due_at
LIMIT 500

-- name: promote
-- They are queued, or blocked by others of their key. A deferred job has kept its place.
UPDATE {jobs}
SET job_status = IF(order_key IS NULL OR deferred_since IS NOT NULL, 0, 4), due_at = NULL,
    ready_at = CURRENT_TIMESTAMP(6)
WHERE id IN %(ids)s AND job_status = 2;

-- name: find_finished
-- Some finished jobs whose retention is over.
SELECT id FROM {jobs} FORCE INDEX (finished)
WHERE job_status = 1 AND finished_at < CURRENT_TIMESTAMP(6) - INTERVAL %(seconds)s SECOND
LIMIT 1000

-- name: remove_finished
-- Delete them.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.job_status = 1 AND j.finished_at IS NOT NULL;

-- name: count_ready
-- How many jobs of the queue are queued or blocked.
SELECT COUNT(*) FROM {jobs} WHERE queue = %(queue)s AND job_status IN (0, 4);

-- name: find_unclaimed
-- Some unclaimed jobs of the queue; so few that no statement locks the table for long.
SELECT id FROM {jobs} FORCE INDEX (claim)
WHERE queue = %(queue)s AND job_status IN (0, 2, 4) LIMIT 5000

-- name: purge
-- Delete them, unless they have been claimed since.
DELETE j FROM {jobs} AS j FORCE INDEX (PRIMARY)
WHERE j.id IN %(ids)s AND j.job_status IN (0, 2, 4);

-- name: has_old_throughput
-- Whether there is something for sum_up_throughput.
SELECT 1 FROM {throughput}
WHERE minute BETWEEN '1970-01-02' AND UTC_TIMESTAMP() - INTERVAL 10 MINUTE LIMIT 1;

-- name: sum_up_throughput
-- A script: counts of more than 10 minutes ago are added to the total of their queue, which is the
-- row of no consumer and no minute. The rows are locked first: another sweeper must not add them too.
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
