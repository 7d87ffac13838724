"""Train a Video Policy. Reads demonstration files and never starts a simulator: a box without OpenGL can train.

    python train.py --preset tiny --tasks CloseDrawer --demos 50 --data demos --run runs/close_drawer --minutes 7
    python train.py --preset tiny --tasks CloseDrawer --data demos --run runs/taste --minutes 1
    torchrun --nproc_per_node=2 -- train.py ...        # without the --, torchrun takes --run for a flag of its own

A run folder holds policy.pt (averaged weights: enough to act), resume.pt, args.json, log.csv, curves.png, samples/.
"""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from cli import InputError, Parser, command, float_range, int_range, positive_float, unit_interval
from data.videos import TASK
from data.windows import HalfLabelled
from figures import dream_error, plot_curves, save_strip
from model.checkpoint import CheckpointError
from training.color_jitter import recolour
from training.device import faster_precision, generator_of, pick_device
from training.distributed import agree, average_gradients, join_processes, process
from training.feature_cache import remember
from training.muon import Muon, matrices_of
from training.run_folder import Log, State, averaged, restore, save, start_run, write_json
from training.setup import build, take_over
from videopolicy import DECODERS, PREDICT, PRESETS, ConfigError, collate, draw_noise

MISTAKES = (InputError, CheckpointError, ConfigError, OSError)  # become one line and exit status 2


@dataclass(frozen=True)
class Recipe:
    """How to train; what is trained is videopolicy.Config. The comment on each line is the reason for its value."""

    batch_size: int = 8  # of all processes; 8 beat 16 at equal time by 0.4 dB: a CPU gains nothing from more
    steps: int = 900  # of the generator: of stage 1, or of the only one where both parts learn at once
    head_steps: int = 1500  # of stage 2
    muon: bool = True  # trains the generator's matrices, as fast as AdamW does in twice as many steps; False: AdamW
    lr: float = 2e-3  # of the generator, both optimizers
    head_lr: float = 2e-3  # of the head, AdamW
    weight_decay: float = 0.01
    momentum: float = 0.95  # of Muon
    betas: tuple = (0.9, 0.99)  # of AdamW; a short memory: a run has a few thousand steps
    clip: float = 1.0  # of the gradient's norm
    warmup: float = 0.03  # share of a stage
    cooldown: float = 0.5  # share of a stage, linear to zero; the paper's constant rate leaves checkpoints noisy
    ema: float = 0.998  # of the averaged weights, which are what acts
    video_share: float = 0.75  # of --minutes goes to stage 1
    pure_share: float = 0.3  # of the clips lie at sigma_max, where one-pass decisions read the features
    # A frozen generator need not be asked at every step: its features are computed once, for so many windows, drawn
    # as a batch is. Differs: the paper runs the generator at every step of stage 2.
    memory: int = 4096
    draws: int = 8  # ... and for fewer, where there are few: so many draws of noise for each, on average
    head_batch: int = 128  # of these a step of the head takes


# Of base, a window remembered is 0.7 MB, on the host: 6 GB.
RECIPES = {
    "tiny": Recipe(),
    "base": Recipe(batch_size=64, lr=5e-4, head_lr=1e-3, ema=0.9995, memory=8192, steps=15000, head_steps=5000),
}  # fmt: skip


@dataclass
class Run:
    """One training run: how, how long, and how far it is."""

    recipe: Recipe
    minutes: float | None = None  # over all stages, instead of the recipe's steps
    seed: int = 0
    precision: str = "fp32"
    action_draws: int = 1  # noisy chunks of actions that are denoised for each window of a step
    recolour: float = 0.0  # how far training clips are from the colours they were taken in
    spent: float = 0.0  # seconds of the stage that went by before its first step
    state: State = dataclasses.field(default_factory=State)

    def progress(self, steps, share):
        """How far the current stage is, 0 to 1: of its steps, or of its share of --minutes."""
        if self.minutes is None:
            return self.state.step / steps
        left = 60 * self.minutes * share - self.spent
        return max(0.0, (self.state.seconds - self.spent) / left) if left > 0 else 1.0


# ------------------------------------------------------------------ the method


def train_two_stage(policy, windows, run):
    """Learn to generate video; then freeze the generator and learn to read actions off its features."""
    share = run.recipe.video_share
    yield from optimise(policy, ["generator"], ["video"], windows, run, stage=0, share=share)
    yield from train_head(policy, windows.with_actions(), run, stage=1, share=1 - share)


def train_joint(policy, windows, run, detach=False):
    """Learn both at once; the gradient of the actions flows into the generator as well, unless it is detached."""
    parts, streams = ["generator", "head"], ["video", "action"]
    windows = windows if windows.all_labelled else HalfLabelled(windows)
    yield from optimise(policy, parts, streams, windows, run, stage=0, detach=detach)


