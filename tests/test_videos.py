"""Folders of mp4 files with prompts."""

import json

import imageio.v2 as imageio
import numpy as np
import pytest
from common import command, write_demos

from data.videos import TASK, read_videos
from util.cli import InputError


def write_video(path, frames, fps=20, size=(48, 32), prompt="close the drawer"):
    """An mp4 that grows lighter by the frame, and its prompt."""
    levels = np.linspace(0, 240, frames).astype(np.uint8)
    pictures = np.broadcast_to(levels[:, None, None, None], (frames, *size, 3))
    imageio.mimwrite(path, pictures, fps=fps, macro_block_size=None, quality=9)
    path.parent.joinpath(path.name.split(".")[0] + ".txt").write_text(prompt + "\n")


@pytest.mark.parametrize("fps, frames, expected", [(20, 30, 30), (40, 30, 15), (10, 15, 30)])
def test_frames_are_taken_at_twenty_hertz(tmp_path, fps, frames, expected):
    """Catches video whose motion is too fast or too slow, since the file's own rate was ignored."""
    write_video(tmp_path / "a.mp4", frames, fps)
    (clip,) = read_videos(tmp_path, ["front"], 16)
    assert abs(len(clip.frames) - expected) <= 1 and clip.frames.shape[1:] == (1, 3, 16, 16)
    assert clip.actions is None and clip.prompt == "close the drawer" and clip.task == TASK
    level = clip.frames.mean(axis=(1, 2, 3, 4))
    assert (np.diff(level) > -2).all() and level[-1] - level[0] > 200
    shown = np.round(level / (240 / (frames - 1)))  # which of the file's frames each one is
    assert np.abs(shown - np.arange(len(shown)) * fps / 20).max() <= 1  # evenly spaced: no judder


def test_several_cameras_lie_in_several_files(tmp_path):
    """Catches views that are mixed up, and cameras that do not belong together."""
    write_video(tmp_path / "a.left.mp4", 12)
    write_video(tmp_path / "a.right.mp4", 12)
    (clip,) = read_videos(tmp_path, ["left", "right"], 16)
    assert clip.frames.shape == (12, 2, 3, 16, 16)
    write_video(tmp_path / "a.right.mp4", 8)
    with pytest.raises(InputError, match="12, 8 frames"):
        read_videos(tmp_path, ["left", "right"], 16)


@pytest.mark.parametrize("what", ["no folder", "empty", "no prompt", "empty prompt", "no video", "one frame"])
def test_mistakes_are_named(tmp_path, what):
    """Catches a traceback of the video reader, and video without words that trains in silence."""
    folder = tmp_path / "videos"
    if what != "no folder":
        folder.mkdir()
    if what not in ("no folder", "empty"):
        write_video(folder / "a.mp4", 1 if what == "one frame" else 5)
    if what == "no prompt":
        (folder / "a.txt").unlink()
    if what == "empty prompt":
        (folder / "a.txt").write_text("\n")
    if what == "no video":
        (folder / "a.mp4").write_bytes(b"not a video" * 50)
    with pytest.raises(InputError, match="videos") as error:
        read_videos(folder, ["front"], 16)
    assert "\n" not in str(error.value)


def test_training_takes_videos_beside_demos(tmp_path):
    """Catches --videos that is read and not trained on, or taken by a method that can do nothing with it."""
    demos = write_demos(tmp_path / "Lift.hdf5")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/a.mp4", 30, prompt="wave a hand")
    words = ["train.py", "--data", demos, "--image-size", "16", "--cameras", "front", "--steps", "4",
             "--head-steps", "4",
             "--videos", tmp_path / "videos"]  # fmt: skip
    status, out, err = command(*words, "--run", tmp_path / "run")
    assert status == 0, err
    assert "58 windows of 4 demos" in out
    assert json.loads((tmp_path / "run/args.json").read_text())["trained_tasks"] == ["Lift"]  # what evaluate.py tries
    status, _, err = command(*words, "--run", tmp_path / "bc", "--method", "bc")
    assert status == 2 and "--videos" in err and err.count("\n") == 1


def test_demonstrations_as_videos(tmp_path):
    """Catches actions of --videos that are learned from, videos that are held out, and mp4 files that are forgotten."""
    demos = write_demos(tmp_path / "Lift.hdf5", masks=True)
    folder = tmp_path / "videos"
    folder.mkdir()
    write_demos(folder / "Lift.hdf5")
    (folder / "part.Lift.hdf5").touch()  # left by a recorder that was killed
    assert [clip.task for clip in read_videos(folder, ["front"], 16)] == ["Lift"] * 3
    write_video(folder / "a.mp4", 30, prompt="wave a hand")
    write_demos(folder / "Reach.hdf5", lengths=(9,))
    clips = read_videos(folder, ["front"], 16)
    assert [clip.task for clip in clips] == ["Lift"] * 3 + ["Reach", TASK]
    assert all(clip.actions is None for clip in clips)
    words = ["train.py", "--data", demos, "--image-size", "16", "--cameras", "front", "--steps", "4",
             "--head-steps", "4", "--videos", folder]  # fmt: skip
    status, out, err = command(*words, "--run", tmp_path / "run")
    assert status == 0, err
    assert "83 windows of 7 demos, 12 held out" in out  # two demos and the five videos; of the third demo 12
    assert json.loads((tmp_path / "run/args.json").read_text())["trained_tasks"] == ["Lift"]
