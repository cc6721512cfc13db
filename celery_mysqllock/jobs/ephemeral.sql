-- Every statement on ephemeral queues and their messages, and on the bindings of exchanges.

-- name: declare
-- An ephemeral queue that goes with its owner, or when it has not been used for so long.
INSERT INTO {ephemeral_queues} (queue, owner, expires) VALUES (%(queue)s, %(owner)s, %(expires)s)
ON DUPLICATE KEY UPDATE owner = VALUES(owner), expires = VALUES(expires),
                        touched_at = CURRENT_TIMESTAMP(6);

-- name: exists
SELECT COUNT(*) FROM {ephemeral_queues} WHERE queue = %(queue)s;

-- name: put
-- A message for each of the queues that are ephemeral; those of them that are gone get none.
INSERT INTO {ephemeral_messages} (queue, message, expires_at)
SELECT queue, %(message)s, UTC_TIMESTAMP(6) + INTERVAL %(lifetime)s SECOND
FROM {ephemeral_queues} WHERE queue IN %(queues)s;

-- name: find
-- The oldest messages of a queue, and whether they have expired.
SELECT id, message, COALESCE(expires_at <= UTC_TIMESTAMP(6), 0)
FROM {ephemeral_messages}
WHERE queue = %(queue)s
ORDER BY id
LIMIT %(limit)s
FOR UPDATE;

-- name: delete
DELETE FROM {ephemeral_messages} WHERE id IN %(ids)s;

-- name: touch
UPDATE {ephemeral_queues} SET touched_at = CURRENT_TIMESTAMP(6) WHERE queue IN %(queues)s;

-- name: count
SELECT COUNT(*) FROM {ephemeral_messages} WHERE queue = %(queue)s;

-- name: purge
DELETE FROM {ephemeral_messages} WHERE queue = %(queue)s;

-- name: drop
DELETE FROM {ephemeral_queues} WHERE queue = %(queue)s;

-- name: owners
SELECT DISTINCT owner FROM {ephemeral_queues} WHERE owner IS NOT NULL;

-- name: queues_of
SELECT queue FROM {ephemeral_queues} WHERE owner = %(owner)s;

-- name: unused
-- Queues whose time without use is over.
SELECT queue FROM {ephemeral_queues}
WHERE touched_at < CURRENT_TIMESTAMP(6) - INTERVAL expires SECOND;

-- name: bind
INSERT IGNORE INTO {bindings} (exchange, routing_key, queue)
VALUES (%(exchange)s, %(routing_key)s, %(queue)s);

-- name: unbind
DELETE FROM {bindings}
WHERE exchange = %(exchange)s AND routing_key = %(routing_key)s AND queue = %(queue)s;

-- name: unbind_queue
DELETE FROM {bindings} WHERE queue = %(queue)s;

-- name: unbind_exchange
DELETE FROM {bindings} WHERE exchange = %(exchange)s;

-- name: bindings
-- What is bound to an exchange, and whether the queue is ephemeral.
SELECT b.routing_key, b.queue, e.queue IS NOT NULL
FROM {bindings} AS b LEFT JOIN {ephemeral_queues} AS e ON e.queue = b.queue
WHERE b.exchange = %(exchange)s;

-- name: all_bindings
SELECT exchange, routing_key, queue FROM {bindings};

-- name: has_work
-- Whether there is anything to take in a queue, which may be of either kind. For the doorbell.
EXISTS (SELECT 1 FROM {jobs} WHERE queue = %s AND job_status = 0)
OR EXISTS (SELECT 1 FROM {ephemeral_messages} WHERE queue = %s)
