"""The table of tasks: TASKS maps a task's name to its record. Needs no simulator.

Differs: the paper's tasks are those of RoboCasa and LIBERO and of a real robot; these are seventeen of them, rebuilt
from simple shapes.
"""

from sim.task import Task
from sim.tasks import door, drawer, place, tabletop, turn

FAMILIES = (drawer, door, turn, place, tabletop)
TASKS: dict[str, Task] = {task.name: task for family in FAMILIES for task in family.TASKS}
