"""Train a Video Policy. Reads demonstration files and never starts a simulator: a box without OpenGL can train.

    python train.py --tasks TurnOnStove --data demos --run runs/stove
    python train.py --tasks CloseDrawer --data demos --run runs/smoke --steps 100 --head-steps 100 --set lr=2e-3
    torchrun --nproc_per_node=2 -- train.py ...        # without the --, torchrun takes --run for a flag of its own

A run folder holds policy.pt (averaged weights: enough to act), resume.pt, args.json, log.csv, curves.png, samples/.
"""

import dataclasses
import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from data.windows import HalfLabelled
from model.action_head import HeadConfig
from training import build, labels, run
from training.device import (
    autocast,
    average_gradients,
    init_distributed,
    pick_device,
    pick_precision,
    rank_and_world,
    seeded_generator,
    to_device,
)
from training.feature_cache import cache_features
from training.noise import draw_noise
from training.optimizers import make_optimizers
from util.cli import Parser, command, int_range
from util.figures import plot_curves
from util.files import InputError, check_ranges, write_json
from videopolicy import Config, collate


@dataclass(frozen=True)
class TrainConfig:
    """How to train; what is trained is videopolicy.Config. A comment says what a number is of, and why."""

    steps: int = 1500  # of the generator: of stage 1, or of the only stage where both parts learn at once
    head_steps: int = 2000  # of stage 2
    seed: int = 0  # of initial weights, data order and noise
    precision: str = "auto"  # bf16, fp32, or the faster of the two on this machine
    eval_every: float = 60.0  # seconds between measures on held-out windows
    prompt: str = ""  # used instead of the files' own prompts, if there is one
    batch_size: int = 8  # of all processes; a CPU gains nothing from more, and small batches take more steps
    muon: bool = True  # trains the generator's matrices; false: AdamW, which needs about twice the steps
    lr: float = 4e-3  # of the generator, both optimizers
    head_lr: float = 2e-3  # of the head, AdamW
    weight_decay: float = 0.01
    momentum: float = 0.95  # of Muon
    betas: tuple = (0.9, 0.99)  # of AdamW; a short memory: a run has a few thousand steps
    max_grad_norm: float = 1.0  # of each module
    warmup: float = 0.03  # share of a stage
    cooldown: float = 0.5  # share of a stage, linear to zero. Differs: a constant rate leaves checkpoints noisy
    ema_decay: float = 0.998  # of the averaged weights, which are what acts
    noise_samples: int = 1  # of the actions of each window: the head is cheap beside the features
    cache_size: int = 4096  # pairs of a window and its noise whose features are cached for stage 2, at most
    noise_per_window: int = 8  # ... and at most so many times the number of windows
    head_batch: int = 128  # batch size of stage 2
    watching: str = "labels"  # "labels": an estimator of --play labels clips; "head": poses of --play train the head
    estimator_steps: int = 2000
    estimator_batch: int = 32
    estimator_lr: float = 2e-3

    def __post_init__(self):
        counts = {k: v for k, v in vars(self).items() if type(v) is int and k != "seed"}
        check_ranges(self, **{field: (count > 0, "at least 1") for field, count in counts.items()})
        check_ranges(
            self, precision=(self.precision in ("auto", "bf16", "fp32"), "auto, bf16 or fp32"),
            warmup=(self.warmup > 0, "above 0"), cooldown=(self.cooldown > 0, "above 0"),
            watching=(self.watching in ("labels", "head"), "labels or head"),
        )  # fmt: skip


