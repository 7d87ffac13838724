"""The table of tasks: TASKS maps a task's name to its record. Needs no simulator."""

from sim.task import Task
from sim.tasks import drawer

TASKS: dict[str, Task] = {task.name: task for task in drawer.TASKS}
