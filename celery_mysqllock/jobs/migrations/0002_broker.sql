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
