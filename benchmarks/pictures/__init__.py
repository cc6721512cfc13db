"""Pictures of ``mysqllock top`` and ``mysqllock web``, of a fleet that is busy on a real server."""
