"""TASKS maps a task's name to its record. Differs: of the paper's tasks (RoboCasa's, LIBERO's and a real robot's) these
are seventeen, rebuilt from simple shapes.
"""

from sim.tasks import open_close, place, tabletop, turn

TASKS = {task.name: task for family in (open_close, turn, place, tabletop) for task in family.TASKS}
