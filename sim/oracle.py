"""What a perfect dream would show: the expert's video of a scene, as it lies ahead of a state or is made from there."""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from sim.experts import expert


@dataclass
class ExpertVideo:
    """The expert's episode in one scene: frames (N, V, 3, H, W) uint8 and joint positions (N, Q), one row a step."""

    frames: np.ndarray
    qpos: np.ndarray

    def ahead(self, env, count, stride):
        """The `count` frames that follow, `stride` steps apart, where the expert stood most nearly as `env` does now,
        over all joint positions, radians and metres alike: (count, V, 3, H, W) uint8. Past its end the last is held.

        By place and not by the clock: a robot that is late is shown what comes next, not what it has missed.
        """
        now = np.abs(self.qpos - env.sim.data.qpos).sum(axis=1).argmin()
        return self.frames[np.minimum(now + stride * np.arange(1, count + 1), len(self.frames) - 1)]


class ReactingExpert:
    """An expert in a twin of the scene, let loose from wherever the robot is.

    Its script starts at the beginning: an expert that finds the robot in mid-pull lets go, backs off and grasps anew.
    So this video is of a way to the goal, and not of the shortest.
    """

    def __init__(self, env, seed, shift="none"):
        """The twin is an environment of its own: it may be moved on and put back, and `env` feels nothing of it."""
        self.twin, self.scene = type(env)(env.task, env.cameras, env.size), (seed, shift)

    def ahead(self, env, count, stride):
        """The `count` frames that a fresh expert makes from the present state of `env`, `stride` steps apart:
        (count, V, 3, H, W) uint8. Where its script ends, the last is held.
        """
        twin, frames = self.twin, []
        twin.reset(*self.scene)  # the controller and the fingers remember what came before
        twin.set_state(env.state())
        for step, action in enumerate(islice(expert(twin), count * stride), start=1):
            twin.step(action)
            if step % stride == 0:
                frames.append(twin.observe())
        frames += [twin.observe()] * (count - len(frames))
        return np.stack(frames)

    def close(self):
        """Free the twin."""
        self.twin.close()


def record_expert(env, seed, shift="none", until_success=False):
    """What the cameras see while the undisturbed expert solves the episode of a seed, or rarely fails to."""
    env.reset(seed, shift)
    frames, qpos = [env.observe()], [env.sim.data.qpos.copy()]
    for action in islice(expert(env), env.task.horizon):  # some experts try again until the goal holds
        env.step(action)
        frames.append(env.observe())
        qpos.append(env.sim.data.qpos.copy())
        if until_success and env.success():
            break
    return ExpertVideo(np.stack(frames), np.stack(qpos))
