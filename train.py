"""Train a Video Policy. Reads demonstration files and never starts a simulator: a box without OpenGL can train.

    python train.py --tasks TurnOnStove --data demos --run runs/stove
    python train.py --tasks CloseDrawer --demos 50 --data demos --run runs/smoke --steps 100 --head-steps 100
    torchrun --nproc_per_node=2 -- train.py ...        # without the --, torchrun takes --run for a flag of its own

A run folder holds policy.pt (EMA weights: enough to act), resume.pt, args.json, log.csv, curves.png, samples/.
"""

import contextlib
import dataclasses
import math
import os
import shutil
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from data.windows import HalfLabelled
from training.batches import batches
from training.color_jitter import color_jitter
from training.config import TRAIN_PRESETS, TrainConfig
from training.device import autocast, faster_precision, pick_device, seeded_generator
from training.distributed import (
    Stopped,
    average_gradients,
    broadcast_from_rank0,
    broadcast_or_stop,
    init_distributed,
    rank_and_world,
)  # fmt: skip
from training.feature_cache import cache_features
from training.noise import draw_noise
from training.optimizers import make_optimizers
from training.run_folder import (
    Log,
    TrainState,
    ema_scope,
    pick_up,
    restore,
    resumed_flags,
    run_folder,
    save,
    stop_between_steps,
)  # fmt: skip
from training.setup import build, load_generator
from util.cli import Parser, command, float_range, int_range, positive_float, unit_interval
from util.figures import dream_error, plot_curves, save_strip
from util.files import InputError, write_json
from videopolicy import DECODERS, PREDICTIONS, PRESETS

SAVE_EVERY = 60.0  # seconds of work that a kill loses at most


# ------------------------------------------------------------------ the method


def train_two_stage(policy, windows, config, state):
    """Learn to generate video; then freeze the generator and learn to read actions off its features."""

    def losses(batch, noise):
        return {"video": policy.video_loss(batch, noise)[0]}

    share = config.video_share
    if state.stage == 0:  # not with --generator, or where the run was interrupted later
        yield from training_loop(policy, ["generator"], losses, windows, config, state, stage=0, share=share)
    yield from train_head(policy, windows.with_actions(), config, state, stage=1, share=1 - share)


def train_joint(policy, windows, config, state, detach=False):
    """Learn both at once; the gradient of the actions flows into the generator as well, unless it is detached.

    Differs: the paper's code lets it flow, its text stops it; both are here.
    """

    def losses(batch, noise):
        video, features = policy.video_loss(batch, noise)
        features = [f.detach() for f in features] if detach else features
        return {"video": video, "action": policy.action_loss(batch, noise, features)}

    if any(clip.actions is None for clip in windows.clips):
        windows = HalfLabelled(windows)
    yield from training_loop(policy, ["generator", "head"], losses, windows, config, state, stage=0)


def train_joint_detached(policy, windows, config, state):
    """Learn both at once, the generator from video alone: what the paper's text says of its joint training."""
    yield from train_joint(policy, windows, config, state, detach=True)


def train_bc(policy, windows, config, state):
    """Behaviour cloning: the same network learns from actions alone, its video always at sigma_max, as when acting."""

    def losses(batch, noise):
        return {"action": policy.action_loss(batch, noise, policy.features(batch, noise))}

    config, labelled = dataclasses.replace(config, p_sigma_max=1.0), windows.with_actions()
    yield from training_loop(policy, ["generator", "head"], losses, labelled, config, state, stage=0)


def train_frozen_random(policy, windows, config, state):
    """Train the head on a random, frozen generator: what the features owe to the network's shape alone."""
    yield from train_head(policy, windows.with_actions(), config, state, stage=0)


