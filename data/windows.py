"""Clips -> training windows. numpy only and no simulator, so that a machine without OpenGL can train.

Axes: N steps of a clip, V cameras, T future frames, K actions in a chunk, A action size.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Clip:
    """One demonstration in memory."""

    frames: np.ndarray  # (N, V, 3, H, W) uint8
    actions: np.ndarray | None  # (N, A) float32; None for action-free video
    prompt: str
    task: str


class Windows:
    """Every training window of some clips; windows[i] starts at one control step of one clip and is a dict of

        current (V,3,H,W) uint8, future (T,V,3,H,W) uint8, actions (K,A) float32, pad (K,) bool, prompt str

    Future frames are video_stride steps apart; past the end of the clip its last frame is held. Actions past the end,
    and all actions of action-free video, are zeros, marked in `pad`, and never in a loss (Differs: the official code
    trains on them). config has video_stride, video_frames, action_horizon and action_size, as videopolicy.Config.
    """

    def __init__(self, clips, config):
        self.clips, self.config = clips, config
        self.offsets = config.video_stride * np.arange(1, config.video_frames + 1)
        self.index = [(c, start) for c, clip in enumerate(clips) for start in range(len(clip.frames))]
        self.tasks = sorted({clip.task for clip in clips})
        task_of = np.array([clips[c].task for c, _ in self.index])
        self.by_task = [np.flatnonzero(task_of == task) for task in self.tasks]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        c, start = self.index[i]
        frames = self.clips[c].frames
        future = frames[np.minimum(start + self.offsets, len(frames) - 1)]
        return {"current": frames[start], "future": future} | self.labels(i)

    def labels(self, i):
        """windows[i] without its frames, for training on cached features."""
        c, start = self.index[i]
        clip, K = self.clips[c], self.config.action_horizon
        actions = np.zeros((K, self.config.action_size), np.float32)
        pad = np.ones(K, bool)
        if clip.actions is not None:
            chunk = clip.actions[start : start + K]
            actions[: len(chunk)] = chunk
            pad[: len(chunk)] = False
        return {"actions": actions, "pad": pad, "prompt": clip.prompt}

    def with_actions(self):
        """The windows of those clips that have actions."""
        return Windows([clip for clip in self.clips if clip.actions is not None], self.config)

    def draw(self, batch_size, key):
        """Indices of the windows of one step, drawn evenly over tasks: a pure function of `key`, a list of integers."""
        rng = np.random.default_rng(key)
        task = rng.integers(len(self.by_task), size=batch_size)
        where = rng.random(batch_size)
        return [int(self.by_task[t][int(u * len(self.by_task[t]))]) for t, u in zip(task, where, strict=True)]


class HalfLabelled:
    """Windows for joint training with few labels: half of every batch has actions, which would otherwise be rare.

    The labelled half trains the generator too: with 5 of 90 demonstrations labelled, half of the generator's training
    video is of those 5. The other half adds nothing to the action loss, which is a mean over the whole batch.
    """

    def __init__(self, windows):
        self.windows, self.labelled = windows, windows.with_actions()

    def __getitem__(self, i):
        windows, index = i
        return windows[index]

    def draw(self, batch_size, key):
        """The batch of one step, pairs of (windows, index) for self[pair]: a pure function of `key`."""
        half = batch_size // 2
        labelled = [(self.labelled, i) for i in self.labelled.draw(half, [*key, 1])]
        return labelled + [(self.windows, i) for i in self.windows.draw(batch_size - half, key)]


def statistics(windows, samples=256):
    """What normalisation needs: a dict of frame_std and change_std (V,), and of action_low and action_high (A,).

    They are the root mean squares of each view's pixels in [-1, 1], of the future frame and of its difference to the
    current one, over at most `samples` evenly spaced windows; and the range of all actions.
    """
    change, frame = [], []
    for i in np.unique(np.linspace(0, len(windows) - 1, samples).astype(int)):
        window = windows[i]
        current, future = (window[key].astype(np.float32) / 127.5 - 1 for key in ("current", "future"))
        change.append([np.mean(view**2) for view in np.moveaxis(future - current, 1, 0)])
        frame.append([np.mean(view**2) for view in np.moveaxis(future, 1, 0)])
    actions = [clip.actions for clip in windows.clips if clip.actions is not None]
    return {
        "frame_std": np.sqrt(np.mean(frame, axis=0)),
        "change_std": np.sqrt(np.mean(change, axis=0)).clip(min=1e-3),
        "action_low": np.min([a.min(0) for a in actions], axis=0),
        "action_high": np.max([a.max(0) for a in actions], axis=0),
    }
