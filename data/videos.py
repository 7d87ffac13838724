"""A folder of videos with prompts -> clips without actions, which train the generator.

    videos/anything.mp4           the video of one camera    (several cameras: anything.front.mp4, anything.side.mp4)
    videos/anything.txt           its prompt: what is done in it
    videos/<Task>.hdf5            demonstrations, whose actions are not used

Frames of mp4 files are taken at the demonstrations' 20 Hz, whatever the file's own rate, and resized to a square.
"""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from data.robomimic import demo_files, memory_bytes, read_clips, resize
from data.windows import Clip
from util.files import InputError, brief

TASK = "videos/"  # all mp4 files are one task in training; no demonstration file can have this name
RATE = 20  # frames per second of a clip: one for each control step


def read_videos(folder, cameras, size, prompt=None):
    """Every video of a folder as a Clip (N, V, 3, size, size) uint8 without actions.

    The mp4 files together are one task, TASK; `prompt`, if given, replaces the prompts of demonstration files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--videos {folder}: no such folder; it should hold NAME.mp4 files and NAME.txt prompts")
    options = {"cameras": cameras, "size": size, "prompt": prompt, "labelled": 0}
    clips = [clip for path in demo_files(folder) for clip in read_clips(path, path.stem, **options)[0]]
    endings = [".mp4"] if len(cameras) == 1 else [f".{camera}.mp4" for camera in cameras]
    names = sorted(path.name.removesuffix(endings[0]) for path in folder.glob(f"*{endings[0]}"))
    if not names and not clips:
        raise InputError(f"--videos {folder}: holds no {', '.join('*' + end for end in endings)}; add them, or .hdf5")
    left = int(0.25 * memory_bytes() / (3 * size**2))  # frames that all videos together may have
    for name in names:
        text = _prompt(folder / f"{name}.txt")
        views = [_frames(folder / f"{name}{ending}", size) for ending in endings]
        lengths = {len(view) for view in views}
        if len(lengths) > 1:
            raise InputError(f"{folder / name}.*.mp4: cameras of {sorted(lengths)} frames; cut them to one length")
        if (left := left - sum(map(len, views))) < 0:
            raise InputError(f"--videos {folder}: does not fit in memory; take fewer or shorter videos")
        frames = np.stack(views, axis=1)  # (N, V, size, size, 3)
        clips.append(Clip(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)), None, text, TASK))
    return clips


def _prompt(path):
    """The prompt of a video, one line of text."""
    try:
        (text,) = path.read_text().strip().splitlines()
    except (OSError, ValueError):
        raise InputError(f"{path}: write there in one line what the video of that name shows") from None
    return text


def _frames(path, size):
    """The frames of a video at RATE, (N, size, size, 3)."""
    try:
        # ffmpeg leaves frames out, or repeats them.
        with imageio.get_reader(path, format="FFMPEG", output_params=["-vf", f"fps={RATE}"]) as reader:
            frames = [resize(frame[None], size)[0] for frame in reader]
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:  # what imageio makes of other bytes
        raise InputError(f"{path}: not a readable video ({brief(error)}); convert it to mp4") from None
    if len(frames) < 2:
        raise InputError(f"{path}: {len(frames)} frames at {RATE} Hz; at least 2 are needed")
    return np.stack(frames)
