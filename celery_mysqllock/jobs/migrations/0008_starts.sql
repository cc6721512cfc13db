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
