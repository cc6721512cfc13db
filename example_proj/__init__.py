"""An application that uses celery-mysqllock, as a user would write it."""
