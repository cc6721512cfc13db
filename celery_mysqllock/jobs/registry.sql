-- The list of consumers that people see. Only its liveness lock tells whether a consumer lives.

-- name: add
-- The row is there when a consumer returns that the sweeper has taken for dead.
INSERT INTO {consumers} (identity, name, queues)
VALUES (%(identity)s, %(name)s, %(queues)s)
ON DUPLICATE KEY UPDATE name = VALUES(name), queues = VALUES(queues);

-- name: set_queues
UPDATE {consumers} SET queues = %(queues)s WHERE identity = %(identity)s;

-- name: remove
DELETE FROM {consumers} WHERE identity = %(identity)s;
