"""A folder of videos with prompts -> clips without actions: video from anywhere, for the generator to learn from.

    videos/anything.mp4           what one camera saw        (several cameras: anything.front.mp4, anything.side.mp4)
    videos/anything.txt           the sentence that says what is done in it
    videos/<Task>.hdf5            demonstrations, whose actions are not used

Frames of mp4 files are taken at the demonstrations' 20 Hz, whatever the file's own rate, and resized (one that is not
square is squeezed). Needs imageio and imageio-ffmpeg, and no simulator.
"""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from data.robomimic import demo_files, memory_bytes, read_clips, resize
from data.windows import Clip
from util.files import InputError

TASK = "videos/"  # the one task that all mp4 files are to training; no demonstration file can have this name
RATE = 20  # frames per second of a clip: one per control step


def read_videos(folder, cameras, size, prompt=None):
    """Every video of a folder as a Clip (N, V, 3, size, size) uint8 without actions. mp4 files together are one task,
    TASK; a demonstration file is of the task that it is named by, and `prompt`, where given, is its sentence.

    InputError for an empty folder, a file that is no video, a missing or empty prompt, cameras of different lengths.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--videos {folder}: no such folder; it should hold NAME.mp4 files and NAME.txt prompts")
    of_all = {"cameras": cameras, "size": size, "prompt": prompt, "labelled": 0}
    clips = [clip for path in demo_files(folder) for clip in read_clips(path, path.stem, **of_all)[0]]
    endings = [".mp4"] if len(cameras) == 1 else [f".{camera}.mp4" for camera in cameras]
    names = sorted(path.name.removesuffix(endings[0]) for path in folder.glob(f"*{endings[0]}"))
    if not names and not clips:
        needed = f"one for each of {', '.join(cameras)}, or demonstrations as .hdf5"
        raise InputError(f"--videos {folder}: holds no *{endings[0]} files; {needed}")
    left = int(0.25 * memory_bytes() / (3 * size**2))  # frames that all videos together may have
    for name in names:
        prompt = _prompt(folder / f"{name}.txt")
        views = [_frames(folder / f"{name}{ending}", size, left // len(endings)) for ending in endings]
        left -= sum(map(len, views))
        if len({len(view) for view in views}) > 1:
            found = ", ".join(str(len(view)) for view in views)
            raise InputError(f"{folder / name}.*.mp4: the cameras have {found} frames; cut them to the same number")
        frames = np.stack(views, axis=1)  # (N, V, size, size, 3)
        clips.append(Clip(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)), None, prompt, TASK))
    return clips


def _prompt(path):
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: missing or not text; write there what the video of that name shows") from None
    if not text or "\n" in text:
        raise InputError(f"{path}: holds {'several lines' if text else 'nothing'}; one sentence is needed")
    return text


def _frames(path, size, most):
    """The frames of a video at RATE, (N, size, size, 3); InputError unless there are from two to `most`."""
    frames, at_rate = [], ["-vf", f"fps={RATE}"]  # ffmpeg leaves frames out, or repeats them
    try:
        with imageio.get_reader(path, format="FFMPEG", output_params=at_rate) as reader:
            for frame in reader:
                frames.append(resize(frame[None], size)[0])
                if len(frames) > most:
                    raise InputError(f"{path}: more than {most} frames, too many for this machine's memory; cut it")
    except InputError:
        raise
    except ImportError:
        raise InputError("--videos: needs imageio-ffmpeg; install it with pip install -r requirements.txt") from None
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:  # what imageio makes of other bytes
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable video ({reason}); convert it to mp4") from None
    if len(frames) < 2:
        raise InputError(f"{path}: {len(frames)} frames at {RATE} Hz; at least 2 are needed")
    return np.stack(frames)
