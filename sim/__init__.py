"""The simulator layer: tasks, fixtures, scripted experts and one robosuite environment.

Importing `sim` or `sim.tasks` needs numpy only; `sim.env` needs mujoco, robosuite and OpenGL.
"""

from functools import cache

from files import InputError


class SimError(InputError):
    """The simulator cannot run here; the message is one line that names the problem and the remedy."""


@cache
def shared_env(task, cameras=("front",), size=64):
    """The simulator of a task, a sim.env.TaskEnv, which each process builds once. cameras: a tuple."""
    from sim.env import TaskEnv

    return TaskEnv(task, cameras, size)
