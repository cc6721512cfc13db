-- For programs that have no client of ours: store a job and wake an idle worker, with one CALL.
-- The caller needs EXECUTE and nothing else: the rest is done with the rights of who migrated, and
-- KILL QUERY reaches the workers when they log in as that user (one without SYSTEM_USER, in MySQL).
-- The bells' names are those of jobs/bell.py, made as in mysql/named_lock.py.
DROP PROCEDURE IF EXISTS {publish};

CREATE PROCEDURE {publish}(
    IN queue_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    IN message    LONGTEXT CHARACTER SET utf8mb4
)
    MODIFIES SQL DATA
    SQL SECURITY DEFINER
    COMMENT 'celery-mysqllock: stores a job, wakes an idle worker, and gives row and task id'
BEGIN
    DECLARE claim_order INT DEFAULT 9;
    DECLARE slot INT DEFAULT 0;
    DECLARE at INT DEFAULT 1;
    DECLARE is_plain, is_replaced BOOLEAN DEFAULT FALSE;
    DECLARE task_id VARCHAR(255) CHARACTER SET utf8mb4;
    DECLARE bell, readable, letter VARCHAR(400) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
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
    SET bell = CONCAT({namespace}, ':bell:', queue_name, ':');
    SET is_plain = bell REGEXP '^[a-z0-9_.:-]+$' COLLATE utf8mb4_bin AND CHAR_LENGTH(bell) < 64, readable = '';
    IF NOT is_plain THEN
        SET is_plain = CHAR_LENGTH(bell) < 64;
        WHILE at <= CHAR_LENGTH(bell) AND (is_plain OR CHAR_LENGTH(readable) < 47) DO
            SET letter = SUBSTRING(bell, at, 1), at = at + 1;
            IF LOCATE(letter, 'abcdefghijklmnopqrstuvwxyz0123456789_.:-' COLLATE utf8mb4_bin) THEN
                SET readable = CONCAT(readable, letter), is_replaced = FALSE;
            ELSEIF LOCATE(letter, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' COLLATE utf8mb4_bin) THEN
                SET readable = CONCAT(readable, LOWER(letter)), is_replaced = FALSE,
                    is_plain = FALSE;
            ELSE
                IF NOT LOCATE(letter, '@/+=,{}[]()<>!?*#%&|^ ' COLLATE utf8mb4_bin) THEN
                    SET is_plain = FALSE;
                END IF;
                SET readable = IF(is_replaced, readable, CONCAT(readable, '_')), is_replaced = TRUE;
            END IF;
        END WHILE;
    END IF;
    WHILE slot < 8 AND sleeper IS NULL DO
        SET letter = CONCAT(slot), slot = slot + 1;
        SET sleeper = IS_USED_LOCK(IF(
            is_plain, CONCAT(bell, letter),
            CONCAT(LEFT(CONCAT(readable, letter), 47), '~',
                   LEFT(SHA2(CONCAT(bell, letter), 256), 16))
        ));
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
