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
