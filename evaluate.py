"""Evaluate a trained policy in the simulator: success rate with its interval, milliseconds per decision, films.

    python evaluate.py --run runs/close_drawer --episodes 50 --workers 2
    python evaluate.py --run checkpoints/seventeen --tasks all --episodes 5    # a table and a film of all tasks

No demonstration shows the scenes, which are the same for every policy. Writes eval_<shift>.json and films into RUN.
"""

import hashlib
import sys
import time
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sim import shared_env
from sim.record import EPISODES_PER_SEED, evaluation_seed
from sim.task import SHIFTS
from sim.tasks import TASKS
from training.device import pick_device, seeded_generator
from util.cli import Parser, choose_tasks, command, float_range, int_range, wilson, worker_processes
from util.figures import write_films
from util.files import InputError, check_same, claimed, read_json, write_json
from videopolicy import VideoPolicy

FILM_EVERY = 4  # control steps between frames of a film


@dataclass(frozen=True)
class EvalConfig:
    """How the policy acts."""

    shift: str = "none"
    execute: int | None = None  # actions of each chunk before deciding again; None: see `executed`
    video_steps: int = 0  # passes of the generator before the one that is read; 0: a single pass, at sigma_max
    guidance: float = 1.0
    prompt: str = "right"  # the scene's prompt; "wrong": the prompt of the task's other choice
    device: str = "cpu"


@dataclass
class Episode:
    """What is kept of one episode."""

    task: str
    seed: int
    success: bool
    steps: int


@dataclass
class Decision:
    """What the policy observed and generated, and how long that took."""

    frames: np.ndarray  # (V, 3, H, W) uint8
    video: np.ndarray  # (T, V, 3, H, W) uint8
    milliseconds: float


def executed(config):
    """How many actions of a chunk are executed by default. config: the policy's. Half a chunk of commands, as in the
    paper. Differs: a whole chunk of hand poses, which succeeds more often (docs/results.md).
    """
    return config.action_horizon // (2 if config.action_space == "delta" else 1)


def closed_loop(env, policy, seed, config, prompt=None):
    """Observe, decide, execute, and again, in the scene that `env` was reset to. prompt: in place of the config's.

    Yields (decision, k) after every control step, the k-th since that decision; ends with the episode, also mid-chunk.
    """
    decisions, count = 0, config.execute or executed(policy.config)
    prompt = prompt or (env.prompt if config.prompt == "right" else env.other_prompts[0])
    while not env.ended():
        frames = env.observe()
        rng = seeded_generator([seed, decisions], config.device)
        started = time.perf_counter()
        actions, video = policy.act(frames[None], [prompt], rng, config.video_steps, config.guidance)
        actions = actions[0, :count].cpu().double().numpy()
        decision = Decision(frames, video[0].cpu().numpy(), 1000 * (time.perf_counter() - started))
        decisions += 1
        for k, action in enumerate(actions, start=1):
            env.step(action)
            yield decision, k
            if env.ended():
                break


def rollout(env, policy, seed, config, film=False):
    """One episode -> (Episode, milliseconds of each decision, frames of the film or []).

    The film has pairs (V, 3, H, W) uint8 at every fourth step: the observation, and the generated video's frame of that
    step or the next one. It is the video of the pass that the actions were read from: blurred, if that is the first.
    """
    stride = policy.config.video_stride
    env.reset(seed, config.shift)
    milliseconds, pairs = [], []
    for decision, k in closed_loop(env, policy, seed, config):
        if k == 1:
            milliseconds.append(decision.milliseconds)
        if film and (frame := frame_at(k, decision.video, stride)) is not None:
            pairs.append((env.observe(), frame))
    return Episode(env.task.name, seed, env.success(), env.timestep), milliseconds, pairs