PRESETS = {
    # 0.94 [0.84, 0.98] of 50 scenes: TurnOffSinkFaucet, 250 demos, seed 0
    "tiny": (Config(), TrainConfig()),
    # 0.76 [0.73, 0.79] of 850 scenes, with more steps, and p_sigma_max=1 for the head: checkpoints/seventeen/README.md
    "small": (
        Config(cameras=("front", "side", "wrist"), image_size=96, patch=6, video_frames=4, video_stride=8,
               widths=(64, 96, 192), head=HeadConfig(squeeze=4, dropout=0.5)),
        TrainConfig(steps=10000, head_steps=6000, noise_samples=8, cache_size=49152, estimator_steps=4000),
    ),
    # never run: no GPU was available. A cached window is 0.7 MB, on the disk: 6 GB for each process
    "base": (
        Config(cameras=("front", "side", "wrist"), image_size=96, widths=(128, 256, 512), blocks=2, embed=512,
               prompt_width=128),
        TrainConfig(steps=15000, head_steps=5000, batch_size=64, lr=5e-4, head_lr=1e-3, ema_decay=0.9995,
                    cache_size=8192),
    ),
}  # fmt: skip


# ------------------------------------------------------------------ the methods


def train_two_stage(policy, windows, config, state):
    """Learn to generate video; then freeze the generator and learn to read actions from its features."""

    def losses(batch, rng):
        return {"video": policy.video_loss(batch, draw_noise(policy.config, policy.head, batch, rng))[0]}

    yield from stage("video", {"generator": policy.generator_modules()}, losses, windows.without_play(), config, state)
    yield from train_head(policy, windows.with_actions(), config, state)


def train_head(policy, labelled, config, state):
    """Freeze the generator and learn to read actions from its cached features."""
    if "action" in state.finished:
        return
    policy.generator_modules().requires_grad_(False)
    cached = yield from cache_features(policy, labelled, config, state)

    def losses(batch, rng):
        noise = draw_noise(policy.config, policy.head, batch, rng, video=False, samples=config.noise_samples)
        return {"action": policy.action_loss(batch, noise, batch.features)}

    of_head = dataclasses.replace(config, steps=config.head_steps, batch_size=config.head_batch)
    yield from stage("action", {"head": policy.head}, losses, cached, of_head, state)


def train_joint(policy, windows, config, state, detach=False):
    """Learn both at once; the gradient of the actions flows into the generator as well, unless it is detached.

    Differs: the paper's code lets it flow, its text stops it; both are here.
    """

    def losses(batch, rng):
        noise = draw_noise(policy.config, policy.head, batch, rng, samples=config.noise_samples)
        video, features = policy.video_loss(batch, noise)
        features = [f.detach() for f in features] if detach else features
        return {"video": video, "action": policy.action_loss(batch, noise, features)}

    if any(clip.actions is None for clip in windows.clips):
        windows = HalfLabelled(windows)
    modules = {"generator": policy.generator_modules(), "head": policy.head}
    yield from stage("joint", modules, losses, windows, config, state)


def train_joint_detached(policy, windows, config, state):
    """Learn both at once, the generator from video alone: what the paper's text says of its joint training."""
    yield from train_joint(policy, windows, config, state, detach=True)


def train_bc(policy, windows, config, state):
    """Behaviour cloning: from actions alone, video at sigma_max. It needs --set head.dropout=0 noise_samples=16."""
    at_max = dataclasses.replace(policy.config, p_sigma_max=1.0)

    def losses(batch, rng):
        noise = draw_noise(at_max, policy.head, batch, rng, samples=config.noise_samples)
        return {"action": policy.action_loss(batch, noise, policy.features(batch, noise))}

    modules = {"generator": policy.generator_modules(), "head": policy.head}
    yield from stage("bc", modules, losses, windows.with_actions(), config, state)


def train_frozen_random(policy, windows, config, state):
    """Train the head on a random, frozen generator: what the features owe to the network's shape alone."""
    yield from train_head(policy, windows.with_actions(), config, state)


def train_pose_estimator(estimator, windows, config, state):
    """Learn to see the hand in video, from the robot's own motion; what it sees is the label of action-free video."""

    def losses(batch, rng):
        return {"pose": estimator.loss(batch, rng)}

    c = config
    of_poses = dataclasses.replace(c, steps=c.estimator_steps, batch_size=c.estimator_batch, lr=c.estimator_lr)
    yield from stage("pose_estimator", {"pose_estimator": estimator}, losses, windows, of_poses, state)


