"""From flags to what is trained: the configs, the clips, their windows, the policy."""

import dataclasses
import hashlib
import sys
import zlib

import torch

from data.poses import aimed_actions, pose_actions
from data.robomimic import find_files, read_clips
from data.videos import read_videos
from data.windows import Windows, statistics
from model.prompt_encoder import vocabulary, words
from util.files import InputError
from videopolicy import HEADS, PREDICTIONS, VideoPolicy

# The fields of Config in which two runs may differ and have the same generator.
HEAD_ONLY = ("drawn_size", "action_horizon", "action_size", "action_space", "pose_lead", "head_name", "head",
             "action_sigma_mean", "action_sigma_std", "action_steps", "p_sigma_max")  # fmt: skip


def make_configs(preset, args):
    """(Config, TrainConfig) of a preset with what the flags of train.py change."""
    flags = {name: getattr(args, name) for name in ("steps", "head_steps", "seed")}
    if args.video_horizon == 0:  # the current frame itself; its change would be nothing to learn
        flags |= {"video_frames": 1, "video_stride": 0, "prediction": "frame"}
    elif args.video_horizon:
        stride = override(preset, flags, args.set)[0].video_stride
        flags["video_frames"] = args.video_horizon // stride
        if args.video_horizon % stride:
            raise InputError(f"--video-horizon: must be a multiple of the stride, {stride}")
    config, train_config = override(preset, flags, args.set)
    check_flags(args, config, train_config)
    return config, train_config


def check_flags(args, config, train_config):
    """InputError for flags that contradict the method or each other."""
    unlabelled = (args.action_free or args.videos) and not (args.play or args.estimator)
    if args.method in ("bc", "frozen_random") and unlabelled:
        raise InputError(f"--action-free, --videos: --method {args.method} learns from actions only; leave them out")
    if args.generator and args.method != "two_stage":
        raise InputError(f"--generator: --method {args.method} has no first stage to leave out; use two_stage")
    if args.init and (args.generator or args.method == "frozen_random"):
        raise InputError("--init: trains a generator further, --generator and frozen_random train none; leave one out")
    if args.play and args.estimator:
        raise InputError("--estimator: takes the pose estimator of a run, --play trains one; leave one out")
    if train_config.watching == "head" and (not args.play or args.method not in ("two_stage", "frozen_random")):
        raise InputError("--set watching=head: estimates nothing, and play is no video to learn; use --play, two_stage")
    if args.method == "bc" and not config.zero_terminal_snr:
        raise InputError("--method bc: needs zero_terminal_snr=true, or it sees the future in training only")
    if args.play and not args.resume:  # a resumed run may do without
        find_files(args.play, ["all"], "--play")


def override(configs, flags, pairs):
    """(Config, TrainConfig) with what `flags`, {field: value or None}, and `pairs`, ["head.width=64"], change."""
    config, train_config = configs
    for name in (name for name in HEADS if f"head_name={name}" in pairs):  # it decides what fields the head has
        config = dataclasses.replace(config, head_name=name, head=HEADS[name].Config())
    of_head = {f"head.{name}": value for name, value in vars(config.head).items()}
    known = {k: v for k, v in vars(config).items() if k != "head"} | of_head | vars(train_config)
    changes = {name: value for name, value in flags.items() if value is not None}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise InputError(f"--set {pair}: write NAME=VALUE; the names are {', '.join(known)}")
        if name in changes:
            raise InputError(f"--set {pair}: {name} is given twice; leave one out")
        changes[name] = parse_value(name, text, known[name])
    head = dataclasses.replace(config.head, **{k[5:]: v for k, v in changes.items() if k in of_head})
    ours = {k: v for k, v in changes.items() if k in vars(config)}
    theirs = {k: v for k, v in changes.items() if k in vars(train_config)}
    return dataclasses.replace(config, head=head, **ours), dataclasses.replace(train_config, **theirs)


def parse_value(name, text, like):
    """Text as a value of the type of `like`; tuples as 48,64,128, booleans as true or false."""
    try:
        if isinstance(like, tuple):
            return tuple(parse_value(name, part, like[0]) for part in text.split(","))
        return {"true": True, "false": False}[text.lower()] if isinstance(like, bool) else type(like)(text)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(like, bool) else f"of type {type(like).__name__}"
        raise InputError(f"--set {name}={text}: needs a value {kind}, such as {like}") from None


def task_files(data, tasks, action_free=()):
    """{task: file} of all tasks that a run is trained on, from --data, --tasks and --action-free."""
    files, free = find_files(data, tasks), find_files(data, action_free)
    if files and data.is_file() and free.keys() - files.keys():
        raise InputError(f"--action-free: {data} is the one task {', '.join(files)}; give a folder as --data")
    return files | free


