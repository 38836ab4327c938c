"""docs/environments.md documents the observations that the code produces, number by number."""

from pathlib import Path

import pytest

from env import TASKS

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()


def positions(fields):
    """Returns {name: "first–last"} of the numbers of each field."""
    first, found = 0, {}
    for field in fields:
        found[field.name] = f"{first}–{first + field.size - 1}"
        first += field.size
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_number_of_the_observation_is_documented(task, make_task):
    fields = TASKS[task].fields
    full, reference = positions(fields), positions(field for field in fields if field.in_reference)
    for field in fields:
        row = f"| {full[field.name]} | {field.name} | {field.unit} | {field.scale:g} |"
        assert f"{row} {reference.get(field.name, '–')} |" in PAGE
    sizes = make_task(task).obs_dim, make_task(task, observation="reference").obs_dim
    which = "`reach`" if task == "reach" else "`push` and `pick-place`"
    assert f"| {which} | {sizes[0]} | {sizes[1]} |" in PAGE
