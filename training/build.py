"""From flags to what is trained: the configs, the clips, their windows, the policy."""

import dataclasses
import hashlib
import sys

import torch

from data.robomimic import check_memory, demo_files, find_files, read_clips
from data.videos import read_videos
from data.windows import Windows, statistics
from model.prompt_encoder import vocabulary, words
from util.files import InputError
from videopolicy import HEADS, PREDICTIONS, VideoPolicy

# The fields of Config in which two runs may differ and have the same generator.
HEAD_ONLY = ("action_horizon", "action_size", "head_name", "head", "action_sigma_mean", "action_sigma_std",
             "action_steps", "p_sigma_max")  # fmt: skip


def override(configs, flags, pairs):
    """(Config, TrainConfig) with the fields changed that `flags`, {field: value or None}, and `pairs`, a list of
    "name=value" such as "head.width=64", name. InputError for unknown names, wrong types and two values for one field.
    """
    config, train_config = configs
    for pair in pairs:  # which head it is decides what fields it has
        if pair.startswith("head_name=") and (name := pair.partition("=")[2]) in HEADS:
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
    files, free = find_files(data, tasks), find_files(data, action_free) if action_free else {}
    if data.is_file() and free.keys() - files.keys():
        raise InputError(f"--action-free: {data} is the one task {', '.join(files)}; give a folder as --data")
    return files | free


def load_clips(config, data, tasks, *, demos=None, labelled=None, action_free=(), videos=None, prompt=""):
    """(training clips, held-out clips) as the flags of train.py of these names describe them. Raises InputError."""
    files, free = task_files(data, tasks, action_free), find_files(data, action_free) if action_free else {}
    prompt = prompt or None
    read = [(path, demos) for path in files.values()]
    read += [(path, None) for path in demo_files(videos)] if videos else []
    check_memory(read, config.cameras, config.image_size)
    shot = {"cameras": config.cameras, "size": config.image_size, "demos": demos, "prompt": prompt}
    train, held_out = [], []
    for task, path in files.items():
        clips = read_clips(path, task, labelled=0 if task in free else labelled, **shot)
        train += clips[0]
        held_out += clips[1]
    if videos:
        train += read_videos(videos, config.cameras, config.image_size, prompt)
    for clip in train + held_out:
        if not words(clip.prompt):
            raise InputError(f"{clip.task}: prompt {clip.prompt!r} has no words; give one with --set prompt=TEXT")
    if not any(clip.actions is not None for clip in train):
        remedy = "name others in --tasks than in --action-free" if free else "clips with actions are needed"
        raise InputError(f"--data {data}: field actions: no task is left with actions; {remedy}")
    if not held_out:
        print("no demo is held out: the measures below are taken on training windows, and flatter", file=sys.stderr)
    return train, held_out


def make_windows(clips, config):
    """Clips -> Windows, whose config has the size of the actions. InputError where demos have different sizes."""
    sizes = {clip.actions.shape[1] for clip in clips if clip.actions is not None} or {config.action_size}
    if len(sizes) != 1:
        raise InputError(f"--data: field actions: {len(sizes)} sizes over the demos, one is needed")
    return Windows(clips, dataclasses.replace(config, action_size=sizes.pop()))


def make_policy(config, windows, seed, begun=None, new_words=True):
    """An untrained policy for these windows. begun: a policy whose generator it continues, which has words of its own;
    new_words: whether those of the windows are added to them.
    """
    measured = statistics(windows)
    measured["video_std"] = measured["change_std" if PREDICTIONS[config.prediction][0] else "frame_std"]
    vocab = vocabulary([clip.prompt for clip in windows.clips])
    if begun:
        vocab = begun.vocab + tuple(word for word in vocab if new_words and word not in begun.vocab)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = VideoPolicy(config, vocab, measured)
    if begun:
        take_generator(policy, begun)
    return policy


def take_generator(policy, begun):
    """Give the policy the generator of another one. InputError unless their shapes agree. Words that only this policy
    has stand behind those of the other; they keep their random embeddings.
    """
    for field, mine in vars(policy.config).items():
        if field not in HEAD_ONLY and (theirs := getattr(begun.config, field)) != mine:
            was = f"that run has {field}={theirs!r}, this one {mine!r}"
            raise InputError(f"--generator or --init: {was}; make them the same, with --set or another --preset")
    policy.generator.load_state_dict(begun.generator.state_dict())
    mine = policy.prompt_encoder.state_dict()  # its tensors are the policy's own
    for name, weight in begun.prompt_encoder.state_dict().items():
        mine[name][: len(weight)] = weight
    policy.video_std.copy_(begun.video_std)


def data_hash(clips):
    """A short hash of what is trained on: of each clip its task, prompt, length, actions and first frame."""
    digest = hashlib.sha256()
    for clip in clips:
        actions = b"" if clip.actions is None else clip.actions.tobytes()
        digest.update(f"{clip.task} {clip.prompt} {len(clip.frames)}".encode() + actions + clip.frames[0].tobytes())
    return digest.hexdigest()[:16]

