"""What a perfect dream would show: the expert video of a scene, and the part of it that lies ahead of a state."""

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
