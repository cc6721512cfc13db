-- Every statement on ephemeral queues and their messages, and on the bindings of exchanges.
--
-- Intervals are integers: MySQL 5.7 takes a DECIMAL interval that is NULL for 0.

-- name: declare
-- An ephemeral queue. Who uses it goes on doing so when somebody else declares it too.
INSERT INTO {ephemeral_queues} (queue, owner, auto_delete, expires, message_ttl)
VALUES (%(queue)s, %(owner)s, %(auto_delete)s, %(expires)s, %(message_ttl)s)
ON DUPLICATE KEY UPDATE owner = COALESCE(VALUES(owner), owner),
                        auto_delete = VALUES(auto_delete), expires = VALUES(expires),
                        message_ttl = VALUES(message_ttl), touched_at = CURRENT_TIMESTAMP(6);

-- name: use
UPDATE {ephemeral_queues} SET owner = %(owner)s, touched_at = CURRENT_TIMESTAMP(6)
WHERE queue = %(queue)s;

-- name: leave
-- Nobody uses it any more, so that its time without use begins; and ends soon when it is to go
-- with the last of its consumers, unless one of them is left.
UPDATE {ephemeral_queues}
SET owner = NULL, touched_at = CURRENT_TIMESTAMP(6),
    expires = IF(auto_delete, LEAST(COALESCE(expires, %(soon)s), %(soon)s), expires)
WHERE queue = %(queue)s AND owner = %(owner)s;

-- name: find_queue
SELECT message_ttl FROM {ephemeral_queues} WHERE queue = %(queue)s;

-- name: put
-- A message for each of the queues that are ephemeral; those of them that are gone get none.
INSERT INTO {ephemeral_messages} (queue, claim_order, message, expires_at)
SELECT queue, %(claim_order)s, %(message)s,
       UTC_TIMESTAMP(6) + INTERVAL CAST(LEAST(COALESCE(message_ttl, %(lifetime)s),
                                              COALESCE(%(lifetime)s, message_ttl))
                                        * 1000000 AS SIGNED) MICROSECOND
FROM {ephemeral_queues} WHERE queue IN %(queues)s;

-- name: find
-- The first messages of a queue, and whether they have expired.
SELECT id, message, COALESCE(expires_at <= UTC_TIMESTAMP(6), 0)
FROM {ephemeral_messages}
WHERE queue = %(queue)s
ORDER BY claim_order, id
LIMIT %(limit)s
FOR UPDATE;

-- name: find_expired
-- Messages whose time is over.
SELECT id FROM {ephemeral_messages} WHERE expires_at <= UTC_TIMESTAMP(6) LIMIT 1000 FOR UPDATE;

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

-- name: drop_unused
-- As drop, unless somebody has begun to use it.
DELETE FROM {ephemeral_queues} WHERE queue = %(queue)s AND owner IS NULL;

-- name: queues_of
SELECT queue, auto_delete FROM {ephemeral_queues} WHERE owner = %(owner)s;

-- name: unused
-- Queues whose time without use is over, and whether nobody will come back to them.
SELECT queue, touched_at < CURRENT_TIMESTAMP(6) - INTERVAL %(for_good)s SECOND
FROM {ephemeral_queues}
WHERE owner IS NULL
  AND touched_at < CURRENT_TIMESTAMP(6) - INTERVAL CAST(expires * 1000000 AS SIGNED) MICROSECOND;

-- name: has_jobs
-- Whether there are jobs in the queue that are not done.
SELECT EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 0)
    OR EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 2)
    OR EXISTS (SELECT 1 FROM {jobs} WHERE queue = %(queue)s AND job_status = 4)
    OR EXISTS (SELECT 1 FROM {jobs} FORCE INDEX (owner)
               WHERE owner IS NOT NULL AND queue = %(queue)s AND job_status = 1);

-- name: find_left
-- Jobs that nobody comes back for.
SELECT id FROM {jobs} WHERE queue = %(queue)s AND job_status IN (0, 2, 4) LIMIT 500
FOR UPDATE

-- name: bury_left
-- Dead: kept for a person, with the reason.
UPDATE {jobs}
SET job_status = 3, finished_at = CURRENT_TIMESTAMP(6), unique_key = NULL, due_at = NULL,
    reason = %(reason)s
WHERE id IN %(ids)s AND queue = %(queue)s AND job_status IN (0, 2, 4);

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
-- What is bound to an exchange, of which type that is, and whether the queue is ephemeral.
SELECT x.type, b.routing_key, b.queue, e.queue IS NOT NULL, e.message_ttl
FROM {bindings} AS b
LEFT JOIN {ephemeral_queues} AS e ON e.queue = b.queue
LEFT JOIN {exchanges} AS x ON x.exchange = b.exchange
WHERE b.exchange = %(exchange)s;

-- name: exchange_type
SELECT type FROM {exchanges} WHERE exchange = %(exchange)s;

-- name: declare_exchange
INSERT IGNORE INTO {exchanges} (exchange, type) VALUES (%(exchange)s, %(kind)s);

-- name: change_exchange
-- One to which queues are bound keeps its type.
UPDATE {exchanges} SET type = %(kind)s
WHERE exchange = %(exchange)s
  AND NOT EXISTS (SELECT 1 FROM {bindings} WHERE exchange = %(exchange)s);

-- name: delete_exchange
DELETE FROM {exchanges} WHERE exchange = %(exchange)s;

-- name: all_bindings
SELECT exchange, routing_key, queue FROM {bindings} WHERE exchange <> '';

-- name: is_durable
-- Whether a durable queue of that name was declared.
SELECT COUNT(*) FROM {bindings}
WHERE exchange = '' AND routing_key = %(queue)s AND queue = %(queue)s;