def train_head(policy, labelled, config, state, stage, share=1.0):
    """Freeze the generator and learn to read actions off its cached features.

    A pixel decoder trains its own convolutions on true frames, without the generator: there is nothing to cache.
    """
    for p in policy.generator_parameters():
        p.requires_grad_(False)
    if not policy.pairs:
        labelled = cache_features(policy, labelled, config, state, share)
        config = dataclasses.replace(config, batch_size=config.head_batch)
    config = dataclasses.replace(config, steps=config.head_steps)

    def losses(batch, noise):
        features = batch.features or policy.features(batch, noise)
        return {"action": policy.action_loss(batch, noise, features)}

    yield from training_loop(policy, ["head"], losses, labelled, config, state, stage=stage, share=share)


METHODS = {
    "two_stage": train_two_stage,
    "joint": train_joint,
    "joint_detached": train_joint_detached,
    "bc": train_bc,
    "frozen_random": train_frozen_random,
}
STAGES = dict.fromkeys(METHODS, 1) | {"two_stage": 2}  # how many each has


def training_loop(policy, parts, losses, windows, config, state, *, stage, share=1.0):
    """The training loop: trains `parts`, "generator" and "head", on losses(batch, noise) -> {name: scalar}, for
    config.steps steps of config.batch_size windows, or for a share of config.minutes.

    A generator of one dict of floats per step, {stage, step, seconds, progress, <losses>, lr, grad_norm}, and of a
    last one, with "finished", once the averaged weights are in the policy. Whatever is drawn depends on (seed, stage,
    step) alone: a resumed run, and one on more processes, sees the same data and noise. `state` is kept up to date.
    On several processes the losses reported are those of this one's share of the batch.
    """
    trained = {"generator": policy.generator_parameters(), "head": policy.head_parameters()}
    trained = {part: trained[part] for part in parts}
    parameters = [p for part in trained.values() for p in part]
    device = parameters[0].device
    rank, world = rank_and_world()
    optimizers = make_optimizers(policy, trained, config)
    pick_up(state, optimizers, parameters, math.inf if config.minutes else config.steps)
    upcoming = batches(windows, config.batch_size, [config.seed, stage], state.step, device)
    clock = time.monotonic() - state.seconds

    while (progress := broadcast_or_stop(config.progress(state, share), state, device)) < 1:
        # Warmup, stable, decay (arXiv 2405.18392); 0.01, so that the first step has a rate as well.
        trapezoid = min(1.0, 0.01 + progress / config.warmup, (1 - progress) / config.cooldown)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * trapezoid

        key = [config.seed, stage, state.step]
        batch = color_jitter(next(upcoming), key, config.color_jitter, rank, world)
        samples = config.action_noise_samples if "head" in parts else 1
        rng = seeded_generator(key, device)
        noise = draw_noise(
            policy.config, config.batch_size, rng, config.p_sigma_max, video="generator" in parts, samples=samples
        )

        with autocast(device, config.precision):
            measured = losses(batch, noise.part(rank, world))
        policy.zero_grad()
        sum(measured.values()).backward()  # video and actions count alike
        average_gradients(parameters)
        # Each part by itself: a common norm would let the actions rule the step of a generator they are detached from.
        norms = [torch.nn.utils.clip_grad_norm_(part, config.max_grad_norm) for part in trained.values()]
        norm = math.hypot(*map(float, norms))
        if not math.isfinite(norm):
            raise InputError(f"stage {stage + 1} step {state.step}: the gradient is {norm}; look at data and rate")
        for optimizer in optimizers:
            optimizer.step()
        # A short average while it is early, as in TensorFlow's ExponentialMovingAverage.
        fresh = 1 - min(config.ema_decay, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(state.ema, [p.detach() for p in parameters], fresh)

        state.step += 1
        state.seconds = time.monotonic() - clock
        where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": progress}
        measured = {name: float(loss.detach()) for name, loss in measured.items()}
        yield where | measured | {"lr": optimizers[0].param_groups[0]["lr"], "grad_norm": norm}

    with torch.no_grad():
        for p, ema in zip(parameters, state.ema, strict=True):
            p.copy_(ema)
    where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": 1.0}
    state.next_stage()
    yield where | {"finished": True}


# ------------------------------------------------------------------ a whole run


def run_training(loop, policy, held_out, state, folder, method, eval_every):
    """Drive the loop: a progress bar per stage, the log, measures on the held-out windows, saves."""
    log = Log(folder / "log.csv", state)
    saved = looked = time.monotonic()
    bar, told = None, False
    try:
        for row in loop:
            name = ("stage 1, dream", "stage 2, act")[row["stage"]] if method == "two_stage" else method
            finished = "finished" in row
            bar = bar or tqdm(total=1.0, desc=name, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}")
            shown = " ".join(f"{k} {row[k]:.4f}" for k in ("video", "action") if k in row)
            bar.set_postfix_str(f"step {row['step']} {shown}", refresh=False)
            bar.update(row["progress"] - bar.n)
            spent = row["seconds"] - state.cache_seconds
            if not (told or finished) and spent > 10:
                minutes = (spent / max(row["progress"], 1e-3) + state.cache_seconds) / 60
                tqdm.write(f"{name}: {spent / row['step']:.2f} s a step, so about {minutes:.1f} minutes here")
                told = True
            if finished or time.monotonic() - looked > eval_every:
                with ema_scope(state):
                    numbers, pictures = dream_error(policy, held_out)
                row |= numbers
                save_strip(folder / "samples" / f"stage{row['stage'] + 1}_step{row['step']:06d}.png", *pictures)
                line = (
                    "dream {psnr_dream:.1f} dB, one pass {psnr_one_pass:.1f} dB, "
                    "copying the frame {psnr_copy:.1f} dB; action error {action_error:.3f}"
                )
                tqdm.write(f"{name}, step {row['step']}: {line.format(**numbers)}")
                looked = time.monotonic()
            log.write(row)
            if finished or time.monotonic() - saved > SAVE_EVERY:
                save(folder, policy, state)
                saved = time.monotonic()
            if finished:
                bar.close()
                bar, told = None, False
    except Stopped:
        if state.trained:  # not while features are cached: of that nothing is kept
            save(folder, policy, state)
        raise SystemExit(128 + state.stop) from None
    finally:
        if bar:
            bar.close()


def parse(argv):
    """The flags, as argparse has them; those of the run's start where it is resumed."""
    parser = Parser(prog="train.py", description="Train a Video Policy on demonstration files.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder to make and fill")
    add("--preset", choices=PRESETS, default="tiny", help="tiny: a task; small: all tasks, hours of a CPU; base: a GPU")
    add("--method", choices=METHODS, default="two_stage", help="what learns from what; see the functions train_*")
    add("--data", type=Path, default=Path("demos"), help="folder of <Task>.hdf5 files, or one robomimic file")
    add("--tasks", nargs="+", default=["all"], metavar="TASK", help="which of them, or all that are there")
    add("--demos", type=int_range(1), help="take the first so many demos of each file (default: all of them)")
    add("--head-dropout", type=unit_interval, help="of what the head reads; 0 is better for bc (default: the preset's)")
    add("--labelled", type=int_range(1), metavar="N", help="keep the actions of each file's first N demos only")
    add("--action-free", nargs="+", default=[], metavar="TASK", help="more tasks, of which no action is used")
    add("--videos", type=Path, metavar="FOLDER", help="more video without actions: mp4 files with prompts, or demos")
    add("--generator", type=Path, metavar="RUN", help="start at stage 2 with that run's generator")
    add("--init", type=Path, metavar="RUN", help="start with that run's generator, not a random one, and train on")
    add("--cameras", nargs="+", metavar="CAMERA", help="as in the file, obs/CAMERA_image (default: the preset's)")
    add("--image-size", type=int_range(16, 1024), help="side of the frames; they are resized (default: the preset's)")
    add("--prompt", help="the sentence to use instead of the files' own, those of --videos too")
    add("--video-horizon", type=int_range(0, 512), help="steps dreamed ahead; 0: the current frame (default: 32)")
    add("--action-noise-samples", type=int_range(1, 256), help="noisy action chunks per window (default: the preset's)")
    noise_alone = "at sigma_max, show noise alone, as when acting (default: yes)"
    add("--zero-terminal-snr", action=BooleanOptionalAction, help=noise_alone)
    add("--color-jitter", type=float_range(0, 3), default=0.0, help="how much colours vary; 1 is a lot (default: 0)")
    add("--prediction", choices=PREDICTIONS, help="what the video network is asked for (default: the preset's)")
    add("--decoder", choices=DECODERS, default="features", help="what actions are read off: the network, or its frames")
    add("--steps", type=int_range(1), help="of the generator, in joint and bc of both (default: the preset's)")
    add("--head-steps", type=int_range(1), help="of the head alone, where it has a stage (default: the preset's)")
    add("--minutes", type=positive_float, help="wall time of all stages; the result then depends on the machine")
    add("--seed", type=int_range(0, 2**31), default=0, help="initial weights, data order and noise")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto measures which is faster here")
    add("--compile", action="store_true", help="torch.compile the U-Net: a minute at the start, for long runs")
    add("--eval-every", type=positive_float, default=60.0, metavar="SECONDS", help="between held-out measures")
    add("--resume", action="store_true", help="continue the run in --run, with the flags that it was started with")
    args = parser.parse_args(argv)
    if args.resume:
        return resumed_flags(parser, args.run, argv)
    if args.minutes and (args.steps or args.head_steps):
        raise InputError("--minutes: counts time, --steps and --head-steps count steps; give one of the two")
    for name, value in vars(TRAIN_PRESETS[args.preset]).items():
        if getattr(args, name, value) is None:
            setattr(args, name, value)
    return args


def main(argv=None):
    args = parse(argv)
    device = pick_device(args.device)
    if args.compile and device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise InputError("--compile: needs a C++ compiler for a CPU; install g++ or leave the flag out")
    rank, world = init_distributed(device)
    policy, windows, held_out = build(args)
    policy.to(device)
    if args.precision == "auto":
        args.precision = ("fp32", "bf16")[int(broadcast_from_rank0(faster_precision(device) == "bf16", device))]
    fields = {f.name for f in dataclasses.fields(TrainConfig)} & set(vars(args))
    config = dataclasses.replace(TRAIN_PRESETS[args.preset], **{name: getattr(args, name) for name in fields})
    if config.batch_size % world:
        raise InputError(f"--nproc_per_node {world}: does not divide the batch of {config.batch_size}")
    state = TrainState()
    if args.generator:
        config = dataclasses.replace(config, video_share=0.0)  # all of --minutes is the head's
        if not args.resume:
            load_generator(args.generator / "policy.pt", policy)
            state.next_stage()
    elif args.init and not args.resume:
        load_generator(args.init / "policy.pt", policy, "--init")
    with run_folder(args.run, args.resume, rank):
        if args.resume:
            restore(args.run, policy, state, STAGES[args.method], device)
        elif rank == 0:
            paths = {name: str(value) for name, value in vars(args).items() if isinstance(value, Path)}
            write_json(args.run / "args.json", vars(args) | paths)
        if args.compile:
            policy.unet.compile()
        done = state.stage == STAGES[args.method]  # the run that is resumed had ended
        loop = () if done else METHODS[args.method](policy, windows, config, state)
        with stop_between_steps(state, rank):
            if rank > 0:  # works along; the first process watches
                with contextlib.suppress(Stopped):
                    for _ in loop:
                        pass
                return
            unet, head = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (policy.unet, policy.head))
            threads = f"{args.precision} on {device}, {torch.get_num_threads()} threads"
            print(f"{len(windows)} windows of {len(windows.clips)} demos, {len(held_out)} held out; {threads}")
            print(f"U-Net {unet:.1f} M parameters, action head {head:.1f} M")
            run_training(loop, policy, held_out, state, args.run, args.method, args.eval_every)
        policy.save(args.run / "policy.pt")  # again, for a run killed between its last two files
        plot_curves(args.run / "log.csv", args.run / "curves.png")
    print(f"wrote {args.run}/policy.pt, log.csv, curves.png and samples/")


if __name__ == "__main__":
    command(main)
