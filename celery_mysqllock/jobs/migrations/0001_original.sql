-- The table as its first description has it: a message, and whether somebody has dequeued it.
-- A table of this shape that is already there is taken over with its rows; see adoption.sql.
CREATE TABLE {jobs} (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message    LONGTEXT        NOT NULL,
    job_status TINYINT         NOT NULL DEFAULT 0
               COMMENT '0 queued, 1 dequeued, 2 scheduled, 3 dead, 4 waiting'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COMMENT = 'celery-mysqllock schema 1';
