"""Learning by watching: labels for video without actions, from an estimator of hand poses.

Differs: in the paper such video trains the generator only. The estimator learns from play, the robot's own random
motion, and from demonstrations with known poses. It sees all that the files have, often more than the policy sees.
"""

import io
from dataclasses import replace

import numpy as np
import torch

from data.poses import gripper_commands, pose_actions, pose_errors, project, sixd_to_matrix, smooth
from data.robomimic import file_cameras, find_files, read_camera, read_clip, read_clips
from data.windows import PoseWindows, on_disk
from model.pose_estimator import OFFSETS, PoseEstimator
from training import run
from training.build import with_pose_actions
from training.device import autocast, rank_and_world
from util.figures import save_hands
from util.files import InputError, write_file

AXIS = 0.06  # metres: how long the axes of a hand are drawn


def watch(args, config, train_config, clips, state, device, train):
    """The clips, with labels for those that had no actions: train a pose estimator, or take that of another run. With
    watching=head nothing is labelled, and play is added, whose own poses train the head. train: the stage of train.py.
    """
    if config.action_space != "pose":
        raise InputError("--play: only hand poses can be seen in a video; leave action_space out of --set")
    if train_config.watching == "head":
        return clips + play_clips(args.play, config)
    kept = args.run / PoseEstimator.FILE
    if args.estimator or ("pose_estimator" in state.finished and kept.name not in state.weights):
        taken = kept if args.resume and kept.exists() else (args.estimator or args.run) / PoseEstimator.FILE
        estimator = PoseEstimator.load(taken, device)
    else:
        windows, held_out = estimator_windows(args.play, clips, config)
        estimator = make_estimator(windows, train_config.seed).to(device)
        run.take_weights(estimator, state)
        loop, measure = train(estimator, windows, train_config, state), estimator_measure(estimator, held_out)
        run.run_training(loop, estimator, measure, state, args.run, train_config.eval_every)
    if rank_and_world()[0] == 0:
        estimator.save(kept)
    with autocast(device, train_config.precision):
        return label(clips, estimator, config, args.run)


def estimator_windows(play, clips, config):
    """(windows to train a pose estimator on, held-out windows) of play and of the labelled clips.

    play: a folder of python -m sim.demos --play. Cameras and size are those of its files, which all others need too.
    """
    files = find_files(play, ["all"])
    cameras = file_cameras(next(iter(files.values())))
    check_cameras({*map(str, files.values()), *(clip.source[0] for clip in clips if clip.source)}, cameras, play)
    if any(not clip.source for clip in clips):  # mp4 files have no more than the policy sees
        cameras = dict.fromkeys(config.cameras, config.image_size)
    train, held_out = [], []
    for task, path in files.items():
        of_play = read_clips(path, task, cameras=list(cameras), size=max(cameras.values()), prompt="play")
        train, held_out = train + of_play[0], held_out + (of_play[1] or of_play[0][-1:])
    labelled = [clip for clip in clips if clip.actions is not None]
    train += on_disk(replace(clip, frames=as_recorded(clip, cameras).frames) for clip in labelled)
    check_poses(train)
    return tuple(PoseWindows(some, config, OFFSETS, list(cameras)) for some in (train, held_out))


def play_clips(play, config):
    """Play as the policy sees it, with its poses as actions: to train a head, never a generator."""
    files, options = find_files(play, ["all"]), {"cameras": config.cameras, "size": config.image_size}
    clips = [clip for task, path in files.items() for clip in read_clips(path, task, **options)[0]]
    check_poses(clips)
    return [replace(with_pose_actions(clip, config), play=True) for clip in clips]


def check_cameras(paths, cameras, origin):
    """InputError unless all files have these cameras, {name: side in pixels}, which are those of `origin`."""
    for path in sorted(paths):
        if (found := file_cameras(path)) != cameras:
            raise InputError(f"{path}: has cameras {found}, {origin} has {cameras}; record both alike")


def check_poses(clips):
    """InputError unless the files of these clips have hand poses."""
    if lacking := [clip for clip in clips if clip.poses is None]:
        needed = "robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos of one arm with two fingers, and actions"
        raise InputError(f"{lacking[0].source[0]}: has no hand poses; needed are {needed}")


def as_recorded(clip, cameras):
    """A clip as its file has it, with the true actions and poses; unchanged where it is from an mp4 file."""
    return read_clip(*clip.source, list(cameras), max(cameras.values())) if clip.source else clip


