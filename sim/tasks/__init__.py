"""The table of tasks: TASKS maps a task's name to its record. Needs no simulator."""

from sim.task import Task
from sim.tasks import door, drawer, place, tabletop, turn

FAMILIES = (drawer, door, turn, place, tabletop)
TASKS: dict[str, Task] = {task.name: task for family in FAMILIES for task in family.TASKS}