def load_clips(config, data, tasks, *, demos=None, labelled=None, action_free=(), videos=None, play=None, prompt=""):
    """(training clips, held-out clips) as the flags of train.py have it; play: whether some are labelled later."""
    files, free = task_files(data, tasks, action_free), find_files(data, action_free)
    options = {"cameras": config.cameras, "size": config.image_size, "prompt": prompt or None}
    train, held_out = [], []
    for task, path in files.items():
        clips = read_clips(path, task, demos=demos, labelled=0 if task in free else labelled, **options)
        train, held_out = train + clips[0], held_out + clips[1]
    if videos:
        train += read_videos(videos, **options)
    if mute := [clip for clip in train + held_out if not words(clip.prompt)]:
        raise InputError(f"{mute[0].task}: prompt {mute[0].prompt!r} has no words; give one with --set prompt=TEXT")
    if play and all(clip.actions is not None for clip in train):
        raise InputError("--play: nothing to label; name tasks in --action-free, or give --labelled or --videos")
    if not play and all(clip.actions is None for clip in train):
        remedy = "name others in --tasks than in --action-free, or label video with --play"
        raise InputError(f"--data {data}: field actions: no task is left with actions; {remedy}")
    if not held_out:
        print("no demo is held out: the measures below are taken on training windows, and flatter", file=sys.stderr)
    return train, held_out


def make_windows(clips, config):
    """Clips -> Windows; their config has what files decide: hand poses or commands, sizes of actions and pictures."""
    lacking = [clip for clip in clips if clip.actions is not None and not clip.posed and clip.poses is None]
    if config.action_space != "delta" and lacking:
        print(f"{lacking[0].task}: no poses of one arm with two fingers; actions are those of the file (delta)")
        config = dataclasses.replace(config, action_space="delta")
    if config.action_space != "delta":
        clips = [with_pose_actions(clip, config) for clip in clips]
    drawn = next((clip.drawn for clip in clips if clip.drawn), 0)  # mp4 files have none
    drawn = 0 if drawn == config.image_size else drawn
    sizes = {clip.actions.shape[1] for clip in clips if clip.actions is not None} or {config.action_size}
    if len(sizes) != 1:
        raise InputError(f"--data: field actions: {len(sizes)} sizes over the demos, one is needed")
    return Windows(clips, dataclasses.replace(config, action_size=sizes.pop(), drawn_size=drawn))


def with_pose_actions(clip, config):
    """A clip whose actions, if it has any, are hand poses."""
    if clip.actions is None or clip.posed:
        return clip
    if config.action_space == "target":
        poses = aimed_actions(clip.poses, clip.actions)
    else:
        poses = pose_actions(clip.poses, clip.actions[:, 6], config.pose_lead)
    return dataclasses.replace(clip, actions=poses, posed=True)


def make_policy(config, windows, seed, begun=None, new_words=True):
    """An untrained policy for these windows. begun: whose generator and words it has; new_words: whether more come."""
    measured = statistics(windows)
    measured["video_std"] = measured["change_std" if PREDICTIONS[config.prediction][0] else "frame_std"]
    vocab = vocabulary([clip.prompt for clip in windows.clips])
    if begun:
        vocab = begun.vocab + tuple(word for word in vocab if new_words and word not in begun.vocab)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = VideoPolicy(config, vocab, measured)
    if begun:
        policy.generator.load_state_dict(begun.generator.state_dict())
        policy.video_std.copy_(begun.video_std)
        mine = policy.prompt_encoder.state_dict()  # its tensors are the policy's own
        for name, weight in begun.prompt_encoder.state_dict().items():
            mine[name][: len(weight)] = weight  # new words come last and keep their random embeddings
    return policy


def begun_from(args, config):
    """The policy whose generator a run begins with, or None; InputError where it is not one of this `config`."""
    if not (args.generator or args.init):
        return None
    kept = args.run / "policy.pt"  # a resumed run does without the other one
    begun = VideoPolicy.load(kept if args.resume and kept.exists() else (args.generator or args.init) / "policy.pt")
    for field, mine in vars(config).items():
        if field not in HEAD_ONLY and (theirs := getattr(begun.config, field)) != mine:
            was = f"that run has {field}={theirs!r}, this one {mine!r}"
            raise InputError(f"--generator or --init: {was}; make them the same, with --set or another --preset")
    return begun


def data_hash(clips):
    """A short hash of what is trained on: of each clip its task, prompt, frames, actions and poses."""
    found = []
    for clip in clips:
        sums = [zlib.crc32(a) for a in (clip.frames, clip.actions, clip.poses) if a is not None]
        found.append((clip.task, clip.prompt, len(clip.frames), sums))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]
