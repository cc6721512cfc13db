-- Every statement on the periodic tasks and their ticks. All times are UTC, by the server's clock.

-- name: now
SELECT UTC_TIMESTAMP(6);

-- name: look
-- Whether a task was edited: an edit changes updated_at, the beat's own writes do not.
SELECT UTC_TIMESTAMP(6), COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', name, updated_at))), 0)
FROM {schedule};

-- name: all
-- All periodic tasks, as they stand in the table.
SELECT name, task, schedule, timezone, args, kwargs, options, enabled, from_config,
       last_due_at, counts_for, last_run_at, total_run_count
FROM {schedule};

-- name: store
-- A task of the configuration. The columns that the configuration does not have stay: the last tick, and
-- whether the task is enabled.
INSERT INTO {schedule} (name, task, schedule, timezone, args, kwargs, options, from_config)
VALUES (%(name)s, %(task)s, %(schedule)s, %(timezone)s, %(args)s, %(kwargs)s, %(options)s, TRUE)
ON DUPLICATE KEY UPDATE
    task = VALUES(task), schedule = VALUES(schedule), timezone = VALUES(timezone),
    args = VALUES(args), kwargs = VALUES(kwargs), options = VALUES(options), from_config = TRUE;

-- name: remove_others
-- Tasks that the configuration no longer has.
DELETE FROM {schedule} WHERE from_config AND name NOT IN %(names)s;

-- name: count_from
-- Count the ticks of a new task, or of one whose schedule has changed, from a moment on; NULL for not at all.
UPDATE {schedule}
SET last_due_at = %(at)s, counts_for = %(counts_for)s, updated_at = updated_at
WHERE name = %(name)s;

-- name: claim
-- Claim a tick: one row when it was not claimed before, the task is still enabled, and this session holds the
-- lock.
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
-- Those of these tasks that are enabled, if this session holds the lock.
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
-- A tick that has a row was claimed before: the next counts from it.
UPDATE {schedule} AS task JOIN {ticks} AS tick ON tick.name = task.name
SET task.last_due_at = tick.due_at, task.updated_at = task.updated_at
WHERE task.name = %(name)s AND tick.due_at = %(due_at)s;

-- name: unsure
-- Ticks that a beat claimed, and died before it noted whether it had sent them.
SELECT name, due_at FROM {ticks} WHERE sent_at IS NULL AND reason IS NULL ORDER BY due_at;

-- name: prune
DELETE FROM {ticks} WHERE due_at < UTC_TIMESTAMP(6) - INTERVAL %(seconds)s SECOND LIMIT 10000;
