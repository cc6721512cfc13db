"""Scripts: several statements in one round trip, and their results by handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.mysql import Address, Script, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Recorder:
    """Stands for a session: records what is sent, and answers with what it was given."""

    def __init__(self, *answers: list[Any]) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []
        self._answers = list(answers)

    def script(self, sql: str, parameters: Mapping[str, object]) -> list[Any]:
        self.sent.append((sql, dict(parameters)))
        return self._answers.pop(0)


def test_statements_go_together_and_each_has_parameters_of_its_own() -> None:
    session = Recorder([1, 2])
    script = Script(session)
    statement = "UPDATE t SET a = %(a)s WHERE id IN %(ids)s OR a = %(a)s"
    one = script.add(statement, a="x", ids=[1])
    two = script.add(statement, a="y", ids=[2, 3])
    script.run()
    assert session.sent == [
        (
            (
                "UPDATE t SET a = %(a_0)s WHERE id IN %(ids_0)s OR a = %(a_0)s; "
                "UPDATE t SET a = %(a_1)s WHERE id IN %(ids_1)s OR a = %(a_1)s"
            ),
            {"a_0": "x", "ids_0": [1], "a_1": "y", "ids_1": [2, 3]},
        )
    ]
    assert (one.changed, two.changed) == (1, 2)


def test_parameters_whose_names_end_in_a_number_are_not_mixed_up() -> None:
    session = Recorder([[(1,)], [(2,)]])
    script = Script(session)
    script.add("SELECT %(key_1)s", key_1="a")
    script.add("SELECT %(key)s, %(key_1)s", key="b", key_1="c")
    script.run()
    ((sql, values),) = session.sent
    assert sql % values == "SELECT a; SELECT b, c"


def test_values_that_a_statement_does_not_have_are_not_sent_and_a_missing_one_is_an_error() -> None:
    session = Recorder([[]])
    script = Script(session)
    script.add("SELECT %(id)s", id=1, message="long")
    script.run()
    assert session.sent == [("SELECT %(id_0)s", {"id_0": 1})]
    with pytest.raises(KeyError, match="id"):
        script.add("SELECT %(id)s", message="long")


def test_a_percent_sign_that_stands_for_itself_stays_one() -> None:
    session = Recorder([[]])
    script = Script(session)
    script.add("SELECT '100 %%', '%%(name)s', %(name)s", name="x")
    script.run()
    ((sql, values),) = session.sent
    assert sql % values == "SELECT '100 %', '%(name)s', x"


def test_each_run_sends_what_was_added_since_the_one_before() -> None:
    session = Recorder([0, [(7,)]], [1, 0])
    script = Script(session)
    script.add("BEGIN")
    found = script.add("SELECT id FROM t WHERE a = %(a)s", a=1)
    script.run()
    changed = script.add("DELETE FROM t WHERE id IN %(ids)s", ids=[row[0] for row in found.rows])
    script.add("COMMIT")
    script.run()
    script.run()
    assert [sql for sql, _ in session.sent] == [
        "BEGIN; SELECT id FROM t WHERE a = %(a_1)s",
        "DELETE FROM t WHERE id IN %(ids_0)s; COMMIT",
    ]
    assert session.sent[1][1] == {"ids_0": [7]}
    assert changed.changed == 1


def test_a_result_is_not_there_before_its_statement_has_run() -> None:
    result = Script(Recorder()).add("SELECT 1")
    with pytest.raises(LookupError, match="SELECT 1"):
        _ = result.rows
    with pytest.raises(LookupError, match="SELECT 1"):
        _ = result.changed


def test_rows_are_no_count_and_a_count_is_no_rows() -> None:
    script = Script(Recorder([[(1,)], 3]))
    found, changed = script.add("SELECT 1"), script.add("DELETE FROM t")
    script.run()
    with pytest.raises(LookupError, match="SELECT 1"):
        _ = found.changed
    with pytest.raises(LookupError, match="DELETE"):
        _ = changed.rows


def test_no_rows_are_an_empty_list() -> None:
    script = Script(Recorder([[]]))
    found = script.add("SELECT 1 FROM t WHERE FALSE")
    script.run()
    assert found.rows == []


def test_a_statement_that_is_two_is_noticed() -> None:
    script = Script(Recorder([0, 0]))
    script.add("BEGIN; COMMIT")
    with pytest.raises(ValueError, match="zip"):
        script.run()


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE things (id INT PRIMARY KEY, text VARCHAR(20))")
        yield session


def test_a_transaction_of_several_round_trips(session: Session) -> None:
    with session.exclusive():
        script = Script(session)
        script.add("BEGIN")
        stored = [
            script.add("INSERT INTO things VALUES (%(id)s, %(text)s)", id=number, text=text)
            for number, text in enumerate(["a", "50 % off", "Grüße; 'x'"])
        ]
        found = script.add("SELECT id, text FROM things WHERE id > %(id)s ORDER BY id", id=0)
        script.run()
        assert [one.changed for one in stored] == [1, 1, 1]
        assert found.rows == [(1, "50 % off"), (2, "Grüße; 'x'")]
        gone = script.add(
            "DELETE FROM things WHERE id IN %(ids)s", ids=[row[0] for row in found.rows]
        )
        script.add("COMMIT")
        script.run()
    assert gone.changed == 2
    assert session.query("SELECT text FROM things") == [("a",)]


def test_what_fails_leaves_nothing_and_the_script_can_go_on(session: Session) -> None:
    script = Script(session)
    with session.exclusive():
        script.add("BEGIN")
        stored = script.add("INSERT INTO things VALUES (%(id)s, 'x')", id=1)
        script.add("SELECT no_such_function()")
        with pytest.raises(DatabaseError):
            script.run()
        script.add("ROLLBACK")
        found = script.add("SELECT 1")
        script.run()
    with pytest.raises(LookupError):
        _ = stored.changed
    assert found.rows == [(1,)]
    assert session.query("SELECT * FROM things") == []
