"""Clips -> training windows. numpy only and no simulator, so that a machine without OpenGL can train.

Axes: N steps of a clip, V cameras, T future frames, K actions in a chunk, A action size.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Clip:
    """One demonstration in memory."""

    frames: np.ndarray  # (N, V, 3, H, W) uint8
    actions: np.ndarray | None  # (N, A) float32, as in the file or poses; None for action-free video
    prompt: str
    task: str
    poses: np.ndarray | None = None  # (N, 10) position, rotation, opening of the fingers; None where unknown
    source: tuple = ()  # (file, demo) that it comes from
    drawn: int = 0  # pixels of a side in the file
    posed: bool = False  # whether the actions are hand poses
    play: bool = False  # random motion: its actions may train the head, its video never the generator


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
        future = frames[np.clip(start + self.offsets, 0, len(frames) - 1)]
        return {"current": frames[start], "future": future} | self.labels(i)

    def labels(self, i):
        """windows[i] without its frames, for training on cached features."""
        c, start = self.index[i]
        clip, K = self.clips[c], self.config.action_horizon
        actions, pad = np.zeros((K, self.config.action_size), np.float32), np.ones(K, bool)
        if clip.actions is not None:
            chunk = clip.actions[start : start + K]
            actions[: len(chunk)], pad[: len(chunk)] = chunk, False
        return {"actions": actions, "pad": pad, "prompt": clip.prompt}

    def with_actions(self):
        """The windows of those clips that have actions."""
        return Windows([clip for clip in self.clips if clip.actions is not None], self.config)

    def without_play(self):
        """The windows that train a generator."""
        return Windows([clip for clip in self.clips if not clip.play], self.config)

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
    """What normalisation needs, a dict: the root mean squares of each view's pixels in [-1, 1], frame_std (V,) of the
    future frames and change_std (V,) of their difference to the current one, over at most `samples` evenly spaced
    windows; and the range of all actions, action_low and action_high (A,).
    """
    change, frame, shown = [], [], windows.without_play()
    for i in np.unique(np.linspace(0, len(shown) - 1, samples).astype(int)):
        window = shown[i]
        current, future = (window[key].astype(np.float32) / 127.5 - 1 for key in ("current", "future"))
        change.append([np.mean(view**2) for view in np.moveaxis(future - current, 1, 0)])
        frame.append([np.mean(view**2) for view in np.moveaxis(future, 1, 0)])
    actions = np.concatenate([clip.actions for clip in windows.clips if clip.actions is not None])
    low, high = pose_range(actions) if windows.config.action_space == "pose" else (actions.min(0), actions.max(0))
    frame_std, change_std = (np.sqrt(np.mean(squares, axis=0)) for squares in (frame, change))
    return {"frame_std": frame_std, "change_std": change_std.clip(min=1e-3), "action_low": low, "action_high": high}


def pose_range(actions):
    """(low, high) of pose actions, (10,) each: one scale for the three axes of position, from the 1st and the 99th
    percentile, so that a few wild values change nothing; rotation and gripper stay as they are.
    """
    low, middle, high = np.percentile(actions[:, :3], (1, 50, 99), axis=0)
    scale = np.concatenate([np.full(3, max((high - low).max() / 2, 1e-3)), np.ones(7)])
    center = np.concatenate([middle, np.zeros(7)])
    return center - scale, center + scale


class PoseWindows(Windows):
    """Windows for the pose estimator: `future` are the frames at its offsets, `actions` (1, 10) the pose at present."""

    def __init__(self, clips, config, offsets, cameras):
        super().__init__(clips, config)
        self.offsets, self.cameras = np.array(offsets), cameras

    def labels(self, i):
        c, start = self.index[i]
        return {"actions": self.clips[c].poses[start][None].astype(np.float32), "pad": np.zeros(1, bool), "prompt": ""}
