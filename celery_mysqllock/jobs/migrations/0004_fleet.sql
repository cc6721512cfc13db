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
