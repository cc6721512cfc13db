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