METHODS = {
    "two_stage": train_two_stage,
    "joint": train_joint,
    "joint_detached": train_joint_detached,
    "bc": train_bc,
    "frozen_random": train_frozen_random,
}


# ------------------------------------------------------------------ the loop


def stage(name, modules, losses, windows, config, state):
    """One stage of a method, unless a resumed run has finished it: the training loop, and at its end the averaged
    weights. Its last row has "finished". state: where the run stands; it is kept up to date.
    """
    if name in state.finished:
        return
    for row in training_loop(modules, losses, windows, config, state):
        yield {"stage": name} | row
    with torch.no_grad():
        for p, ema in zip(state.parameters, state.ema, strict=True):
            p.copy_(ema)
    last = {"stage": name, "step": state.step, "seconds": round(state.seconds, 2), "finished": True}
    state.finish(name)
    yield last


def training_loop(modules, losses, windows, config, state):
    """Train `modules`, {name: network}, on losses(batch, rng) -> {name: scalar}: yields a dict of numbers per step.

    Whatever is drawn depends on (seed, stage, step) alone: a resumed run, and one on more processes, sees the same data
    and noise. With several processes, each reports the losses of its own share of the batch.
    """
    parameters = [p for module in modules.values() for p in module.parameters()]
    device, (rank, world) = parameters[0].device, rank_and_world()
    optimizers = make_optimizers(modules, config)
    state.begin(optimizers, parameters)
    key = [config.seed, state.number]
    clock = time.monotonic() - state.seconds

    for step in range(state.step, config.steps):
        # Warmup, stable, decay (arXiv 2405.18392); 0.01, so that the first step has a rate as well.
        progress = step / config.steps
        trapezoid = min(1.0, 0.01 + progress / config.warmup, (1 - progress) / config.cooldown)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * trapezoid

        drawn = windows.draw(config.batch_size, [*key, step])[rank::world]  # this process's share
        batch = to_device(collate([windows[i] for i in drawn]), device)
        with autocast(device, config.precision):
            measured = losses(batch, seeded_generator([*key, step], device))
        for optimizer in optimizers:
            optimizer.zero_grad()
        sum(measured.values()).backward()  # video and actions count alike
        average_gradients(parameters)
        # Each module by itself: with a common norm, the actions would change the step of a detached generator.
        clip = torch.nn.utils.clip_grad_norm_
        norm = math.hypot(*(float(clip(module.parameters(), config.max_grad_norm)) for module in modules.values()))
        if not math.isfinite(norm):
            raise InputError(f"step {step}: the gradient is {norm}; look at the data, or lower the rate: --set lr=1e-3")
        for optimizer in optimizers:
            optimizer.step()
        # A short average while it is early, as in TensorFlow's ExponentialMovingAverage.
        fresh = 1 - min(config.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(state.ema, [p.detach() for p in parameters], fresh)

        state.step, state.seconds = step + 1, time.monotonic() - clock
        where = {"step": step + 1, "steps": config.steps, "seconds": round(state.seconds, 2)}
        measured = {name: float(loss.detach()) for name, loss in measured.items()}
        yield where | measured | {"lr": optimizers[0].param_groups[0]["lr"], "grad_norm": norm}


# ------------------------------------------------------------------ the command


def parse(argv):
    """(flags, Config, TrainConfig); of a resumed run the flags that it was started with."""
    parser = Parser(prog="train.py", description="Train a Video Policy on demonstration files.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder to make and fill")
    add("--preset", choices=PRESETS, default="tiny", help="tiny: a task; small: all tasks, hours of a CPU; base: a GPU")
    add("--method", choices=METHODS, default="two_stage", help="what learns from what; see the functions train_*")
    add("--data", type=Path, default=Path("demos"), help="folder of <Task>.hdf5 files, or one robomimic file")
    add("--tasks", nargs="*", default=["all"], metavar="TASK", help="which of them, or all; none: leave it empty")
    add("--demos", type=int_range(1), help="take the first so many demos of each file (default: all of them)")
    add("--labelled", type=int_range(1), metavar="N", help="keep the actions of each file's first N demos only")
    add("--action-free", nargs="+", default=[], metavar="TASK", help="tasks of which no action is used")
    add("--play", type=Path, metavar="FOLDER", help="play data: label the action-free clips by a pose estimator")
    add("--estimator", type=Path, metavar="RUN", help="... or by the pose estimator of another run")
    add("--videos", type=Path, metavar="FOLDER", help="more video without actions: mp4 files with prompts, or demos")
    add("--generator", type=Path, metavar="RUN", help="start at stage 2 with that run's generator")
    add("--init", type=Path, metavar="RUN", help="start with that run's generator, not a random one, and train on")
    add("--video-horizon", type=int_range(0, 512), help="control steps of video; 0: the current frame (default: 32)")
    add("--steps", type=int, help="of the generator, in joint and bc of both (default: the preset's)")
    add("--head-steps", type=int, help="of the head, where it has a stage of its own (default: the preset's)")
    add("--seed", type=int_range(0, 2**31), help="initial weights, data order and noise (default: 0)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--resume", action="store_true", help="continue the run in --run, with the flags that it was started with")
    add("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="any field: lr=2e-3 head.width=64")
    args = parser.parse_args(argv)
    if args.resume:
        words = {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv)}
        args = run.read_args(args, given={a.dest for a in parser._actions if words & {*a.option_strings}})
    return args, *build.make_configs(PRESETS[args.preset], args)


def main(argv=None):
    args, config, train_config = parse(argv)
    device = pick_device(args.device)
    rank, world = init_distributed(device)
    for name in ("batch_size", "head_batch", "estimator_batch"):
        if (size := getattr(train_config, name)) % world:
            raise InputError(f"--nproc_per_node {world}: does not divide {name}={size}")
    estimates = args.play or args.estimator
    clips, held_out = build.load_clips(
        config, args.data, args.tasks, demos=args.demos, labelled=args.labelled, action_free=args.action_free,
        videos=args.videos, play=estimates, prompt=train_config.prompt,
    )  # fmt: skip
    tasks = sorted(build.task_files(args.data, args.tasks, args.action_free))
    precision, begun = pick_precision(train_config, device), build.begun_from(args, config)
    made_of = {"trained_tasks": tasks, "data_hash": build.data_hash(clips), "precision": precision}
    state = run.TrainState(finished=["video"] if args.generator else [])
    with run.run_folder(args.run, args.resume, rank):
        if args.resume:
            made_of = run.restore(args.run, state, made_of, device)
        elif rank == 0:
            write_json(args.run / "args.json", vars(args) | made_of)  # the flags, and what they led to
        train_config = dataclasses.replace(train_config, precision=made_of["precision"])
        if estimates:
            clips = labels.watch(args, config, train_config, clips, state, device, train_pose_estimator)
        windows = build.make_windows(clips, config)
        held_out = build.make_windows(held_out or clips, windows.config)
        policy = build.make_policy(windows.config, windows, train_config.seed, begun, new_words=bool(args.init))
        run.take_weights(policy.to(device), state)
        if rank == 0:
            run.describe(policy, windows, held_out, train_config.precision)
        loop = METHODS[args.method](policy, windows, train_config, state)
        measure = partial(run.policy_measure, policy, held_out)
        run.run_training(loop, policy, measure, state, args.run, train_config.eval_every)
        if rank == 0:
            policy.save(args.run / "policy.pt")  # again, for a run killed between its last two files
            plot_curves(args.run / "log.csv", args.run / "curves.png")
            print(f"wrote {args.run}/policy.pt, log.csv, curves.png and samples/")


if __name__ == "__main__":
    command(main)
