"""Names the built-in tasks."""

from env.tasks.base import ArmTask
from env.tasks.pick_place import PickPlace
from env.tasks.push import Push
from env.tasks.reach import Reach

TASKS: dict[str, type[ArmTask]] = {"reach": Reach, "push": Push, "pick-place": PickPlace}
