"""Evaluate a trained policy in the simulator: success with its interval, milliseconds per decision, films.

    python evaluate.py --run runs/close_drawer --episodes 50 --workers 2
    python evaluate.py --run runs/close_drawer --episodes 5 --out eval_quick.json       # some seconds

Episode i starts from evaluation_seed(i) of sim/record.py, out of reach of any demonstration, and the same one for
every policy: comparisons are paired. Writes eval_<shift>.json (every episode) and a film into the run folder.
"""

import hashlib
import json
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sim import shared_env
from sim.oracle import ReactingExpert, record_expert
from sim.record import EPISODES_PER_SEED, evaluation_seed
from sim.task import SHIFTS
from sim.tasks import TASKS
from training.device import pick_device, seeded_generator
from util.cli import Parser, choose_tasks, command, int_range, positive_float, wilson, worker_processes
from util.figures import PASSES, side_by_side, squared_error, write_film
from util.files import InputError, check_same, check_writable, read_json, write_json
from videopolicy import VideoPolicy

PROMPTS = ("right", "wrong")
# The expert's video of a scene: not made, held against the dream, put in its place; "react": made anew at every
# decision, by an expert who starts from where the robot is, and put in the dream's place.
ORACLES = ("off", "score", "feed", "react")
FED = ("feed", "react")
FILM_EVERY = 4  # control steps between frames of a film
FILM_STREAM = 1  # dreams that are only looked at draw from a stream of their own, so that filming changes nothing


@dataclass(frozen=True)
class EvalConfig:
    """How to act: `execute` actions of each chunk, `video_steps` denoising steps before the features are read."""

    shift: str = "none"
    execute: int = 16  # half of the chunk, as in the paper
    video_steps: int = 0  # one pass at pure noise
    read_sigma: float | None = None  # noise level of the pass that is read after them; None: the policy's lowest
    guidance: float = 1.0
    oracle: str = "off"
    prompt: str = "right"  # the scene's sentence, or the "wrong" one: that of the task's other choice
    device: str = "cpu"


@dataclass
class Episode:
    """What is kept of one episode."""

    task: str
    seed: int
    success: bool
    steps: int
    dream_error: float | None = None  # normalised MSE of the dreams, over all decisions
    first_dream_error: float | None = None  # that of the first one alone, before the policy has changed anything
    expert_steps: int | None = None  # how long the expert takes in this scene, where its video was made


@dataclass
class Decision:
    """What the policy saw when it decided, what it dreamt, and how long it took."""

    frames: np.ndarray  # (V, 3, H, W) uint8
    dream: np.ndarray  # (T, V, 3, H, W) uint8
    milliseconds: float
    ahead: np.ndarray | None  # the expert's video from there, shaped as the dream; None without an oracle
    actions: np.ndarray  # (K, 7) float64, those to be executed


def closed_loop(env, policy, seed, config, prompt, truth=None):
    """Look, decide, execute, look again, in the scene that `env` was reset to: a generator of (decision, k)
    after every control step, the k-th since that decision.

    Ends with the episode, in mid-chunk if need be. truth: an oracle of sim/oracle.py.
    """
    decisions = 0
    while not env.ended():
        frames = env.observe()
        ahead = truth.ahead(env, policy.config.video_frames, policy.config.video_stride) if truth else None
        rng = seeded_generator([seed, decisions], config.device)
        started = time.perf_counter()
        actions, dream = policy.act(
            frames[None], [prompt], rng, video_steps=config.video_steps, guidance=config.guidance,
            read_sigma=config.read_sigma, future=ahead[None] if config.oracle in FED else None,
        )  # fmt: skip
        actions = actions[0, : config.execute].cpu().double().numpy()
        decision = Decision(frames, dream[0].cpu().numpy(), 1000 * (time.perf_counter() - started), ahead, actions)
        decisions += 1
        for k, action in enumerate(actions, start=1):
            env.step(action)
            yield decision, k
            if env.ended():
                break


