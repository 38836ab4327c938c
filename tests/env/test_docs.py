"""docs/environments.md documents the observations that the code produces, number by number."""

from pathlib import Path

import pytest

from env import TASKS

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_every_number_of_the_observation_is_documented(task):
    first = 0
    for field in TASKS[task].fields:
        last = first + field.size - 1
        assert f"| {first}–{last} | {field.name} | {field.unit} | {field.scale:g} |" in PAGE
        first = last + 1
