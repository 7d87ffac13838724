"""The simulator layer: tasks, fixtures, scripted experts and one robosuite environment.

Importing `sim` or `sim.tasks` needs numpy only; `sim.env` needs mujoco, robosuite and OpenGL.
"""


from files import InputError


class SimError(InputError):
    """The simulator cannot run here; the message is one line that names the problem and the remedy."""
