"""The simulator layer: tasks, fixtures, scripted experts and one robosuite environment.

Importing `sim` or `sim.tasks` needs numpy only; `sim.env` needs mujoco, robosuite and OpenGL.
"""

_current = {}  # at most one: (task, cameras, size, drawn) -> its simulator


def shared_env(task, cameras=("front",), size=64, drawn=0):
    """This process's TaskEnv, kept until another is asked for: each takes hundreds of MB. cameras: a tuple."""
    from sim.env import TaskEnv

    asked = task, cameras, size, drawn
    if asked not in _current:
        _current.clear()
        _current[asked] = TaskEnv(*asked)
    return _current[asked]
