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
