"""Tables of another age, and what a database says of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.schema import publish_procedure

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_SCHEMA_8 = Path(__file__).with_name("schema_8.sql")
_ASKED = {
    "tables": "table_name, table_type, engine, row_format, table_collation, table_comment, "
    "create_options FROM information_schema.tables WHERE table_schema = DATABASE()",
    "columns": "table_name, ordinal_position, column_name, column_type, is_nullable, "
    "column_default, extra, character_set_name, collation_name, column_comment "
    "FROM information_schema.columns WHERE table_schema = DATABASE()",
    "keys": "table_name, index_name, seq_in_index, column_name, non_unique, collation, sub_part, "
    "index_type FROM information_schema.statistics WHERE table_schema = DATABASE()",
    "views": "table_name, view_definition, check_option, security_type "
    "FROM information_schema.views WHERE table_schema = DATABASE()",
    "routines": "routine_name, routine_definition, routine_comment, security_type, "
    "sql_data_access FROM information_schema.routines WHERE routine_schema = DATABASE()",
    "parameters": "specific_name, ordinal_position, parameter_mode, parameter_name, "
    "dtd_identifier, collation_name FROM information_schema.parameters "
    "WHERE specific_schema = DATABASE()",
}


def make_schema_8(
    session: Session, table: str = "jobs", *, namespace: str = "", adopted: str | None = None
) -> None:
    """Make the tables as commit 92f32b3 makes them.

    Args:
        session: A session in an empty database.
        table: The job table's name.
        namespace: The namespace that the table remembers, empty for the database's name.
        adopted: The columns of a three-column table that the release has adopted, None for one that
            it has created.
    """
    sql = _SCHEMA_8.read_text("utf-8").replace("{table}", table)
    sql = sql.replace("{namespace}", f" namespace={namespace}" if namespace else "")
    names = {"jobs": table, "publish": publish_procedure(table), **table_names(table)}
    for kind, name in names.items():
        sql = sql.replace(f"{{{kind}}}", f"`{name}`")
    if adopted is not None:
        _, _, rest = sql.partition(";\n")
        sql = f"CREATE TABLE `{table}` {adopted};\n{rest}"
    session.script(sql)


def described(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the server says of the database's tables, without the database's name."""
    within = f"`{session.database}`."
    return {
        what: sorted(
            (
                tuple(
                    value.replace(within, "") if isinstance(value, str) else value for value in row
                )
                for row in session.query(f"SELECT {asked}")
            ),
            key=str,
        )
        for what, asked in _ASKED.items()
    }
