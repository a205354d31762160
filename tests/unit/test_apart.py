"""A run of several collections goes on where one fails, and says in the end which did and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from vecmig.config import Config
from vecmig.errors import (
    BudgetSpent,
    ConfigError,
    DatabaseError,
    DatabaseUnreachable,
    EmbedderError,
    GateRefused,
    OutOfRoom,
    TerminalEmbedderError,
    VecmigError,
    together,
)
from vecmig.events import Event, Warned
from vecmig.runner.apart import Apart
from vecmig.runner.project import Project


def fail(apart: Apart, *failures: tuple[str, VecmigError]) -> None:
    """Let collections fail one after the other."""
    for name, error in failures:
        with apart.each(name):
            raise error


@pytest.mark.parametrize(
    ("errors", "worst"),
    [
        ([GateRefused("g"), EmbedderError("e")], "e"),
        ([EmbedderError("e"), ConfigError("c")], "c"),
        ([ConfigError("c"), DatabaseError("d")], "d"),
        ([DatabaseError("first"), DatabaseError("second")], "first"),
    ],
)
def test_the_worst_is_raised_with_what_the_others_say(errors: list[VecmigError], worst: str) -> None:
    apart = Apart()
    fail(apart, *((f"collection {at}", error) for at, error in enumerate(errors)))
    with pytest.raises(VecmigError, match=f"^collection . *: {worst}$") as raised:
        apart.raise_worst({"third": 3})
    assert raised.value is next(error for error in errors if error.message.endswith(worst))
    assert "too: " in raised.value.state
    assert raised.value.done == {"third": 3}
    assert together(errors) is raised.value


def test_of_one_collection_alone_the_error_is_as_it_was() -> None:
    events: list[Event] = []
    apart = Apart(events.append, several=False)
    fail(apart, ("a", ConfigError("no table", state="Nothing was changed.", hint="Make it")))
    with pytest.raises(ConfigError, match=r"^no table$") as raised:
        apart.raise_worst()
    assert (raised.value.state, raised.value.hint, events) == ("Nothing was changed.", "Make it", [])


def test_without_a_failure_nothing_is_raised() -> None:
    Apart().raise_worst()


def test_each_failure_is_told_where_it_happens() -> None:
    events: list[Event] = []
    fail(Apart(events.append), ("a", ConfigError("no table")))
    assert [event.message for event in events if isinstance(event, Warned)] == ["a is left out: no table"]


@pytest.mark.parametrize("end", [DatabaseUnreachable("away"), OutOfRoom("full")])
def test_what_every_collection_would_meet_ends_the_run(end: VecmigError) -> None:
    apart = Apart()
    fail(apart, ("a", ConfigError("no table")))
    with pytest.raises(type(end)) as raised:
        fail(apart, ("b", end))
    assert raised.value.state == "a failed too: no table"


def test_of_many_failures_some_are_told_and_all_are_counted() -> None:
    apart = Apart()
    fail(apart, *((f"table_{number}", ConfigError(f"table_{number} is gone")) for number in range(40)))
    with pytest.raises(ConfigError, match=r"^table_0 is gone$") as raised:
        apart.raise_worst()
    lines = raised.value.state.splitlines()
    assert lines[-1] == "31 more failed."
    assert len(lines) == 9


def test_a_provider_is_waited_for_once_for_all_collections_of_its_tag(tmp_path: Path) -> None:
    config = Config(None, "postgresql://nowhere/none", tmp_path, (tmp_path,), tmp_path / "collections.yaml")
    apart, project = Apart(), Project(config)

    def wait(tag: str) -> float:
        with apart.asking(project, tag) as asking:
            return asking.config.provider_wait

    for error, waits in ((BudgetSpent("spent"), True), (TerminalEmbedderError("no answer"), False)):
        with pytest.raises(EmbedderError), apart.asking(project, "tag"):
            raise error
        assert (wait("tag") > 0) is waits
    assert wait("other") > 0
