-- The list of consumers that people see. What a consumer owns is told by its liveness lock.

-- name: add
-- Again when it comes back after the sweeper has taken it for dead.
INSERT INTO {consumers} (identity, name, queues)
VALUES (%(identity)s, %(name)s, %(queues)s)
ON DUPLICATE KEY UPDATE name = VALUES(name), queues = VALUES(queues);

-- name: set_queues
UPDATE {consumers} SET queues = %(queues)s WHERE identity = %(identity)s;

-- name: remove
DELETE FROM {consumers} WHERE identity = %(identity)s;