def frame_at(k, video, stride):
    """The frame of a video (T, ...) at the k-th step after its decision, or next; None where a film has no frame."""
    return video[-(-k // stride) - 1] if k % FILM_EVERY == 0 and k <= stride * len(video) else None


@cache  # once in each worker process
def _load(path, expected, device):
    policy = VideoPolicy.load(path)
    if expected not in (None, digest(policy)):
        raise InputError(f"{path}: changed during the evaluation; evaluate it again")
    return policy.to(device)


def _episode(path, expected, config, rollout, job):
    (task, seed, film), policy = job, _load(path, expected, config.device)
    c = policy.config
    return rollout(shared_env(task, c.cameras, c.image_size, c.drawn_size), policy, seed, config, film)


def evaluate(path, tasks, episodes, config, *, seed=0, workers=1, films=1, expected=None, rollout=rollout):
    """Roll out `episodes` episodes of each task -> (list of Episode, ms per decision, {task: list of films}).

    The episodes depend on the weights, the config and the seed; not on `workers` or `films`. expected: the policy's
    digest; InputError where it has another. rollout: a function like the one above that can be pickled.
    """
    jobs = [(task, evaluation_seed(i, seed), i < films) for task in tasks for i in range(episodes)]
    results, milliseconds, filmed = [], [], {}
    one = partial(_episode, path, expected, config, rollout)
    with worker_processes(workers, torch.set_num_threads, 1) as pool:  # one thread everywhere: sums then round alike
        bar = tqdm(pool.map(one, jobs), total=len(jobs), desc="evaluating", unit="episode")
        for (task, *_), (episode, times, pairs) in zip(jobs, bar, strict=True):
            results.append(episode)
            milliseconds += times
            if pairs:
                filmed.setdefault(task, []).append(pairs)
            bar.set_postfix(success=f"{sum(e.success for e in results)}/{len(results)}", refresh=False)
    return results, milliseconds, filmed


def table(episodes):
    """Rows (task, successes, n, low, high), and a last one for all tasks together where there are several."""
    tasks = dict.fromkeys(episode.task for episode in episodes)
    groups = {task: [episode.success for episode in episodes if episode.task == task] for task in tasks}
    if len(groups) > 1:
        groups["all"] = [episode.success for episode in episodes]
    return [(task, sum(group), len(group), *wilson(sum(group), len(group))) for task, group in groups.items()]


def parse(argv=None):
    parser = Parser(prog="evaluate.py", description="Evaluate a trained policy on unseen scenes.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a run folder of train.py")
    add("--tasks", nargs="+", metavar="TASK", help="names, or all (default: those that the policy was trained on)")
    add("--episodes", type=int_range(1, EPISODES_PER_SEED), default=50, help="episodes of each task")
    add("--shift", choices=SHIFTS, default="none", help="what differs from the training scenes")
    add("--execute", type=int_range(1), help="actions to execute before deciding again (poses: a chunk, deltas: half)")
    add("--video-steps", type=int_range(0, 1000), default=0, help="passes of the generator before the one that is read")
    add("--guidance", type=float_range(0, 100), default=1.0, help="weight of classifier-free guidance; 1 is none")
    add("--prompt", choices=("right", "wrong"), default="right", help="wrong: that of the task's other choice")
    add("--films", type=int_range(0), default=1, help="episodes of each task to film")
    add("--seed", type=int_range(0, 1000), default=0, help="another seed gives other scenes")
    add("--device", default="cpu", help="where the policy runs: cpu (one thread per worker) or cuda")
    add("--workers", type=int_range(1, 256), default=2, help="processes; the episodes are the same for any number")
    add("--out", metavar="NAME", help="name of the result in the run folder (default: eval_<shift>.json)")
    return parser.parse_args(argv)


def main():
    run(parse())


def run(args, rollout=rollout, flags=None):
    """Evaluate as the flags say: print the table, write the result and films. flags: what else a rollout depends on."""
    policy = VideoPolicy.load(args.run / "policy.pt")
    check_robot(args.run, policy.config)
    trained = trained_tasks(args.run)
    tasks = choose_tasks(args.tasks or trained, TASKS)
    if args.prompt == "wrong" and (single := [task for task in tasks if not TASKS[task].choices]):
        raise InputError(f"--prompt wrong: {single[0]} has one prompt only; name tasks with a choice with --tasks")
    if args.execute and args.execute > (chunk := policy.config.action_horizon):
        raise InputError(f"--execute: {args.execute} is more than the {chunk} actions of a chunk")
    if args.guidance != 1 and args.video_steps == 0:
        raise InputError("--guidance: has no effect on a decision from one pass; give --video-steps as well")
    if untrained := set(tasks) - set(trained):
        print(f"warning: this policy was not trained on {', '.join(sorted(untrained))}", file=sys.stderr)
    args.device, args.execute = str(pick_device(args.device)), args.execute or executed(policy.config)
    config = EvalConfig(**{field.name: getattr(args, field.name) for field in fields(EvalConfig)})
    made_by = {"policy": digest(policy), "tasks": tasks, "episodes": args.episodes, "seed": args.seed}
    protocol = vars(config) | made_by | (flags or {})
    out = args.run / (args.out or f"eval_{args.shift}.json")
    with claimed(out):
        if out.exists():  # the same evaluation is done again; the result of another one is kept
            check_same(out, (read_json(out) or {}).get("protocol"), protocol)
        started = time.monotonic()
        how = {"seed": args.seed, "workers": args.workers, "films": args.films}
        how |= {"expected": protocol["policy"], "rollout": rollout}
        episodes, milliseconds, films = evaluate(args.run / "policy.pt", tasks, args.episodes, config, **how)
        seconds, decision = round(time.monotonic() - started, 1), round(float(np.median(milliseconds)), 1)
        timing, rows = {"seconds": seconds, "ms_per_decision": decision, "workers": args.workers}, table(episodes)
        summary = [dict(zip(("task", "success", "episodes", "low", "high"), row, strict=True)) for row in rows]
        write_json(out, dict(protocol=protocol, summary=summary, timing=timing, episodes=[*map(asdict, episodes)]))
    for film in write_films(args.run, out.stem.removeprefix("eval_"), films, episodes, 20 / FILM_EVERY):
        print(f"film: {film}")
    for task, successes, n, low, high in rows:
        print(f"{task:<20} {successes:>3}/{n} = {successes / n:.2f}, 95 % interval [{low:.2f}, {high:.2f}]")
    print(f"shift {args.shift}; {decision} ms per decision (median), {seconds} s in all; every episode: {out}")


def check_robot(run, config):
    """InputError for a policy whose cameras, frames or actions the simulator does not have."""
    from sim.env import CAMERAS  # here: it starts OpenGL

    size, drawn = 7 if config.action_space == "delta" else 10, config.drawn_size or config.image_size
    if not {*config.cameras} <= {*CAMERAS} or drawn % 16 or config.action_size != size:
        fits = f"cameras {', '.join(CAMERAS)}, pictures of a multiple of 16 pixels and action_size {size}"
        raise InputError(f"{run}: does not fit the simulator, which has {fits}; train on demos of sim.demos")


def trained_tasks(folder):
    """The tasks that a run was trained on, by its args.json; none where that is missing or damaged."""
    return list((read_json(folder / "args.json") or {}).get("trained_tasks", ()))


def digest(policy):
    """A short hash of the weights: says whether two results are of one policy."""
    weights = sorted(policy.state_dict().items())
    return hashlib.sha256(b"".join(name.encode() + w.numpy().tobytes() for name, w in weights)).hexdigest()[:16]


if __name__ == "__main__":
    command(main)
