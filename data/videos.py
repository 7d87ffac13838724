"""A folder of videos with prompts (docs/data.md) -> clips without actions, which train the generator.

Frames of mp4 files are taken at the demonstrations' 20 Hz, whatever the file's own rate, and resized to a square.
"""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from data.robomimic import ENDINGS, RATE, demo_files, read_clips, resize, tell_leftovers
from data.windows import Clip, on_disk
from util.files import InputError, brief

TASK = "videos/"  # all mp4 files are one task in training; no demonstration file can have this name


def read_videos(folder, cameras, size, prompt=None):
    """Every video of a folder as a Clip without actions; `prompt` replaces the prompts of demonstration files."""
    folder = Path(folder)
    options = {"cameras": cameras, "size": size, "prompt": prompt, "labelled": 0}
    clips = [clip for path in demo_files(folder) for clip in read_clips(path, path.stem, **options)[0]]
    endings = [".mp4"] if len(cameras) == 1 else [f".{camera}.mp4" for camera in cameras]
    names = sorted(path.name.removesuffix(endings[0]) for path in folder.glob(f"[!.]*{endings[0]}"))
    taken = (folder / f"{name}{ending}" for name in names for ending in (".txt", *endings))
    tell_leftovers(folder, (*demo_files(folder), *taken), (*ENDINGS, ".txt"))
    if not names and not clips:
        raise InputError(f"--videos {folder}: holds no {', '.join('*' + end for end in endings)}; add them, or .hdf5")
    return clips + on_disk(_clip(folder, name, endings, size) for name in names)


def _clip(folder, name, endings, size):
    """One video, of one file for each camera."""
    text = _prompt(folder / f"{name}.txt")
    views = [_frames(folder / f"{name}{ending}", size) for ending in endings]
    lengths = {len(view) for view in views}
    if len(lengths) > 1:
        raise InputError(f"{folder / name}.*.mp4: cameras of {sorted(lengths)} frames; cut them to one length")
    frames = np.stack(views, axis=1)  # (N, V, size, size, 3)
    return Clip(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)), None, text, TASK)


def _prompt(path):
    """The prompt of a video, one line of text."""
    try:
        (text,) = path.read_text(encoding="utf-8-sig").strip().splitlines()
    except (FileNotFoundError, ValueError):  # of other text than UTF-8 a UnicodeError
        raise InputError(f"{path}: write there in one line, as UTF-8, what the video of that name shows") from None
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
