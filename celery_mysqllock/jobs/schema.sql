-- The tables as this release makes them, in the order in which they are made.
--
-- migrate reads this file too: what an older table lacks of it, columns, keys or whole tables, is added, and a
-- column whose comment differs gets its definition from here. So each column and key has lines of its own, and
-- nothing but the comment of a column may change within a schema number. Every column that other programs do
-- not know is nullable or has a default: INSERT INTO jobs (message) VALUES (...) is a job.

-- name: jobs
-- One row is one job. The first three columns are the original's; a table that has only these is adopted (see
-- migrate.sql), and they keep the types that they have there. The comment says that the rest of this file is
-- still to come; the last block replaces it.
-- The key "claim" is in the direction of the claim's ORDER BY: a filesort would lock every row of the queue.
CREATE TABLE IF NOT EXISTS {jobs} (
    id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message        LONGTEXT NOT NULL,
    job_status     TINYINT NOT NULL DEFAULT 0
                   COMMENT '0 queued, 1 dequeued, 2 scheduled, 3 dead, 4 waiting',
    queue          VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT 'celery',
    claim_order    TINYINT UNSIGNED NOT NULL DEFAULT 9
                   COMMENT '9 less the AMQP priority: the lowest is claimed first',
    deliveries     INT UNSIGNED NOT NULL DEFAULT 0
                   COMMENT 'how often it has started to run',
    owner          CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                   COMMENT 'the consumer that has claimed it; a dequeued job without one is done',
    due_at         DATETIME(6) NULL DEFAULT NULL
                   COMMENT 'UTC; when a scheduled job (job_status 2) is queued',
    expires_at     DATETIME(6) NULL DEFAULT NULL
                   COMMENT 'UTC; after this it is not run',
    created_at     TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    ready_at       TIMESTAMP(6) NULL DEFAULT NULL
                   COMMENT 'when it was queued, where that was later than created_at',
    claimed_at     TIMESTAMP(6) NULL DEFAULT NULL,
    finished_at    TIMESTAMP(6) NULL DEFAULT NULL
                   COMMENT 'when it was acknowledged or became dead',
    reason         TEXT CHARACTER SET utf8mb4 NULL DEFAULT NULL
                   COMMENT 'why it is dead',
    task_id        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL
                   COMMENT 'the id of the Celery task; NULL where the row gives one',
    unique_key     VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                   COMMENT 'no two jobs have the same; freed when the job is claimed if it begins with queued:, else when the job ends',
    order_key      VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                   COMMENT 'jobs of one key run in the order of their ids (job_status 4: not yet)',
    order_limit    SMALLINT UNSIGNED NULL DEFAULT NULL
                   COMMENT 'how many jobs of the order_key may run at once; NULL: one',
    recoveries     INT UNSIGNED NOT NULL DEFAULT 0
                   COMMENT 'how often it was taken back from a dead consumer',
    started_at     TIMESTAMP(6) NULL DEFAULT NULL
                   COMMENT 'since when this delivery has been known to run',
    deferred_since TIMESTAMP(6) NULL DEFAULT NULL
                   COMMENT 'since when it has been put aside (job_status 2); it keeps its place in the order',
    KEY claim (queue, job_status, claim_order, id),
    KEY owner (owner),
    KEY due (due_at),
    KEY finished (finished_at),
    UNIQUE KEY unique_key (unique_key),
    KEY order_key (order_key, job_status, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COMMENT = 'celery-mysqllock schema 1';

-- name: order_locks
-- A transaction that decides which job of an order_key is next locks a row. There is one for each of 1000
-- groups of keys, as rows of keys that come and go would have to be removed.
CREATE TABLE IF NOT EXISTS {order_locks} (
    slot SMALLINT UNSIGNED NOT NULL PRIMARY KEY COMMENT 'CRC32(order_key) % 1000'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC COMMENT = 'locks for the order of jobs; its rows stay as they are';

-- name: order_slots
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

-- name: queues
-- Queues that are or were paused.
CREATE TABLE IF NOT EXISTS {queues} (
    queue     VARCHAR(255) NOT NULL PRIMARY KEY,
    paused_at TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'since when nobody claims from it'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: consumers
-- The consumers that live, for people to look at.
CREATE TABLE IF NOT EXISTS {consumers} (
    identity   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY
               COMMENT 'as in the jobs it has claimed, and in the name of its liveness lock',
    name       VARCHAR(255) NOT NULL COMMENT 'of the Celery node, or host:pid',
    queues     MEDIUMTEXT NOT NULL COMMENT 'a JSON array',
    started_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: throughput
-- How many jobs have ended when. One row a queue is its total, so that old minutes can go.
CREATE TABLE IF NOT EXISTS {throughput} (
    queue    VARCHAR(255) NOT NULL,
    minute   DATETIME NOT NULL COMMENT 'UTC; its beginning; 1970 in the row of a queue''s total',
    consumer CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    ended    BIGINT UNSIGNED NOT NULL COMMENT 'jobs that were acknowledged or became dead',
    PRIMARY KEY (queue, minute, consumer),
    KEY minute (minute)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: exchanges
-- The types of kombu's exchanges, which every publisher has to know.
CREATE TABLE IF NOT EXISTS {exchanges} (
    exchange VARCHAR(255) NOT NULL PRIMARY KEY,
    type     VARCHAR(32)  NOT NULL COMMENT 'direct, topic or fanout'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: bindings
-- Which queues are bound to which exchange. Every durable queue that was declared is bound to the default
-- exchange, which has no name.
CREATE TABLE IF NOT EXISTS {bindings} (
    exchange    VARCHAR(255) NOT NULL,
    routing_key VARCHAR(255) NOT NULL,
    queue       VARCHAR(255) NOT NULL,
    PRIMARY KEY (exchange, routing_key, queue),
    KEY queue (queue)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: ephemeral_queues
-- Queues for remote control, replies and events. Their messages never touch the job table.
CREATE TABLE IF NOT EXISTS {ephemeral_queues} (
    queue       VARCHAR(255) NOT NULL PRIMARY KEY,
    owner       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL
                COMMENT 'the consumer that uses the queue',
    auto_delete BOOLEAN NOT NULL COMMENT 'whether it goes with its owner',
    expires     DECIMAL(12, 3) NULL DEFAULT NULL COMMENT 'seconds without use after which it goes',
    message_ttl DECIMAL(12, 3) NULL DEFAULT NULL COMMENT 'seconds that its messages are kept',
    touched_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: ephemeral_messages
CREATE TABLE IF NOT EXISTS {ephemeral_messages} (
    id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    queue       VARCHAR(255) NOT NULL,
    claim_order TINYINT UNSIGNED NOT NULL COMMENT 'lowest first: 9 less the AMQP priority',
    message     LONGTEXT NOT NULL,
    expires_at  DATETIME(6) NULL DEFAULT NULL COMMENT 'UTC',
    KEY take (queue, claim_order, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: schedule
-- The periodic tasks that the beats share: those of the application's configuration, and rows that other
-- programs INSERT.
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
    updated_at      TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
                    COMMENT 'by anybody but the beat'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- name: ticks
-- The ticks of the periodic tasks: one row for each that a beat has claimed, so that no two send the same.
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

-- name: status
-- All queues at a glance. The view counts with its reader's own privileges: of the key "claim" alone, and of
-- the few claimed rows. The oldest age is that of the jobs that are first in line, one of each priority.
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

-- name: publish
-- For programs that have no client of ours: store a job and wake an idle worker, with one CALL.
-- The caller needs EXECUTE and nothing else: the rest is done with the rights of the user that migrated, and
-- KILL QUERY reaches the workers when they log in as that user (one without SYSTEM_USER, in MySQL).
-- The bells' names are those of jobs/lock_names.py. A procedure with another comment is replaced.
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

-- name: finish
-- All is there: from now on programs may use the table.
ALTER TABLE {jobs} COMMENT = '{comment}';
