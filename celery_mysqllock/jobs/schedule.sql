-- Every statement on the periodic tasks and their ticks. All times are UTC, by the server's clock.

-- name: now
SELECT UTC_TIMESTAMP(6);

-- name: look
-- Whether anybody has edited a task: whoever does changes updated_at, the beat does not.
SELECT UTC_TIMESTAMP(6), COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', name, updated_at))), 0)
FROM {schedule};

-- name: all
-- All periodic tasks, as they stand in the table.
SELECT name, task, schedule, timezone, args, kwargs, options, enabled, from_config,
       last_due_at, counts_for, last_run_at, total_run_count
FROM {schedule};

-- name: store
-- One of the configuration's. What only the table knows stays: how far it has come, and whether
-- somebody has disabled it.
INSERT INTO {schedule} (name, task, schedule, timezone, args, kwargs, options, from_config)
VALUES (%(name)s, %(task)s, %(schedule)s, %(timezone)s, %(args)s, %(kwargs)s, %(options)s, TRUE)
ON DUPLICATE KEY UPDATE
    task = VALUES(task), schedule = VALUES(schedule), timezone = VALUES(timezone),
    args = VALUES(args), kwargs = VALUES(kwargs), options = VALUES(options), from_config = TRUE;

-- name: remove_others
-- The configuration has these no more.
DELETE FROM {schedule} WHERE from_config AND name NOT IN %(names)s;

-- name: count_from
-- Count the ticks from a moment on: it is new, or its schedule has changed. NULL for not at all.
UPDATE {schedule}
SET last_due_at = %(at)s, counts_for = %(counts_for)s, updated_at = updated_at
WHERE name = %(name)s;

-- name: claim
-- Take a tick upon oneself: one row when nobody has, the task is still enabled and the session that
-- says this holds the lock.
INSERT INTO {ticks} (name, due_at)
SELECT name, %(due_at)s FROM {schedule} AS task
WHERE name = %(name)s AND enabled AND IS_USED_LOCK(%(lock)s) = CONNECTION_ID()
ON DUPLICATE KEY UPDATE due_at = VALUES(due_at);

-- name: advance
-- The next tick counts from this one.
UPDATE {schedule}
SET last_due_at = %(due_at)s, last_run_at = UTC_TIMESTAMP(6),
    total_run_count = total_run_count + 1, updated_at = updated_at
WHERE name = %(name)s;

-- name: lock_all
-- Those of these tasks that are enabled, as long as the session that asks holds the lock.
SELECT name FROM {schedule}
WHERE name IN %(names)s AND enabled AND IS_USED_LOCK(%(lock)s) = CONNECTION_ID()
FOR UPDATE;

-- name: claim_all
-- As claim, for ticks that are sent in the same transaction.
INSERT INTO {ticks} (name, due_at, sent_at, task_id) VALUES %(rows)s;

-- name: advance_all
UPDATE {schedule}
SET last_due_at = CASE name %(cases)s END, last_run_at = UTC_TIMESTAMP(6),
    total_run_count = total_run_count + 1, updated_at = updated_at
WHERE name IN %(names)s;

-- name: mark_sent
UPDATE {ticks} SET sent_at = UTC_TIMESTAMP(6), task_id = %(task_id)s
WHERE name = %(name)s AND due_at = %(due_at)s;

-- name: mark_not_sent
UPDATE {ticks} SET reason = %(reason)s WHERE name = %(name)s AND due_at = %(due_at)s;

-- name: pass_over
-- A tick that has a row already was taken by somebody: the next counts from it.
UPDATE {schedule} AS task JOIN {ticks} AS tick ON tick.name = task.name
SET task.last_due_at = tick.due_at, task.updated_at = task.updated_at
WHERE task.name = %(name)s AND tick.due_at = %(due_at)s;

-- name: unsure
-- Ticks of which a beat took care that did not live to say what became of them.
SELECT name, due_at FROM {ticks} WHERE sent_at IS NULL AND reason IS NULL ORDER BY due_at;

-- name: prune
DELETE FROM {ticks} WHERE due_at < UTC_TIMESTAMP(6) - INTERVAL %(seconds)s SECOND LIMIT 10000;