def rollout(env, policy, seed, config, film=False, passes=PASSES):
    """One episode, closed loop -> (Episode, milliseconds of each decision, frames of the film or []).

    The film is of pairs (V, 3, H, W) uint8: reality at every fourth step, and the last decision's dream of that step,
    or of the next one that it shows. One pass on noise is blurred: to be looked at, a dream is made anew, in so many
    `passes`. None: that by which the policy decided, as always where an oracle's video is fed.
    """
    stride = policy.config.video_stride
    truth = None
    if config.oracle != "off":
        truth = (ReactingExpert if config.oracle == "react" else record_expert)(env, seed, config.shift)
    env.reset(seed, config.shift)
    prompt = env.prompt if config.prompt == "right" else env.other_prompts[0]
    film = film and stride > 0  # with a video horizon of 0 there is nothing to see
    milliseconds, pictures, misses = [], [], []
    for decision, k in closed_loop(env, policy, seed, config, prompt, truth):
        if k == 1:
            if truth:
                copied = squared_error(decision.frames[None], decision.ahead)
                misses.append((squared_error(decision.dream, decision.ahead), copied))
            dream = decision.dream
            if film and passes and config.oracle not in FED:
                rng = seeded_generator([seed, len(milliseconds), FILM_STREAM], config.device)
                video, _ = policy.imagine(decision.frames[None], [prompt], rng, passes, config.guidance)
                dream = video[0].cpu().numpy()
            milliseconds.append(decision.milliseconds)
        if film and (dreamed := dreamed_at(k, dream, stride)) is not None:
            pictures.append((env.observe(), dreamed))
    episode = Episode(env.task.name, seed, env.success(), env.timestep)
    if config.oracle == "react":
        truth.close()
    if config.oracle in ("score", "feed"):
        episode.expert_steps = len(truth.frames) - 1
    if misses:
        episode.dream_error, episode.first_dream_error = normalized_mse(misses), normalized_mse(misses[:1])
    return episode, milliseconds, pictures