def make_estimator(windows, seed):
    """An untrained estimator for the frames of these windows."""
    size = windows.clips[0].frames.shape[-1]
    center = np.median(np.concatenate([clip.poses[:, :3] for clip in windows.clips]), axis=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PoseEstimator(cameras=windows.cameras, image_size=size, center=center)


def draw_labels(path, clip, poses, cameras, count=6):
    """PNG of the estimated hand in frames of the first camera that stands still; none of an mp4 file."""
    stills = [(v, at) for v, name in enumerate(cameras) if clip.source and (at := read_camera(*clip.source, name))]
    for v, camera in stills[:1]:
        at = np.linspace(0, len(poses) - 1, count).astype(int)
        axes = AXIS * sixd_to_matrix(poses[at, 3:9])[..., 1:].swapaxes(1, 2)  # (M, 2, 3): along the fingers, outwards
        points = poses[at, None, :3] + np.concatenate([0 * axes[:, :1], axes], axis=1)  # (M, 3, 3)
        points = project(points.reshape(-1, 3), camera, clip.frames.shape[-1]).reshape(count, 3, 2)
        save_hands(path, clip.frames[at, v], points)


@torch.no_grad()
def estimate(estimator, frames, batch=64):
    """Poses (N, 10) of the frames of one clip (N, V, 3, H, W) uint8, frame by frame."""
    device, N, poses = estimator.center.device, len(frames), []
    for first in range(0, N, batch):
        now = np.arange(first, min(first + batch, N))
        others = np.clip(now[:, None] + np.array(OFFSETS), 0, N - 1)
        seen = (torch.from_numpy(frames[at]).to(device) for at in (now, others))
        poses.append(estimator(*seen).cpu().double().numpy())
    return np.concatenate(poses)


def label(clips, estimator, config, folder):
    """The clips, with estimated actions where they had none; the labels are kept in folder/labels.npz.

    Prints how far the labels are from the truth, where the file of a clip has it; nothing else ever reads that.
    """
    cameras = dict.fromkeys(estimator.config["cameras"], estimator.config["image_size"])
    if all(clip.source for clip in clips):  # beside mp4 files it has learned from pictures of the policy's size
        check_cameras({c.source[0] for c in clips if c.actions is None}, cameras, "the pose estimator")
    elif [*cameras.items()] != [(name, config.image_size) for name in config.cameras]:
        raise InputError(f"--estimator: needs {cameras}, mp4 files are read as the policy sees; train one with --play")
    made, labels, errors, shown = list(clips), {}, {}, {}
    for i, clip in enumerate(clips):
        if clip.actions is not None:
            continue
        recorded = as_recorded(clip, cameras)
        poses = smooth(estimate(estimator, recorded.frames))
        commands = gripper_commands(poses[:, 9])
        labels[str(i)] = pose_actions(poses, commands, config.pose_lead)
        made[i] = replace(clip, actions=labels[str(i)], posed=True)
        shown.setdefault(clip.task, (recorded, poses))
        if recorded.poses is not None:
            agree = np.sign(recorded.actions[:, 6]) == commands
            errors.setdefault(clip.task, []).append(np.stack([*pose_errors(poses, recorded.poses), agree]))
    if rank_and_world()[0] > 0:  # the first process tells and keeps what they all have
        return made
    (folder / "samples").mkdir(exist_ok=True)
    for task, pair in shown.items():
        draw_labels(folder / "samples" / f"hand_{task}.png", *pair, cameras)
    for task, found in errors.items():
        metres, degrees, agree = np.concatenate(found, axis=1)
        print(f"labels of {task}: {1000 * np.median(metres):.1f} mm, {np.median(degrees):.1f} degrees off (medians), "
              f"gripper right in {agree.mean():.3f} of the steps")  # fmt: skip
    contents = io.BytesIO()
    np.savez_compressed(contents, **labels)
    write_file(folder / "labels.npz", contents.getbuffer())
    return made


def estimator_measure(estimator, windows, count=256):
    """What run_training measures of an estimator: median errors over evenly spaced held-out windows of play."""
    some = [windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, count).astype(int))]
    seen = [torch.from_numpy(np.stack([w[key] for w in some])) for key in ("current", "future")]
    true = np.stack([w["actions"][0] for w in some]).astype(np.float64)

    @torch.no_grad()
    def measure(_):
        found = estimator(*(frames.to(estimator.center.device) for frames in seen)).cpu().double().numpy()
        metres, degrees = pose_errors(found, true)
        return {"position_mm": 1000 * float(np.median(metres)), "rotation_degrees": float(np.median(degrees))}

    return measure