def train_joint_detached(policy, windows, run):
    """Learn both at once, the generator from video alone: what the paper's text says of its joint training."""
    yield from train_joint(policy, windows, run, detach=True)


def train_bc(policy, windows, run):
    """Behaviour cloning: the same network learns from actions alone, always at the noise at which it will decide."""
    parts, labelled = ["generator", "head"], windows.with_actions()
    yield from optimise(policy, parts, ["action"], labelled, run, stage=0, pure_share=1.0)


def train_frozen_random(policy, windows, run):
    """Learn to read actions off a generator that was never trained: what the features owe to their shape alone."""
    yield from train_head(policy, windows.with_actions(), run, stage=0)


def train_head(policy, labelled, run, stage, share=1.0):
    """Freeze the generator and learn to read actions off it; a pixel decoder learns from frames, without it."""
    for p in policy.generator_parameters():
        p.requires_grad_(False)
    if run.state.stage > stage:
        return  # done before the run was interrupted
    shared = {"stage": stage, "share": share, "steps": run.recipe.head_steps}
    if policy.pairs:  # a pixel decoder trains its own convolutions, on true frames: there is nothing to remember
        yield from optimise(policy, ["head"], ["action"], labelled, run, **shared)
        return
    memory = remember(policy, labelled, run, stage, share)
    yield from optimise(policy, ["head"], ["action"], memory, run, batch_size=run.recipe.head_batch, **shared)


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


def optimise(
    policy, parts, streams, windows, run, *,
    stage, steps=None, share=1.0, detach=False, pure_share=None, batch_size=None,
):  # fmt: skip
    """The training loop: trains `parts`, "generator" and "head", on the losses `streams`, "video" and "action", for so
    many steps (None: the recipe's), or a share of --minutes. detach stops the gradient of the actions at the generator.

    A generator of one dict of floats per step, {stage, step, seconds, progress, <losses>, lr, grad_norm}, and of a
    last one, with "finished", once the averaged weights are in the policy. Whatever is drawn depends on (seed, stage,
    step) alone: a resumed run, and one on more processes, sees the same data and noise. `run.state` is kept up to date.
    On several processes the losses reported are those of this one's share of the batch.
    """
    recipe, state = run.recipe, run.state
    if state.stage > stage:
        return
    trained = {"generator": policy.generator_parameters(), "head": policy.head_parameters()}
    trained = {part: trained[part] for part in parts}
    parameters = [p for part in trained.values() for p in part]
    device = parameters[0].device
    rank, world = process()
    optimizers = make_optimizers(policy, trained, recipe)
    pure_share = recipe.pure_share if pure_share is None else pure_share
    if state.optimizers is None:
        state.average = [p.detach().clone() for p in parameters]
    else:
        for optimizer, saved in zip(optimizers, state.optimizers, strict=True):
            optimizer.load_state_dict(saved)
    state.optimizers, state.trained = optimizers, parameters
    batch_size, steps = batch_size or recipe.batch_size, steps or recipe.steps
    clock = time.monotonic() - state.seconds

    while (progress := agree(run.progress(steps, share), device)) < 1:
        trapezoid = min(1.0, 0.01 + progress / recipe.warmup, (1 - progress) / recipe.cooldown)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * trapezoid

        # Draw the global batch and its noise; this process takes every world-th clip.
        key = [run.seed, stage, state.step]
        batch = collate([windows[i] for i in windows.draw(batch_size, key)[rank::world]]).to(device)
        batch = recolour(batch, key, run.recolour, rank, world)
        unet = batch.features is None and ("video" in streams or not policy.pairs)  # else no frame needs noise
        chunks = run.action_draws if "action" in streams else 1
        noise = draw_noise(policy.config, batch_size, generator_of(key, device), pure_share, unet, chunks)

        with torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            losses = policy.loss(batch, noise.part(rank, world), streams, detach)
        for p in parameters:
            p.grad = None
        sum(losses.values()).backward()
        average_gradients(parameters)
        # Each part by itself: a common norm would let the actions rule the step of a generator they are detached from.
        norm = math.hypot(*(float(torch.nn.utils.clip_grad_norm_(p, recipe.clip)) for p in trained.values()))
        if not math.isfinite(norm):
            raise InputError(f"stage {stage} step {state.step}: the gradient is {norm}; look at data and rate")
        for optimizer in optimizers:
            optimizer.step()
        fresh = 1 - min(recipe.ema, (1 + state.step) / (10 + state.step))  # a short average while it is early
        torch._foreach_lerp_(state.average, [p.detach() for p in parameters], fresh)

        state.step += 1
        state.seconds = time.monotonic() - clock
        where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": progress}
        measured = {name: float(loss.detach()) for name, loss in losses.items()}
        yield where | measured | {"lr": optimizers[0].param_groups[0]["lr"], "grad_norm": norm}

    with torch.no_grad():
        for p, average in zip(parameters, state.average, strict=True):
            p.copy_(average)
    where = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": 1.0}
    state.next_stage()
    yield where | {"finished": True}


