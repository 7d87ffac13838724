"""Folders of mp4 files with prompts."""

from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
from common import command, write_demos

from data.videos import TASK, read_videos
from data.windows import Clip
from training.labels import label
from util.files import InputError


def write_video(path, frames, fps=20, prompt="close the drawer"):
    """An mp4 of 48 x 32 pixels that grows lighter by the frame, and its prompt."""
    levels = np.linspace(0, 240, frames).astype(np.uint8)
    pictures = np.broadcast_to(levels[:, None, None, None], (frames, 48, 32, 3))
    imageio.mimwrite(path, pictures, fps=fps, macro_block_size=None, quality=9)
    path.with_name(path.name.split(".")[0] + ".txt").write_text(prompt + "\n")


@pytest.mark.parametrize("fps, frames, expected", [(20, 30, 30), (40, 30, 15), (10, 15, 30)])
def test_frames_are_taken_at_twenty_hertz(tmp_path, fps, frames, expected):
    """Catches video whose motion is too fast, too slow or uneven, because the file's own rate was ignored."""
    write_video(tmp_path / "a.mp4", frames, fps)
    (clip,) = read_videos(tmp_path, ["front"], 16)
    assert abs(len(clip.frames) - expected) <= 1 and clip.frames.shape[1:] == (1, 3, 16, 16)
    assert clip.actions is None and clip.prompt == "close the drawer" and clip.task == TASK
    level = clip.frames.mean(axis=(1, 2, 3, 4))
    assert (np.diff(level) > -2).all() and level[-1] - level[0] > 200
    shown = np.round(level / (240 / (frames - 1)))  # which of the file's frames each one is
    assert np.abs(shown - np.arange(len(shown)) * fps / 20).max() <= 1


def test_several_cameras_lie_in_several_files(tmp_path):
    """Catches views that are mixed up, and views of different lengths."""
    write_video(tmp_path / "a.left.mp4", 12)
    write_video(tmp_path / "a.right.mp4", 12)
    (clip,) = read_videos(tmp_path, ["left", "right"], 16)
    assert clip.frames.shape == (12, 2, 3, 16, 16)
    write_video(tmp_path / "a.right.mp4", 8)
    with pytest.raises(InputError, match="8, 12. frames"):
        read_videos(tmp_path, ["left", "right"], 16)


@pytest.mark.parametrize("what", ["no folder", "empty", "no prompt", "empty prompt", "latin", "no video", "one frame"])
def test_mistakes_are_named(tmp_path, what):
    """Catches a traceback of the video reader, and silent training on video without a prompt."""
    folder = tmp_path / "videos"
    if what != "no folder":
        folder.mkdir()
    if what not in ("no folder", "empty"):
        write_video(folder / "a.mp4", 1 if what == "one frame" else 5)
    if what == "no prompt":
        (folder / "a.txt").unlink()
    if what in ("empty prompt", "latin"):
        (folder / "a.txt").write_bytes(b"\n" if what == "empty prompt" else b"\xe9cris")
    if what == "no video":
        (folder / "a.mp4").write_bytes(b"not a video" * 50)
    with pytest.raises(InputError, match="videos") as error:
        read_videos(folder, ["front"], 16)
    assert "\n" not in str(error.value)


def test_training_takes_videos_and_demonstrations_beside_demos(tmp_path):
    """Catches actions of --videos that are learned from, files that are forgotten, a method without use for video."""
    demos, folder = write_demos(tmp_path / "Lift.hdf5", masks=True), tmp_path / "videos"
    folder.mkdir()
    write_demos(folder / "Reach.hdf5")
    (folder / "part.Lift.hdf5").touch()  # left by a recorder that was killed
    for name in ("._a.mp4", "b.MP4", "c.txt"):  # the first is hidden, the others are named
        (folder / name).touch()
    write_video(folder / "a.mp4", 30, prompt="wave a hand")
    clips = read_videos(folder, ["front"], 16)
    assert [clip.task for clip in clips] == ["Reach"] * 3 + [TASK]
    assert all(clip.actions is None for clip in clips)
    fields = ["image_size=16", "cameras=front", "widths=32,64", "attention=false,true", "precision=fp32"]
    words = ["train.py", "--data", demos, "--steps", "4", "--head-steps", "4", "--videos", folder,
             "--set", *fields, "--run"]  # fmt: skip
    status, out, err = command(*words, tmp_path / "run")
    assert status == 0, err
    assert f"not taken from {folder}: 2 files (b.MP4, c.txt)\n" in err
    assert "74 windows of 6 demos, 12 held out" in out  # two demos of 16 steps, three of 28, 30 frames of the mp4
    status, _, err = command(*words, tmp_path / "bc", "--method", "bc")
    assert status == 2 and "--videos" in err and err.count("\n") == 1


@pytest.mark.parametrize(("camera", "size"), [("side", 16), ("front", 32)])
def test_mp4_files_that_an_estimator_cannot_see(camera, size, tmp_path):
    """Catches labels of --estimator on mp4 files of another camera or size than it learned from."""
    estimator = SimpleNamespace(config={"cameras": [camera], "image_size": size})
    clip = Clip(np.zeros((9, 1, 3, 16, 16), np.uint8), None, "", TASK)
    with pytest.raises(InputError, match="mp4 files"):
        label([clip], estimator, SimpleNamespace(cameras=("front",), image_size=16), tmp_path)
