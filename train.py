"""Train a Video Policy. Reads demonstration files and never starts a simulator: a box without OpenGL can train.

    python train.py --preset tiny --tasks CloseDrawer --demos 50 --data demos --run runs/close_drawer --minutes 7
    python train.py --preset tiny --tasks CloseDrawer --data demos --run runs/taste --minutes 1
    torchrun --nproc_per_node=2 -- train.py ...        # without the --, torchrun takes --run for a flag of its own

A run folder holds policy.pt (averaged weights: enough to act), resume.pt, args.json, log.csv, curves.png, samples/.
"""

import dataclasses
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from checkpoint import CheckpointError
from dreams import dream_error, plot_curves, save_strip
from machine import (
    agree,
    average_gradients,
    faster_precision,
    gather,
    generator_of,
    join_processes,
    pick_device,
    process,
)
from model.text import vocabulary
from runfolder import Log, State, averaged, restore, save, start_run, write_json
from sim.cli import InputError, Parser, command, positive, whole
from sim.videos import read_videos
from sim.windows import Windows, find_files, read_clips, statistics
from videopolicy import DECODERS, PREDICT, PRESETS, Config, ConfigError, VideoPolicy, collate, draw_noise

MISTAKES = (InputError, CheckpointError, ConfigError, OSError)  # become one line and exit status 2


@dataclass(frozen=True)
class Recipe:
    """How to train; what is trained is videopolicy.Config. The comment on each line is the reason for its value."""

    batch_size: int = 8  # of all processes; 8 beat 16 at equal time by 0.4 dB: a CPU gains nothing from more
    lr: float = 2e-3  # of AdamW, in stage 1
    head_lr: float = 2e-3  # in stage 2
    weight_decay: float = 0.01
    betas: tuple = (0.9, 0.99)  # a short memory: a run has a few thousand steps
    clip: float = 1.0  # of the gradient's norm
    warmup: float = 0.03  # share of a stage
    cooldown: float = 0.5  # share of a stage, linear to zero; the paper's constant rate leaves checkpoints noisy
    ema: float = 0.998  # of the averaged weights, which are what acts
    video_share: float = 0.75  # of the budget goes to stage 1
    pure_share: float = 0.3  # of the clips lie at sigma_max, where one-pass decisions read the features
    # A frozen generator says the same of a clip at every step: its features are computed once, for so many clips.
    memory: int = 4096
    draws: int = 8  # ... and at most so many times for each: more noise on the same frames teaches little
    head_batch: int = 128  # of these a step of the head takes
    head_pace: int = 5  # such steps count as one of --steps: with the time of remembering, they take as long


RECIPES = {
    "tiny": Recipe(),
    "base": Recipe(batch_size=64, lr=5e-4, head_lr=1e-3, ema=0.9995, memory=16384, head_batch=512),
}  # fmt: skip


@dataclass
class Run:
    """One training run: how, how long (exactly one of steps and minutes, over all stages), and how far it is."""

    recipe: Recipe
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: str = "fp32"
    state: State = dataclasses.field(default_factory=State)

    def progress(self, span, pace=1):
        """How far the current stage is, 0 to 1, where it has the part from span[0] to span[1] of the budget.

        pace: how many of its steps count as one.
        """
        start, end = span
        if self.steps is not None:
            return self.state.step / max(1, pace * (round(self.steps * end) - round(self.steps * start)))
        return self.state.seconds / (60 * self.minutes * (end - start))


# ------------------------------------------------------------------ the method


def train_two_stage(policy, windows, run):
    """Learn to generate video; then freeze the generator and learn to read actions off its features."""
    share, labelled = run.recipe.video_share, windows.with_actions()
    yield from optimise(policy, ["generator"], ["video"], windows, run, stage=0, span=(0, share))
    yield from train_head(policy, labelled, run, stage=1, span=(share, 1))


def train_joint(policy, windows, run, detach=False):
    """Learn both at once; the gradient of the actions flows into the generator as well, unless it is detached."""
    parts, streams = ["generator", "head"], ["video", "action"]
    yield from optimise(policy, parts, streams, windows, run, stage=0, span=(0, 1), detach=detach)


def train_joint_detached(policy, windows, run):
    """Learn both at once, the generator from video alone: what the paper's text says of its joint training."""
    yield from train_joint(policy, windows, run, detach=True)


def train_bc(policy, windows, run):
    """Behaviour cloning: the same network learns from actions alone, always at the noise at which it will decide."""
    parts, labelled = ["generator", "head"], windows.with_actions()
    yield from optimise(policy, parts, ["action"], labelled, run, stage=0, span=(0, 1), pure_share=1.0)


