"""From the flags of train.py to a policy and the windows that it learns from."""

import dataclasses
import hashlib
import sys

import torch

from data.robomimic import check_memory, demo_files, find_files, read_clips
from data.videos import read_videos
from data.windows import Windows, statistics
from model.text import vocabulary, words
from util.files import InputError
from videopolicy import PREDICTIONS, PRESETS, Config, VideoPolicy

NEEDS_ACTIONS = ("bc", "frozen_random")  # and can do nothing with video alone
# The fields of Config in which two runs may differ and have the same generator.
HEAD_ONLY = (
    "action_horizon", "action_size", "decoder", "pair_widths", "squeeze", "grid", "head_width", "head_dropout",
    "action_sigma_mean", "action_sigma_std", "action_steps",
)  # fmt: skip


def config_from_args(args):
    """The Config that the flags describe, its action size still the default. Raises InputError."""
    changes = {field.name: getattr(args, field.name, None) for field in dataclasses.fields(Config)}
    changes["cameras"] = args.cameras and tuple(args.cameras)
    config = Config(**PRESETS[args.preset] | {name: value for name, value in changes.items() if value is not None})
    if args.video_horizon is None:
        return config
    if args.decoder == "pixels" and args.video_horizon < config.action_horizon:
        raise InputError(f"--decoder pixels: a --video-horizon of {config.action_horizon} or more is needed")
    if args.video_horizon == 0 and args.prediction not in (None, "frame"):
        raise InputError(f"--prediction {args.prediction}: with --video-horizon 0 only the frame can be predicted")
    if args.video_horizon == 0:  # the current frame itself; its change would be nothing to learn
        return dataclasses.replace(config, video_frames=1, video_stride=0, prediction="frame")
    frames, rest = divmod(args.video_horizon, config.video_stride)
    if rest:
        raise InputError(f"--video-horizon: {args.video_horizon} is no multiple of the stride, {config.video_stride}")
    return dataclasses.replace(config, video_frames=frames)


def check_flags(args, config):
    """InputError for flags of train.py that contradict the method or each other."""
    for flag, given in (("--action-free", args.action_free), ("--videos", args.videos)):
        if args.method in NEEDS_ACTIONS and given:
            raise InputError(f"{flag}: --method {args.method} learns from actions only; leave one of the two out")
    if args.decoder == "pixels" and args.method != "two_stage":
        raise InputError(f"--decoder pixels: goes with --method two_stage only, not {args.method}")
    if args.generator and args.method != "two_stage":
        raise InputError(f"--generator: --method {args.method} has no first stage to leave out; use two_stage")
    if args.method == "bc" and not config.zero_terminal_snr:
        told = "--method bc would see the future under its noise in training, and not when it acts"
        raise InputError(f"--no-zero-terminal-snr: {told}; leave it out")
    if args.init and (args.generator or args.method == "frozen_random"):
        other = "--generator" if args.generator else "--method frozen_random"
        raise InputError(f"--init: goes on training a generator, {other} trains none; leave one of the two out")
    if args.prompt is not None and not words(args.prompt):
        raise InputError(f"--prompt {args.prompt!r}: has no words; give a sentence")


def build(args):
    """(policy, training windows, held-out windows) from the flags. Raises InputError."""
    config = config_from_args(args)
    check_flags(args, config)
    free = find_files(args.data, args.action_free) if args.action_free else {}
    shot = {"cameras": config.cameras, "size": config.image_size, "demos": args.demos, "prompt": args.prompt}
    train, held_out = [], []
    files = find_files(args.data, args.tasks)
    if args.data.is_file() and free.keys() - files.keys():
        raise InputError(f"--action-free: {args.data} is the one task {', '.join(files)}; give a folder as --data")
    files |= free
    args.trained_tasks = sorted(files)  # what evaluate.py tries
    read = [(path, args.demos) for path in files.values()]
    read += [(path, None) for path in demo_files(args.videos)] if args.videos else []
    check_memory(read, config.cameras, config.image_size)
    for task, path in files.items():
        clips = read_clips(path, task, labelled=0 if task in free else args.labelled, **shot)
        train += clips[0]
        held_out += clips[1]
    if args.videos:
        train += read_videos(args.videos, config.cameras, config.image_size, args.prompt)
    for clip in train + held_out:
        if not words(clip.prompt):
            raise InputError(f"{clip.task}: the prompt {clip.prompt!r} has no words; give one with --prompt")
    if not any(clip.actions is not None for clip in train):
        remedy = "name others in --tasks than in --action-free" if free else "training clips with actions are needed"
        raise InputError(f"--data {args.data}: field actions: no task is left with actions; {remedy}")
    sizes = {clip.actions.shape[1] for clip in train + held_out if clip.actions is not None}
    if len(sizes) != 1:
        raise InputError(f"--data {args.data}: field actions: {len(sizes)} sizes over the demos, one is needed")
    config = dataclasses.replace(config, action_size=sizes.pop())
    found = data_hash(train)
    if args.resume and args.data_hash not in (None, found):
        raise InputError(f"--data {args.data}: is not what the run was started with; bring it back or start a new run")
    args.data_hash = found
    if not held_out:
        print("no demo is held out: the measures below are taken on training windows, and flatter", file=sys.stderr)
    windows, held_out = Windows(train, config), Windows(held_out or train, config)

    measured = statistics(windows)
    measured["video_std"] = measured["change_std" if PREDICTIONS[config.prediction].relative else "frame_std"]
    vocab = vocabulary([clip.prompt for clip in train])
    if begun := args.generator or args.init:  # has words of its own
        kept = args.run / "policy.pt"  # a run that is resumed no longer needs the generator
        known = VideoPolicy.load(kept if args.resume and kept.exists() else begun / "policy.pt").vocab
        vocab = known + tuple(word for word in vocab if args.init and word not in known)
    torch.manual_seed(args.seed)  # the initial weights
    return VideoPolicy(config, vocab, measured), windows, held_out


def data_hash(clips):
    """A short hash of what is trained on: of each clip its task, prompt, length, actions and first frame."""
    digest = hashlib.sha256()
    for clip in clips:
        actions = b"" if clip.actions is None else clip.actions.tobytes()
        digest.update(f"{clip.task} {clip.prompt} {len(clip.frames)}".encode() + actions + clip.frames[0].tobytes())
    return digest.hexdigest()[:16]


def load_generator(path, policy, flag="--generator"):
    """Give the policy the generator of another one, which `flag` names. InputError unless shapes and words agree.

    With --init this policy may have more words, behind those of the other; they keep their random embeddings.
    """
    other = VideoPolicy.load(path)
    for field, mine in dataclasses.asdict(policy.config).items():
        if field in HEAD_ONLY:
            continue
        if (theirs := getattr(other.config, field)) != mine:
            raise InputError(f"{flag}: {path} has {field}={theirs!r}, this run {mine!r}; give it the same flags")
    if other.vocab != (policy.vocab[: len(other.vocab)] if flag == "--init" else policy.vocab):
        raise InputError(f"{flag}: {path} knows other words; give it the same tasks")
    policy.unet.load_state_dict(other.unet.state_dict())
    text = policy.text.state_dict()  # its tensors are the policy's own
    for name, weight in other.text.state_dict().items():
        text[name][: len(weight)] = weight
    policy.video_std.copy_(other.video_std)
