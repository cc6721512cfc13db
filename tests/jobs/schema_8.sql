-- The tables as commit 92f32b3 makes them, in its eight steps: what an upgrade begins with.

-- The table as its first description has it: a message, and whether somebody has dequeued it.
-- A table of this shape that is already there is taken over with its rows; see adoption.sql.
CREATE TABLE {jobs} (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message    LONGTEXT        NOT NULL,
    job_status TINYINT         NOT NULL DEFAULT 0
               COMMENT '0 queued, 1 dequeued, 2 scheduled, 3 dead, 4 waiting'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COMMENT = 'celery-mysqllock schema 1';
-- What a broker has to know of a job. Each new column is nullable or has a default, so that
-- INSERT INTO jobs (message) VALUES (...) goes on working. LOCK=NONE: reads and writes go on, or
-- the server refuses.
ALTER TABLE {jobs}
    ADD    queue       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
                                        NOT NULL DEFAULT 'celery',
    ADD    claim_order TINYINT UNSIGNED NOT NULL DEFAULT 9
                       COMMENT 'lowest first: 9 less the AMQP priority',
    ADD    deliveries  INT UNSIGNED     NOT NULL DEFAULT 0,
    ADD    owner       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                       COMMENT 'the consumer that has claimed the job',
    ADD    due_at      DATETIME(6)      NULL DEFAULT NULL
                       COMMENT 'UTC; not before this (job_status 2)',
    ADD    expires_at  DATETIME(6)      NULL DEFAULT NULL
                       COMMENT 'UTC; not after this',
    ADD    created_at  TIMESTAMP(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    ADD    ready_at    TIMESTAMP(6)     NULL DEFAULT NULL
                       COMMENT 'when it was queued, where that was later than created_at',
    ADD    claimed_at  TIMESTAMP(6)     NULL DEFAULT NULL,
    ADD    finished_at TIMESTAMP(6)     NULL DEFAULT NULL,
    ADD    reason      TEXT CHARACTER SET utf8mb4 NULL DEFAULT NULL
                       COMMENT 'why the job is dead',
    ADD    task_id     VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL
                       COMMENT 'of the task; NULL where it is derived from the row',
    ADD    unique_key  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                       COMMENT 'no two jobs have the same',
    ADD    order_key   VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                       COMMENT 'jobs of one key run one after the other (job_status 4: not yet)',
    ADD    order_limit SMALLINT UNSIGNED NULL DEFAULT NULL
                       COMMENT 'so many jobs of the key at once',
    LOCK = NONE;

-- The index "claim" is in the direction of the claim's ORDER BY: a filesort would lock every row of
-- the queue.
ALTER TABLE {jobs}
    ADD KEY claim (queue, job_status, claim_order, id),
    ADD KEY owner (owner),
    ADD KEY due (due_at),
    ADD KEY finished (finished_at),
    ADD UNIQUE KEY unique_key (unique_key),
    ADD KEY order_key (order_key, job_status, id),
    LOCK = NONE;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 2';
-- What kombu's exchanges need, shared by all processes (every durable queue that was declared is
-- bound to the default exchange, which has no name); and the ephemeral queues (remote control,
-- replies, events), whose messages never touch the job table.
CREATE TABLE IF NOT EXISTS {bindings} (
    exchange    VARCHAR(255) NOT NULL,
    routing_key VARCHAR(255) NOT NULL,
    queue       VARCHAR(255) NOT NULL,
    PRIMARY KEY (exchange, routing_key, queue),
    KEY queue (queue)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {ephemeral_queues} (
    queue       VARCHAR(255) NOT NULL PRIMARY KEY,
    owner       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                COMMENT 'the consumer that uses the queue',
    auto_delete BOOLEAN NOT NULL COMMENT 'whether it goes with its owner',
    expires     DECIMAL(12, 3) NULL DEFAULT NULL COMMENT 'seconds without use after which it goes',
    message_ttl DECIMAL(12, 3) NULL DEFAULT NULL COMMENT 'seconds that its messages are kept',
    touched_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {ephemeral_messages} (
    id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    queue       VARCHAR(255) NOT NULL,
    claim_order TINYINT UNSIGNED NOT NULL COMMENT 'lowest first: 9 less the AMQP priority',
    message     LONGTEXT NOT NULL,
    expires_at  DATETIME(6) NULL DEFAULT NULL COMMENT 'UTC',
    KEY take (queue, claim_order, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 3';
-- What people run a fleet with: queues that may be paused, the consumers that live, how many jobs
-- have ended when, and a view of it all. The view counts with its reader's own privileges.
CREATE TABLE IF NOT EXISTS {queues} (
    queue     VARCHAR(255) NOT NULL PRIMARY KEY,
    paused_at TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'since when nobody claims from it'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {consumers} (
    identity   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY
               COMMENT 'as in the jobs it has claimed, and in the name of its liveness lock',
    name       VARCHAR(255) NOT NULL COMMENT 'of the Celery node, or host:pid',
    queues     TEXT NOT NULL COMMENT 'a JSON array',
    started_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {throughput} (
    queue    VARCHAR(255) NOT NULL,
    minute   DATETIME NOT NULL COMMENT 'UTC; its beginning; 1970 in the row of a queue''s total',
    consumer CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    ended    BIGINT UNSIGNED NOT NULL COMMENT 'jobs that were acknowledged or became dead',
    PRIMARY KEY (queue, minute, consumer),
    KEY minute (minute)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Counts are of the index "claim" alone, and of the few claimed rows. The oldest age is that of the
-- jobs that are first in line, one of each priority.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW {status} AS
SELECT names.queue,
       COALESCE(counts.ready, 0) AS ready,
       COALESCE(counts.scheduled, 0) AS scheduled,
       COALESCE(counts.waiting, 0) AS waiting,
       COALESCE(claimed.running, 0) AS running,
       COALESCE(counts.dead, 0) AS dead,
       COALESCE(counts.dequeued, 0) - COALESCE(claimed.running, 0) AS done,
       first.age AS oldest_age,
       ROUND(COALESCE(lately.rate, 0), 3) AS rate,
       paused.queue IS NOT NULL AS paused
FROM (SELECT queue FROM {jobs} GROUP BY queue
      UNION SELECT queue FROM {queues}
      UNION SELECT queue FROM {bindings} WHERE exchange = '' AND routing_key = queue) AS names
LEFT JOIN (SELECT queue, SUM(IF(job_status = 0, jobs, 0)) AS ready,
                  SUM(IF(job_status = 1, jobs, 0)) AS dequeued,
                  SUM(IF(job_status = 2, jobs, 0)) AS scheduled,
                  SUM(IF(job_status = 3, jobs, 0)) AS dead,
                  SUM(IF(job_status = 4, jobs, 0)) AS waiting
           FROM (SELECT queue, job_status, COUNT(*) AS jobs
                 FROM {jobs} GROUP BY queue, job_status) AS grouped
           GROUP BY queue) AS counts ON counts.queue = names.queue
LEFT JOIN (SELECT queue, COUNT(*) AS running
           FROM {jobs} WHERE owner IS NOT NULL AND job_status = 1
           GROUP BY queue) AS claimed ON claimed.queue = names.queue
LEFT JOIN (SELECT line.queue,
                  MAX(TIMESTAMPDIFF(SECOND, COALESCE(job.ready_at, job.created_at), NOW())) AS age
           FROM (SELECT queue, MIN(id) AS id FROM {jobs} WHERE job_status = 0
                 GROUP BY queue, job_status, claim_order) AS line
           JOIN {jobs} AS job ON job.id = line.id
           GROUP BY line.queue) AS first ON first.queue = names.queue
LEFT JOIN (SELECT queue,
                  SUM(ended * LEAST(60, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP() - INTERVAL 1 MINUTE,
                                                      minute + INTERVAL 1 MINUTE)) / 60) / 60 AS rate
           FROM {throughput} WHERE minute > UTC_TIMESTAMP() - INTERVAL 2 MINUTE
           GROUP BY queue) AS lately ON lately.queue = names.queue
LEFT JOIN {queues} AS paused ON paused.queue = names.queue AND paused.paused_at IS NOT NULL;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 4';
-- For programs that have no client of ours: store a job and wake an idle worker, with one CALL.
-- The caller needs EXECUTE and nothing else: the rest is done with the rights of who migrated, and
-- KILL QUERY reaches the workers when they log in as that user (one without SYSTEM_USER, in MySQL).
-- The bells' names are those of jobs/lock_names.py.
DROP PROCEDURE IF EXISTS {publish};

CREATE PROCEDURE {publish}(
    IN queue_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    IN message    LONGTEXT CHARACTER SET utf8mb4
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'celery-mysqllock 8: stores a job, wakes an idle worker, and gives row and task id'
BEGIN
    DECLARE claim_order INT DEFAULT 9;
    DECLARE slot INT DEFAULT 0;
    DECLARE task_id VARCHAR(255) CHARACTER SET utf8mb4;
    DECLARE place, bell VARCHAR(400) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
    DECLARE row_id, sleeper BIGINT UNSIGNED;
    SET queue_name = COALESCE(NULLIF(queue_name, ''), 'celery');
    IF JSON_VALID(message) THEN
        IF JSON_TYPE(JSON_EXTRACT(message, '$.id')) = 'STRING' THEN
            SET task_id = LEFT(JSON_UNQUOTE(JSON_EXTRACT(message, '$.id')), 255);
        END IF;
        IF JSON_TYPE(JSON_EXTRACT(message, '$.priority')) = 'INTEGER' THEN
            SET claim_order = GREATEST(0, LEAST(9, 9 - JSON_EXTRACT(message, '$.priority')));
        END IF;
    END IF;
    IF task_id IS NULL THEN
        SET task_id = UUID();
    END IF;
    INSERT INTO {jobs} (message, queue, claim_order, task_id)
    VALUES (message, queue_name, claim_order, task_id);
    SET row_id = LAST_INSERT_ID();
    SET place = CONCAT(DATABASE(), '.{table}');
    SET bell = CONCAT(IF(@@lower_case_table_names, LOWER(place), place), ':',
                      TRIM(TRAILING ' ' FROM queue_name));
    SET bell = CONCAT('~bell:', LEFT(SHA2(bell, 256), 32), ':');
    WHILE slot < 8 AND sleeper IS NULL DO
        SET sleeper = IS_USED_LOCK(CONCAT(bell, slot)), slot = slot + 1;
    END WHILE;
    IF sleeper IS NOT NULL THEN
        BEGIN
            -- it has ended, or is another user's: the sweeper finds the job
            DECLARE CONTINUE HANDLER FOR 1094, 1095 BEGIN END;
            KILL QUERY sleeper;
        END;
    END IF;
    SELECT row_id AS id, task_id;
END;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 5';
-- What makes those wait for each other who decide which job of an order_key is next: a row for each
-- of 1000 groups of keys. Keys come and go, and a row for each would stay, or have to be removed.
CREATE TABLE IF NOT EXISTS {order_locks} (
    slot SMALLINT UNSIGNED NOT NULL PRIMARY KEY COMMENT 'CRC32(order_key) % 1000'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC COMMENT = 'locks for the order of jobs; its rows stay as they are';

INSERT IGNORE INTO {order_locks} (slot)
SELECT a.d + 10 * b.d + 100 * c.d
FROM (SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
      UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8
      UNION ALL SELECT 9) AS a
CROSS JOIN (SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
      UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8
      UNION ALL SELECT 9) AS b
CROSS JOIN (SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
      UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8
      UNION ALL SELECT 9) AS c;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 6';
-- What the beats share: the periodic tasks, of the app's configuration and of whoever INSERTs one,
-- with how far each has come; and the ticks, one row for each that a beat has taken upon itself, so
-- that no two of them send the same.
CREATE TABLE IF NOT EXISTS {schedule} (
    name            VARCHAR(255) NOT NULL PRIMARY KEY,
    task            VARCHAR(255) NOT NULL COMMENT 'the name of the task',
    schedule        VARCHAR(255) NOT NULL
                    COMMENT 'seconds, or minute hour day_of_month month_of_year day_of_week',
    timezone        VARCHAR(64)  NULL DEFAULT NULL
                    COMMENT 'in which the fields count, such as Europe/Berlin; NULL: the app''s',
    args            LONGTEXT     NULL DEFAULT NULL COMMENT 'a JSON array',
    kwargs          LONGTEXT     NULL DEFAULT NULL COMMENT 'a JSON object',
    options         LONGTEXT     NULL DEFAULT NULL
                    COMMENT 'a JSON object: queue, priority, expires ... as apply_async takes them',
    enabled         BOOLEAN      NOT NULL DEFAULT TRUE,
    from_config     BOOLEAN      NOT NULL DEFAULT FALSE
                    COMMENT 'whether the configuration of the app has it, and overwrites it',
    last_due_at     DATETIME(6)  NULL DEFAULT NULL
                    COMMENT 'UTC; written by the beat: the last tick, from which the next counts',
    counts_for      VARCHAR(400) NULL DEFAULT NULL
                    COMMENT 'written by the beat: the schedule that last_due_at belongs to',
    last_run_at     DATETIME(6)  NULL DEFAULT NULL COMMENT 'UTC; written by the beat',
    total_run_count BIGINT UNSIGNED NOT NULL DEFAULT 0,
    updated_at      TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
                    ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'by anybody but the beat'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {ticks} (
    name    VARCHAR(255) NOT NULL,
    due_at  DATETIME(6)  NOT NULL COMMENT 'UTC',
    task_id VARCHAR(255) NULL DEFAULT NULL,
    sent_at DATETIME(6)  NULL DEFAULT NULL COMMENT 'UTC; NULL: not, or not yet',
    reason  TEXT         NULL DEFAULT NULL COMMENT 'why it was not sent',
    PRIMARY KEY (name, due_at),
    KEY due_at (due_at),
    KEY sent_at (sent_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 7';
-- What tells a job that ran from one that was only claimed, and a job that is due from one that was
-- put aside; the types of exchanges, which every publisher has to know; and room for the names of
-- many queues. From here on the table's comment holds the namespace of its programs, where that is
-- not the database's name. LOCK=NONE: reads and writes go on, or the server refuses.
ALTER TABLE {jobs}
    ADD recoveries     INT UNSIGNED NOT NULL DEFAULT 0
                       COMMENT 'how often it was taken back from a dead consumer',
    ADD started_at     TIMESTAMP(6) NULL DEFAULT NULL
                       COMMENT 'since when this delivery is known to run',
    ADD deferred_since TIMESTAMP(6) NULL DEFAULT NULL
                       COMMENT 'since when it has been put aside, and keeps its place (job_status 2)',
    LOCK = NONE;

-- What an older release has put aside: a scheduled job that had been delivered.
UPDATE {jobs} SET deferred_since = CURRENT_TIMESTAMP(6)
WHERE due_at IS NOT NULL AND job_status = 2 AND deliveries > 0 AND deferred_since IS NULL;

CREATE TABLE IF NOT EXISTS {exchanges} (
    exchange VARCHAR(255) NOT NULL PRIMARY KEY,
    type     VARCHAR(32)  NOT NULL COMMENT 'direct, topic or fanout'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- A table of few rows, which the server copies.
ALTER TABLE {consumers} MODIFY queues MEDIUMTEXT NOT NULL COMMENT 'a JSON array';

ALTER TABLE {jobs} COMMENT = 'celery-mysqllock schema 8{namespace}';
