"""TASKS maps a task's name to its record. Differs: of the paper's tasks (RoboCasa's, LIBERO's and a real robot's) these
are seventeen, rebuilt from simple shapes.
"""

from sim.tasks import door, drawer, place, tabletop, turn

TASKS = {task.name: task for family in (drawer, door, turn, place, tabletop) for task in family.TASKS}