def train_frozen_random(policy, windows, run):
    """Learn to read actions off a generator that was never trained: what the features owe to their shape alone."""
    yield from train_head(policy, windows.with_actions(), run, stage=0, span=(0, 1))


def train_head(policy, labelled, run, stage, span):
    """Freeze the generator and learn to read actions off it; a pixel decoder learns from frames, without it."""
    for p in policy.generator_parameters():
        p.requires_grad_(False)
    if run.state.stage > stage:
        return  # done before the run was interrupted
    if policy.pairs:
        yield from optimise(policy, ["head"], ["action"], labelled, run, stage=stage, span=span)
        return
    memory = remember(policy, labelled, run, stage, span)
    fast = {"batch_size": run.recipe.head_batch, "pace": run.recipe.head_pace}
    yield from optimise(policy, ["head"], ["action"], memory, run, stage=stage, span=span, **fast)


NEEDS_ACTIONS = ("bc", "frozen_random")  # and can do nothing with video alone
METHODS = {
    "two_stage": train_two_stage,
    "joint": train_joint,
    "joint_detached": train_joint_detached,
    "bc": train_bc,
    "frozen_random": train_frozen_random,
}


def stage_name(method, stage):
    """What the progress bar calls a stage."""
    return ("stage 1, dream", "stage 2, act")[stage] if method == "two_stage" else method


class Memory:
    """Windows with the features of a frozen generator in place of their frames; memory[i] as windows[i]."""

    def __init__(self, windows, picked, features):
        self.windows, self.picked, self.features = windows, picked, features

    def __getitem__(self, i):
        window = self.windows[self.picked[i]]
        labels = {name: window[name] for name in ("actions", "pad", "has_actions", "prompt")}
        return labels | {"features": [f[i] for f in self.features]}

    def draw(self, batch_size, key):
        """Indices of one step, a pure function of `key`."""
        return np.random.default_rng(key).integers(len(self.picked), size=batch_size).tolist()