def dreamed_at(k, dream, stride):
    """The frame of a dream (T, ...) for the k-th step after its decision, or the next one that there is; None where a
    film has no frame at that step.
    """
    return dream[-(-k // stride) - 1] if k % FILM_EVERY == 0 and k <= stride * len(dream) else None


def normalized_mse(misses):
    """Squared error of the dreams over that of copying the current frame, from pairs of both: 0 is right, 1 no better
    than copying. None where nothing was going to move.
    """
    dreams, copies = (sum(errors) for errors in zip(*misses, strict=True))
    return round(dreams / copies, 4) if copies > 0 else None


# ---------------------------------------------------------------- many episodes

_worker = {}  # of one worker process: the policy and the config


def _start_worker(path, config, expected):
    torch.set_num_threads(1)  # one core per worker; the same number everywhere, so that sums round alike
    policy = VideoPolicy.load(path)
    changed = expected not in (None, fingerprint(policy)) and f"{path}: was changed meanwhile; evaluate it again"
    _worker.update(policy=policy.to(config.device), config=config, changed=changed)


def _episode(job):
    if _worker["changed"]:
        raise InputError(_worker["changed"])
    task, seed, film = job
    policy = _worker["policy"]
    env = shared_env(task, policy.config.cameras, policy.config.image_size)
    return rollout(env, policy, seed, _worker["config"], film)


def evaluate(path, tasks, episodes, config, *, seed=0, workers=1, films=1, expected=None):
    """Roll out `episodes` episodes of each task -> (list of Episode, ms per decision, {task: film frames}).

    The episodes depend on the weights, the config and the seed; not on `workers` or `films`. expected: the fingerprint
    that the policy must have; InputError where it has another.
    """
    jobs = [(task, evaluation_seed(i, seed), i < films) for task in tasks for i in range(episodes)]
    results, milliseconds, pictures = [], [], {}
    bar = tqdm(total=len(jobs), desc="evaluating", unit="episode")
    with bar, worker_processes(workers, _start_worker, path, config, expected) as pool:
        for (episode, times, frames), (task, *_) in zip(pool.map(_episode, jobs), jobs, strict=True):
            results.append(episode)
            milliseconds += times
            if frames:
                pictures.setdefault(task, []).append(frames)
            bar.set_postfix(success=f"{sum(e.success for e in results)}/{len(results)}", refresh=False)
            bar.update()
    return results, milliseconds, pictures


def table(episodes):
    """Rows (task, successes, n, low, high), and a last one for all tasks together where there are several."""
    groups = {}
    for episode in episodes:
        groups.setdefault(episode.task, []).append(episode.success)
    if len(groups) > 1:
        groups["all"] = [episode.success for episode in episodes]
    return [(task, sum(won), len(won), *wilson(sum(won), len(won))) for task, won in groups.items()]


def parse(argv=None):
    """The flags, as argparse has them."""
    parser = Parser(prog="evaluate.py", description="Roll a trained policy out on unseen scenes.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a run folder of train.py")
    add("--episodes", type=int_range(1, EPISODES_PER_SEED), default=50, help="of each task")
    add("--tasks", nargs="+", metavar="TASK", help="tasks to try, or all (default: those trained on)")
    add("--shift", choices=SHIFTS, default="none", help="what differs from the training scenes")
    add("--execute", type=int_range(1), default=16, help="actions of a chunk to execute before deciding again")
    steps = "denoising steps before features are read, N + 1 passes; 0: one pass, on pure noise"
    add("--video-steps", type=int_range(0, 1000), default=0, metavar="N", help=steps)
    add("--read-sigma", type=positive_float, help="noise level of the last pass (default: the policy's lowest)")
    add("--guidance", type=positive_float, default=1.0, help="prompt weight (classifier-free guidance); 1 is off")
    add("--oracle", choices=ORACLES, default="off", help="the expert's video of a scene, to score or replace dreams")
    add("--prompt", choices=PROMPTS, default="right", help="wrong: ask for the other choice, where a task has several")
    add("--films", type=int_range(0), default=1, help="episodes of each task to film, dream beside reality")
    add("--seed", type=int_range(0, 1000), default=0, help="another seed, other scenes")
    add("--out", metavar="NAME", help="name of the result in the run folder (default: eval_<shift>.json)")
    add("--device", default="cpu", help="where to decide: cpu (one thread per worker) or cuda; a GPU rounds otherwise")
    add("--workers", type=int_range(1, 256), default=2, help="processes; the episodes are the same for any number")
    return parser.parse_args(argv)


def main():
    args = parse()
    path = args.run / "policy.pt"
    policy = VideoPolicy.load(path)
    check_robot(args.run, policy.config)
    tasks = choose_tasks(args.tasks or trained_tasks(args.run), TASKS)
    check_flags(args, policy.config, tasks)
    with suppress(InputError):  # where the tasks were named, that file may be missing
        if strange := set(tasks) - set(known := trained_tasks(args.run)):
            told = f"{', '.join(sorted(strange))}: not what this policy was trained on, which is {', '.join(known)}"
            print(f"warning: {told}", file=sys.stderr)
    args.device = str(pick_device(args.device))
    config = EvalConfig(**{field.name: getattr(args, field.name) for field in fields(EvalConfig)})
    scenes = {"tasks": tasks, "episodes": args.episodes, "seed": args.seed}
    protocol = asdict(config) | scenes | {"policy": fingerprint(policy)}
    out = args.run / (args.out or f"eval_{args.shift}.json")
    if out.exists():  # a result of the same protocol is made again, another's is kept
        found = read_json(out)
        check_same(out, isinstance(found, dict) and found.get("protocol"), protocol)
    check_writable(out)

    started = time.monotonic()
    how = {"workers": args.workers, "films": args.films, "expected": protocol["policy"]}
    episodes, milliseconds, films = evaluate(path, **scenes, config=config, **how)
    seconds, per_decision = time.monotonic() - started, round(statistics.median(milliseconds), 1)
    timing = {"seconds": round(seconds, 1), "ms_per_decision": per_decision, "workers": args.workers}
    rows = table(episodes)
    summary = [dict(zip(("task", "success", "episodes", "low", "high"), row, strict=True)) for row in rows]
    every = [asdict(episode) for episode in episodes]
    write_json(out, {"protocol": protocol, "summary": summary, "timing": timing, "episodes": every})
    for task, of_task in films.items():
        for i, frames in enumerate(of_task):
            film = args.run / f"{task}_{out.stem.removeprefix('eval_')}_{i}.gif"
            write_film(film, np.stack([side_by_side(*pair) for pair in frames]), fps=20 / FILM_EVERY)
            print(f"film: {film}")
    for task, won, n, low, high in rows:
        print(f"{task}, shift {args.shift}: {won}/{n} = {won / n:.2f}, 95 % interval [{low:.2f}, {high:.2f}]")
    print(f"{per_decision} ms per decision (median), {seconds:.0f} s in all; every episode: {out}")


def check_robot(run, config):
    """InputError for a policy of another robot, whose cameras, frames or actions the simulator does not have."""
    from sim.env import ACTION_DIM, CAMERAS

    fits = {
        "cameras": set(config.cameras) <= set(CAMERAS),
        "image_size": config.image_size % 16 == 0,
        "action_size": config.action_size == ACTION_DIM,
    }
    has = f"the simulator has cameras {', '.join(CAMERAS)}, sizes in multiples of 16 and {ACTION_DIM} actions"
    for field, good in fits.items():
        if not good:
            raise InputError(f"{run}: field {field}={getattr(config, field)!r}: {has}; train on demos of sim.demos")


def check_flags(args, config, tasks):
    """InputError for flags that a policy or a task cannot follow, or that would have no effect."""
    c = config
    if args.prompt == "wrong" and (single := [task for task in tasks if not TASKS[task].choices]):
        several = ", ".join(name for name, task in TASKS.items() if task.choices)
        raise InputError(f"--prompt wrong: {single[0]} has one prompt only; --tasks may be {several}")
    if args.execute > c.action_horizon:
        raise InputError(f"--execute: {args.execute} is more than a chunk's {c.action_horizon} actions")
    if args.read_sigma is not None and not c.sigma_min <= args.read_sigma <= c.sigma_max:
        raise InputError(f"--read-sigma: {args.read_sigma:g} is out of range: {c.sigma_min:g} to {c.sigma_max:g}")
    if args.read_sigma is not None and args.video_steps == 0 and args.oracle not in FED:
        raise InputError("--read-sigma: one pass is read at pure noise; give --video-steps as well")
    if args.read_sigma is not None and c.decoder == "pixels" and args.oracle in FED:
        raise InputError("--read-sigma: a pixel decoder reads the expert's frames, not the generator; leave it out")
    if args.guidance != 1 and args.oracle in FED:
        raise InputError(f"--guidance: with --oracle {args.oracle} there is no dream to guide; leave one out")
    if args.guidance != 1 and c.decoder == "features" and args.video_steps == 0:
        raise InputError("--guidance: one pass decides before there is a dream to guide; give --video-steps")
    if args.oracle in FED and args.read_sigma == c.sigma_max and c.zero_terminal_snr:
        raise InputError(f"--read-sigma: at {c.sigma_max:g} this policy sees noise alone, no video; give a lower one")
    if args.oracle in FED and args.video_steps:
        raise InputError(f"--video-steps: with --oracle {args.oracle} there is no dream to denoise; leave one out")
    if args.oracle != "off" and c.video_stride == 0:
        raise InputError(f"--oracle {args.oracle}: this policy generates no future (video horizon 0)")


def trained_tasks(folder):
    """The tasks in a run's args.json, all that the data folder held where it says "all"."""
    try:
        return list(json.loads((folder / "args.json").read_text())["trained_tasks"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder}/args.json: missing or damaged; name the tasks with --tasks") from None


def fingerprint(policy):
    """A short hash of the weights: says whether two results are of one policy."""
    digest = hashlib.sha256()
    for name, value in sorted(policy.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    command(main)
