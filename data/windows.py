"""Clips -> training windows. numpy only and no simulator, so that a machine without OpenGL can train.

Axes: N steps of a clip, V cameras, T future frames, K actions in a chunk, A action size.
"""

from dataclasses import dataclass, replace

import numpy as np

from util.files import Spool


@dataclass
class Clip:
    """One demonstration."""

    frames: np.ndarray  # (N, V, 3, H, W) uint8
    actions: np.ndarray | None  # (N, A) float32, as in the file or poses; None for action-free video
    prompt: str
    task: str
    poses: np.ndarray | None = None  # (N, 10) position, rotation, opening of the fingers; None where unknown
    source: tuple = ()  # (file, demo) that it comes from
    drawn: int = 0  # pixels of a side in the file
    posed: bool = False  # whether the actions are hand poses
    play: bool = False  # random motion: its actions may train the head, its video never the generator


def on_disk(clips):
    """The clips of an iterable, with their frames in a temporary file; one at a time is in memory."""
    spool = Spool()
    made = [replace(clip, frames=spool.append(clip.frames)) for clip in clips]  # for now the shape
    numbers = spool.mapped(np.uint8) if made else None
    for clip in made:
        count = np.prod(clip.frames)
        clip.frames, numbers = numbers[:count].reshape(clip.frames), numbers[count:]
    return made


class Windows:
    """Every training window of some clips; windows[i] starts at one control step of one clip and is a dict of

        current (V,3,H,W) uint8, future (T,V,3,H,W) uint8, actions (K,A) float32, pad (K,) bool, prompt str

    Future frames are config.video_stride steps apart; past the end of the clip its last frame is held. Actions past the
    end, and all of action-free video, are zeros, marked in `pad`, in no loss (Differs: the official code has them).
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
    """Windows for joint training with few labels: half of every batch has actions, which would otherwise be rare. It
    trains the generator too; the other half adds nothing to the action loss, a mean over the whole batch.
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
    """What normalisation needs: the root mean squares of each view's pixels in [-1, 1], frame_std (V,) of future frames
    and change_std (V,) of their change, over `samples` windows; and the range of actions, action_low, action_high (A,).
    """
    change, frame, shown = [], [], windows.without_play()
    for i in np.unique(np.linspace(0, len(shown) - 1, samples).astype(int)):
        window = shown[i]
        current, future = (window[key].astype(np.float32) / 127.5 - 1 for key in ("current", "future"))
        change.append([np.mean(view**2) for view in np.moveaxis(future - current, 1, 0)])
        frame.append([np.mean(view**2) for view in np.moveaxis(future, 1, 0)])
    actions = np.concatenate([clip.actions for clip in windows.clips if clip.actions is not None])
    low, high = (command_range if windows.config.action_space == "delta" else pose_range)(actions)
    frame_std, change_std = (np.sqrt(np.mean(squares, axis=0)) for squares in (frame, change))
    return {"frame_std": frame_std, "change_std": change_std.clip(min=1e-3), "action_low": low, "action_high": high}


def command_range(actions):
    """(low, high) of commands, (A,) each: minimum and maximum. If they are more than four times as far apart as those
    of all but the half percent at either end, these and a tenth more: one glitch must not stretch the range.
    """
    ordered, few = np.sort(actions, axis=0), len(actions) // 200
    low, high, inner_low, inner_high = ordered[0], ordered[-1], ordered[few], ordered[-1 - few]
    wild, margin = high - low > 4 * (inner_high - inner_low), 0.1 * (inner_high - inner_low)
    return np.where(wild, inner_low - margin, low), np.where(wild, inner_high + margin, high)


def pose_range(actions):
    """The same of poses: one scale for the axes of position, by percentiles; rotation and gripper stay as they are."""
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