@torch.no_grad()
def remember(policy, windows, run, stage, span):
    """Compute the pooled features of recipe.memory windows, each at a noise level of its own -> Memory.

    Of fewer where there are few, and where that would take more than 0.4 of the time of the span. As in training, clips
    and noise are drawn by (seed, stage, number) alone, so that a resumed run remembers the same.
    """
    recipe, device, (rank, world) = run.recipe, policy.video_std.device, process()
    picked, features, started = [], [], time.monotonic()
    batches = -(-min(recipe.memory, recipe.draws * len(windows)) // recipe.batch_size)
    longest = 0.4 * 60 * run.minutes * (span[1] - span[0]) if run.minutes else math.inf
    for i in tqdm(range(batches), desc="features", leave=False, disable=rank > 0):
        if i > 0 and agree(time.monotonic() - started, device) > longest:
            break
        key = [run.seed, stage, i, 1]  # 1: a stream apart from that of the steps
        drawn = windows.draw(recipe.batch_size, key)
        rng = generator_of(key, device)
        noise = draw_noise(policy.config, recipe.batch_size, rng, recipe.pure_share)
        batch = collate([windows[j] for j in drawn[rank::world]]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            *_, maps = policy.one_pass(batch, noise.part(rank, world))
        picked += [j for r in range(world) for j in drawn[r::world]]
        features.append([gather(f.half()).cpu().numpy() for f in policy.head.pool(maps)])
    if run.state.step == 0:
        run.state.seconds = time.monotonic() - started
    return Memory(windows, picked, [np.concatenate(level) for level in zip(*features, strict=True)])


def optimise(
    policy, parts, streams, windows, run, *, stage, span, detach=False, pure_share=None, batch_size=None, pace=1
):
    """The training loop: trains `parts`, "generator" and "head", on the losses `streams`, "video" and "action", for a
    span of the run's budget. detach stops the gradient of the actions at the generator; pace: see Run.progress.

    A generator of one dict of floats per step, {stage, step, seconds, progress, <losses>, lr, grad_norm}, and of a
    last one, with "finished", once the averaged weights are in the policy. Whatever is drawn depends on (seed, stage,
    step) alone: a resumed run, and one on more processes, sees the same data and noise. `run.state` is kept up to date.
    On several processes the losses reported are those of this one's share of the batch.
    """
    recipe, state = run.recipe, run.state
    if state.stage > stage:
        return
    groups = {
        "generator": {"params": policy.generator_parameters(), "peak": recipe.lr},
        "head": {"params": policy.head_parameters(), "peak": recipe.head_lr},
    }
    groups = [groups[part] for part in parts]
    parameters = [p for group in groups for p in group["params"]]
    device = parameters[0].device
    rank, world = process()
    optimizer = torch.optim.AdamW(groups, recipe.lr, recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    pure_share = recipe.pure_share if pure_share is None else pure_share
    if state.optimizer is None:
        state.average = [p.detach().clone() for p in parameters]
    else:
        optimizer.load_state_dict(state.optimizer)
    state.optimizer, state.trained = optimizer, parameters
    batch_size = batch_size or recipe.batch_size
    clock = time.monotonic() - state.seconds

    while (progress := agree(run.progress(span, pace), device)) < 1:
        trapezoid = min(1.0, 0.01 + progress / recipe.warmup, (1 - progress) / recipe.cooldown)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * trapezoid

        # Draw the global batch and its noise; this process takes every world-th clip.
        key = [run.seed, stage, state.step]
        batch = collate([windows[i] for i in windows.draw(batch_size, key)[rank::world]]).to(device)
        seen = batch.features is None  # else there are no frames to put noise on
        noise = draw_noise(policy.config, batch_size, generator_of(key, device), pure_share, seen)

        with torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            losses = policy.loss(batch, noise.part(rank, world), streams, detach)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        average_gradients(parameters)
        # Each part by itself: a common norm would let the actions rule the step of a generator they are detached from.
        norm = math.hypot(*(float(torch.nn.utils.clip_grad_norm_(g["params"], recipe.clip)) for g in groups))
        if not math.isfinite(norm):
            raise InputError(f"stage {stage} step {state.step}: the gradient is {norm}; look at data and rate")
        optimizer.step()
        fresh = 1 - min(recipe.ema, (1 + state.step) / (10 + state.step))  # a short average while it is early
        torch._foreach_lerp_(state.average, [p.detach() for p in parameters], fresh)

        state.step += 1
        state.seconds = time.monotonic() - clock
        where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": progress}
        measured = {name: float(loss.detach()) for name, loss in losses.items()}
        yield where | measured | {"lr": groups[0]["peak"] * trapezoid, "grad_norm": norm}

    with torch.no_grad():
        for p, average in zip(parameters, state.average, strict=True):
            p.copy_(average)
    where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": 1.0}
    state.next_stage()
    yield where | {"finished": True}


# ------------------------------------------------------------------ a whole run


def shape_of(args):
    """The Config that the flags describe, its action size still the default. Raises InputError, ConfigError."""
    changes = {name: getattr(args, name) for name in ("cameras", "image_size", "predict", "decoder")}
    changes["cameras"] = args.cameras and tuple(args.cameras)
    config = Config(**PRESETS[args.preset] | {name: value for name, value in changes.items() if value})
    if args.video_horizon is None:
        return config
    if args.video_horizon == 0 and args.decoder == "pixels":
        raise InputError("--decoder pixels: nothing moves in frames of --video-horizon 0")
    if args.video_horizon == 0 and args.predict not in (None, "frame"):
        raise InputError(f"--predict {args.predict}: with --video-horizon 0 only the frame can be predicted")
    if args.video_horizon == 0:  # the current frame itself; its change would be nothing to learn
        return dataclasses.replace(config, video_frames=1, video_stride=0, predict="frame")
    frames, rest = divmod(args.video_horizon, config.video_stride)
    if rest:
        raise InputError(f"--video-horizon: {args.video_horizon} is no multiple of the stride, {config.video_stride}")
    if args.decoder == "pixels" and args.video_horizon < config.action_horizon:
        raise InputError(f"--decoder pixels: needs a --video-horizon of {config.action_horizon}, that of the actions")
    return dataclasses.replace(config, video_frames=frames)


def build(args):
    """(policy, training windows, held-out windows) from the flags. Raises InputError, ConfigError."""
    config = shape_of(args)
    if args.method in NEEDS_ACTIONS and args.action_free:
        raise InputError(f"--action-free: --method {args.method} learns from actions only; leave one of the two out")
    if args.method in NEEDS_ACTIONS and args.videos:
        raise InputError(f"--videos: --method {args.method} learns from actions only; leave one of the two out")
    if args.decoder == "pixels" and args.method != "two_stage":
        raise InputError(f"--decoder pixels: reads no features for --method {args.method} to train; use two_stage")
    if args.generator and args.method != "two_stage":
        raise InputError(f"--generator: --method {args.method} has no first stage to leave out; use two_stage")
    free = find_files(args.data, args.action_free) if args.action_free else {}
    shot = {"cameras": config.cameras, "size": config.image_size, "demos": args.demos, "prompt": args.prompt}
    train, held_out = [], []
    for task, path in (find_files(args.data, args.tasks) | free).items():
        clips = read_clips(path, task, labelled=0 if task in free else args.labelled, **shot)
        train += clips[0]
        held_out += clips[1]
    if args.videos:
        train += read_videos(args.videos, config.cameras, config.image_size)
    if free and not any(clip.actions is not None for clip in train):
        raise InputError("--action-free: no task is left with actions; name others in --tasks")
    sizes = {clip.actions.shape[1] for clip in train + held_out if clip.actions is not None}
    if len(sizes) != 1:
        found = f"{len(sizes)} sizes" if sizes else "none"
        raise InputError(f"--data {args.data}: field actions: {found} over the demos, exactly one is needed")
    config = dataclasses.replace(config, action_size=sizes.pop())
    shape = {f: getattr(config, f) for f in ("video_frames", "video_stride", "action_horizon", "action_size")}
    if not held_out:
        print("no demo is held out: the measures below are taken on training windows, and flatter", file=sys.stderr)
    windows, held_out = Windows(train, **shape), Windows(held_out or train, **shape)

    measured = statistics(windows)
    measured["video_std"] = measured["change_std" if PREDICT[config.predict].relative else "frame_std"]
    torch.manual_seed(args.seed)  # the initial weights
    return VideoPolicy(config, vocabulary([clip.prompt for clip in train]), measured), windows, held_out


# The fields of Config in which two runs may differ and have the same generator.
HEAD_ONLY = ("decoder", "pair_widths", "squeeze", "grid", "head_width", "head_dropout", "action_steps")


def take_over(path, policy):
    """Give the policy the generator of another one. Raises InputError unless both have the same shape and words."""
    other = VideoPolicy.load(path)
    for field, mine in dataclasses.asdict(policy.config).items():
        if field in HEAD_ONLY:
            continue
        if (theirs := getattr(other.config, field)) != mine:
            raise InputError(f"--generator: {path} has {field}={theirs!r}, this run {mine!r}; give it the same flags")
    if other.vocab != policy.vocab:
        raise InputError(f"--generator: {path} knows other words; give it the same tasks")
    policy.unet.load_state_dict(other.unet.state_dict())
    policy.text.load_state_dict(other.text.state_dict())
    policy.video_std.copy_(other.video_std)


def watch(loop, policy, held_out, run, folder, method, look_every, save_every):
    """Drive the loop: a progress bar per stage, the log, looks at the held-out windows, saves."""
    log = Log(folder / "log.csv", run.state)
    saved = looked = time.monotonic()
    bar = None
    for row in loop:
        name, finished = stage_name(method, row["stage"]), "finished" in row
        bar = bar or tqdm(total=1.0, desc=name, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}")
        losses = " ".join(f"{k} {row[k]:.4f}" for k in ("video", "action") if k in row)
        bar.set_postfix_str(f"step {row['step']} {losses}", refresh=False)
        bar.update(row["progress"] - bar.n)
        if finished or time.monotonic() - looked > look_every:
            with averaged(run.state):
                numbers, pictures = dream_error(policy, held_out)
            row |= numbers
            save_strip(folder / "samples" / f"stage{row['stage'] + 1}_step{row['step']:06d}.png", *pictures)
            seen = "dream {psnr_dream:.1f} dB, one pass {psnr_mean:.1f} dB, nothing moves {psnr_still:.1f} dB"
            tqdm.write(f"{name}, step {row['step']}: " + (seen + "; action error {action_error:.3f}").format(**numbers))
            looked = time.monotonic()
        log.write(row)
        if finished or time.monotonic() - saved > save_every:
            save(folder, policy, run.state)
            saved = time.monotonic()
        if finished:
            bar.close()
            bar = None


def parse(argv):
    """The flags, as argparse has them; those of the run's start where it is resumed."""
    parser = Parser(prog="train.py", description="Train a Video Policy on demonstration files.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder to make and fill")
    add("--preset", choices=PRESETS, default="tiny", help="size of the networks: tiny for a laptop, base for a GPU")
    add("--method", choices=METHODS, default="two_stage", help="what learns from what; see the functions train_*")
    add("--data", type=Path, default=Path("demos"), help="folder of <Task>.hdf5 files, or one robomimic file")
    add("--tasks", nargs="+", default=["all"], metavar="TASK", help="which of them, or all that are there")
    add("--demos", type=whole(1), help="take the first so many demos of each file (default: all of them)")
    add("--labelled", type=whole(1), metavar="N", help="keep the actions of each file's first N demos only")
    add("--action-free", nargs="+", default=[], metavar="TASK", help="more tasks, of which no action is used")
    add("--videos", type=Path, metavar="FOLDER", help="more video without actions: NAME.mp4 with a prompt in NAME.txt")
    add("--generator", type=Path, metavar="RUN", help="take over the generator of that run: two_stage without stage 1")
    add("--cameras", nargs="+", metavar="CAMERA", help="as in the file, obs/CAMERA_image (default: the preset's)")
    add("--image-size", type=whole(16, 1024), help="side of the frames; they are resized (default: the preset's)")
    add("--prompt", help="the sentence to use instead of the file's own")
    add("--video-horizon", type=whole(0, 512), help="control steps dreamed ahead; 0: the current frame (default: 32)")
    add("--predict", choices=PREDICT, help="what the video network is asked for (default: the preset's)")
    add("--decoder", choices=DECODERS, default="features", help="what actions are read off: the network, or its frames")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=positive, help="wall time of all stages (default: 7, where no --steps)")
    budget.add_argument("--steps", type=whole(2), help="steps of all stages")
    add("--seed", type=whole(0, 2**31), default=0, help="initial weights, data order and noise")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto measures which is faster here")
    add("--compile", action="store_true", help="torch.compile the U-Net: a minute at the start, for long runs")
    add("--threads", type=whole(1, 1024), help="CPU threads (default: torch's choice)")
    add("--save-every", type=positive, default=60.0, metavar="SECONDS", help="a kill loses at most this much")
    add("--look-every", type=positive, default=60.0, metavar="SECONDS", help="between looks at held-out windows")
    add("--resume", action="store_true", help="continue the run in --run, with the flags that it was started with")
    args = parser.parse_args(argv)
    if args.resume:
        return resumed_flags(parser, args.run, argv)
    if args.minutes is None and args.steps is None:
        args.minutes = 7.0
    return args


# Where and how often, not what; and where the generator came from, once it is there.
FREE_ON_RESUME = ("resume", "run", "data", "videos", "generator", "device", "save_every", "look_every")


def resumed_flags(parser, folder, argv):
    """The flags in args.json; one given anew must agree with it. Raises InputError."""
    path = folder / "args.json"
    try:
        saved = json.loads(path.read_text())
        if saved["preset"] not in PRESETS or saved["method"] not in METHODS:
            raise ValueError
        parser.set_defaults(**saved | {name: Path(saved[name]) for name in ("data", "videos") if saved[name]})
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged, nothing to resume; start the run without --resume") from None
    args = parser.parse_args(argv)
    for name, value in saved.items():
        if name not in FREE_ON_RESUME and getattr(args, name, value) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: the run in {folder} was started with {value}; leave it out or start a new run")
    return args


def main(argv=None):
    args = parse(argv)
    device = pick_device(args.device)
    rank, world = join_processes(device)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    recipe = RECIPES[args.preset]
    if recipe.batch_size % world:
        raise InputError(f"--nproc_per_node {world}: does not divide the batch of {recipe.batch_size}")
    policy, windows, held_out = build(args)
    policy.to(device)
    if args.precision == "auto":
        args.precision = ("fp32", "bf16")[int(agree(faster_precision(device) == "bf16", device))]
    run = Run(recipe, args.steps, args.minutes, args.seed, args.precision)
    if args.generator and not args.resume:
        take_over(args.generator / "policy.pt", policy)
        run.state.next_stage()
    if args.resume:
        restore(args.run, policy, run.state, device)
    elif rank == 0:
        start_run(args.run)
        paths = {name: str(value) for name, value in vars(args).items() if isinstance(value, Path)}
        tasks = [task for task in windows.tasks if not args.videos or task != args.videos.name]
        flags = vars(args) | paths | {"trained_tasks": tasks}
        write_json(args.run / "args.json", flags)

    if args.compile:
        policy.unet.compile()
    loop = METHODS[args.method](policy, windows, run)
    if rank > 0:  # works along; the first process watches
        for _ in loop:
            pass
        return
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (policy.unet, policy.head)]
    print(
        f"{len(windows)} windows of {len(windows.clips)} demos, {len(held_out)} held out; {args.precision} on {device},"
    )
    print(f"{torch.get_num_threads()} threads; U-Net {sizes[0]:.1f} M parameters, action head {sizes[1]:.1f} M")
    watch(loop, policy, held_out, run, args.run, args.method, args.look_every, args.save_every)
    policy.save(args.run / "policy.pt")  # again, for a run killed between its last two files
    plot_curves(args.run / "log.csv", args.run / "curves.png")
    print(f"wrote {args.run}/policy.pt, log.csv, curves.png and samples/")


if __name__ == "__main__":
    command(main, *MISTAKES)