def make_optimizers(policy, trained, recipe):
    """[Muon for the matrices of the generator, AdamW for all else], or AdamW alone; trained: {part: its parameters}."""
    matrices = matrices_of(policy.unet, policy.text) if recipe.muon and "generator" in trained else []
    chosen = {id(p) for p in matrices}
    peaks = {"generator": recipe.lr, "head": recipe.head_lr}
    rest = [
        {"params": [p for p in parameters if id(p) not in chosen], "peak": peaks[part]}
        for part, parameters in trained.items()
    ]
    adamw = torch.optim.AdamW(rest, recipe.lr, recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    groups = [{"params": matrices, "peak": recipe.lr}]
    return [Muon(groups, recipe.lr, recipe.momentum, recipe.weight_decay), adamw]


# ------------------------------------------------------------------ a whole run


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
    add("--demos", type=int_range(1), help="take the first so many demos of each file (default: all of them)")
    add("--head-dropout", type=unit_interval, help="of what the head reads; 0 is better for bc (default: the preset's)")
    add("--labelled", type=int_range(1), metavar="N", help="keep the actions of each file's first N demos only")
    add("--action-free", nargs="+", default=[], metavar="TASK", help="more tasks, of which no action is used")
    add("--videos", type=Path, metavar="FOLDER", help="more video without actions: NAME.mp4 with a prompt in NAME.txt")
    add("--generator", type=Path, metavar="RUN", help="start at stage 2 with that run's generator, for its share")
    add("--cameras", nargs="+", metavar="CAMERA", help="as in the file, obs/CAMERA_image (default: the preset's)")
    add("--image-size", type=int_range(16, 1024), help="side of the frames; they are resized (default: the preset's)")
    add("--prompt", help="the sentence to use instead of the file's own")
    add("--video-horizon", type=int_range(0, 512), help="steps dreamed ahead; 0: the current frame (default: 32)")
    add("--action-draws", type=int_range(1, 256), default=1, help="noisy action chunks denoised for each window")
    add("--recolour", type=float_range(0, 3), default=0.0, help="how much colours of training clips vary; 1 is a lot")
    add("--predict", choices=PREDICT, help="what the video network is asked for (default: the preset's)")
    add("--decoder", choices=DECODERS, default="features", help="what actions are read off: the network, or its frames")
    add("--steps", type=int_range(1), help="of the generator (default: the preset's)")
    add("--head-steps", type=int_range(1), help="of stage 2, the head alone (default: the preset's)")
    add("--minutes", type=positive_float, help="wall time of all stages; the result then depends on the machine")
    add("--seed", type=int_range(0, 2**31), default=0, help="initial weights, data order and noise")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto measures which is faster here")
    add("--compile", action="store_true", help="torch.compile the U-Net: a minute at the start, for long runs")
    add("--threads", type=int_range(1, 1024), help="CPU threads (default: torch's choice)")
    add("--save-every", type=positive_float, default=60.0, metavar="SECONDS", help="a kill loses at most this much")
    add("--look-every", type=positive_float, default=60.0, metavar="SECONDS", help="between looks at held-out windows")
    add("--resume", action="store_true", help="continue the run in --run, with the flags that it was started with")
    args = parser.parse_args(argv)
    if args.resume:
        return resumed_flags(parser, args.run, argv)
    if args.minutes and (args.steps or args.head_steps):
        raise InputError("--minutes: counts time, --steps and --head-steps count steps; give one of the two")
    args.steps, args.head_steps = (
        given or getattr(RECIPES[args.preset], name)
        for name, given in (("steps", args.steps), ("head_steps", args.head_steps))
    )
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
    for name, value in ({name: parser.get_default(name) for name in vars(args)} | saved).items():
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
    recipe = dataclasses.replace(recipe, steps=args.steps, head_steps=args.head_steps)
    how = {name: getattr(args, name) for name in ("minutes", "seed", "precision", "action_draws", "recolour")}
    run = Run(recipe, **how)
    if args.generator and not args.resume:
        take_over(args.generator / "policy.pt", policy)
        run.state.next_stage()
    if args.resume:
        restore(args.run, policy, run.state, device)
    elif rank == 0:
        start_run(args.run)
        paths = {name: str(value) for name, value in vars(args).items() if isinstance(value, Path)}
        flags = vars(args) | paths | {"trained_tasks": [task for task in windows.tasks if task != TASK]}
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
