"""What is compared: the protocols, and the arms and claims of each ablation.

An arm is a policy and a way to try it, as flags of train.py and evaluate.py that differ from the protocol's. A claim is
about two arms. runs.py runs the arms, statistics.py judges the claims. One more of either is one more row here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.task import SHIFTS
from sim.tasks import TASKS
from train import METHODS

RECORD = {  # folder of demonstrations -> the command that makes it
    "demos200": "python -m sim.demos --tasks TurnOffSinkFaucet TurnSinkSpout --demos 200 --out demos200",
    "demos2000": "python -m sim.demos --tasks TurnOffSinkFaucet --demos 2000 --out demos2000",
    "demos96": "python -m sim.demos --tasks all --cameras front side wrist --size 96 --out demos96",
}


@dataclass(frozen=True)
class Protocol:
    """What all arms of a preset share; the defaults are those of tiny. Names of tasks have blanks between them.

    A policy of tiny takes five minutes of one core. Its one task has a fixture that is visible in 64 pixels; a robot
    that does not look wins 12 of 50 scenes (python -m sim.tasks --blind demos).
    """

    data: str = "demos200"  # folder of demonstrations
    tasks: str = "TurnOffSinkFaucet"
    demos: int = 200  # of each task, of which every tenth is held out; more cost no training time
    steps: int = 900  # of the generator in stage 1
    head_steps: int = 1500  # of the head in stage 2
    single_stage_steps: int = 1200  # of methods that have one stage: about as much time as both of the others
    episodes: int = 50  # per task, training seed and arm
    label_counts: tuple = (2, 5, 10, 25, 50)  # numbers of demos with actions, all others being video alone, and ...
    few_labels: int = 25  # ... the one of them where one number must do
    noise_samples: int = 16  # of actions for each clip: a batch of joint or bc then has as many as one of stage 2
    labelled_tasks: str = "TurnSinkSpout"  # tasks with actions (in tiny one at the same sink), where others ...
    video_only_tasks: str = "TurnOffSinkFaucet"  # ... have none
    # (demos, generator steps) of the ablation "scaling", the cheapest first
    scaling: tuple = ((200, 300), (200, 600), (600, 600), (200, 1200), (600, 1200), (2000, 1200), (200, 2400),
                      (600, 2400), (2000, 2400), (2000, 4800))  # fmt: skip


PROTOCOLS = {
    "tiny": Protocol(),
    # All seventeen, nine of them without actions in the ablation of that name; one GPU.
    "base": Protocol(
        data="demos96", tasks=" ".join(TASKS), demos=50, steps=15000, head_steps=5000, single_stage_steps=20000,
        label_counts=(2, 5, 10, 25), few_labels=5, noise_samples=2, scaling=(),
        labelled_tasks="OpenDrawer CloseDoubleDoor TurnOffSinkFaucet TurnOnStove PnPCabToCounter PnPCounterToStove "
                       "PickAndPlace StackCups",
        video_only_tasks="CloseDrawer OpenDoubleDoor TurnOffMicrowave TurnSinkSpout PnPCounterToMicrowave "
                         "PnPSinkToCounter CoffeeServeMug MMsToCup UprightObject",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One policy of an ablation and one way to try it, as flags that differ from the protocol's."""

    label: str
    train: str = ""
    evaluate: str = ""
    shared_generator: bool = False  # stage 1 is that of the plain two_stage run of the same seed: it is loaded
    curve: str = ""  # arms of one curve are joined in the plot, at ...
    x: float | None = None  # ... these places; None: where milliseconds per decision put them


@dataclass(frozen=True)
class Claim:
    """The arm `better` succeeds more often than the arm `worse`, by more than `margin`; below 0 it is "no worse".

    Without `worse`: the AUROC of the arm's success by dream error is above 0.5, successes have the better dreams.
    """

    text: str
    better: str
    worse: str = ""
    paper: str = ""
    margin: float = 0.0


# How each method is called. The head's dropout was chosen for two_stage; cloning, which learns to see through it, came
# to nothing (seed 0, all demos: a held-out action error of 0.138, against 0.048 without). So cloning does without.
METHOD_FLAGS = {method: f"--method {method}" for method in METHODS}
METHOD_FLAGS |= {"two_stage": "", "bc": "--method bc --head-dropout 0"}
TWO_STAGE = Arm("two_stage")


def more_noise(p: Protocol) -> dict[str, str]:
    """Label -> flags of joint and bc with as many noisy chunks of actions a step as stage 2 of two_stage denoises.

    Stage 2 need not ask the generator, so that its batch has 128 windows in tiny, where that of the others has 8.
    """
    n, more = p.noise_samples, f"--action-noise-samples {p.noise_samples}"
    return {f"{method}, {n} samples": f"{METHOD_FLAGS[method]} {more}" for method in ("joint", "bc")}


def methods(p: Protocol) -> Iterator[Arm | Claim]:
    """Who learns from what, all demos labelled."""
    noisy = f"{p.noise_samples} samples"
    yield from (Arm(label, flags) for label, flags in (METHOD_FLAGS | more_noise(p)).items())
    yield Arm("joint, no dropout", "--method joint --head-dropout 0")
    # The paper's 0.57 is of its code, in which the action gradient flows into the generator.
    yield Claim("two-stage beats joint", "two_stage", "joint", "0.63 / 0.57")
    yield Claim("two-stage beats behaviour cloning", "two_stage", "bc", "0.63 / 0.41 (Diffusion Policy)")
    yield Claim("joint beats behaviour cloning", "joint", "bc", "0.57 / 0.41 (Diffusion Policy)")
    yield Claim("the generator must be trained", "two_stage", "frozen_random", "0.63 / 0.09 (not fine-tuned)")
    yield Claim("two-stage beats joint detached", "two_stage", "joint_detached")
    yield Claim("joint, the action gradient reaching the generator, beats joint detached", "joint", "joint_detached")
    yield Claim(f"two-stage beats joint with {noisy}", "two_stage", f"joint, {noisy}")
    yield Claim(f"two-stage beats behaviour cloning with {noisy}", "two_stage", f"bc, {noisy}")
    yield Claim(f"joint beats behaviour cloning, both with {noisy}", f"joint, {noisy}", f"bc, {noisy}")
    yield Claim("the head's dropout helps joint", "joint", "joint, no dropout")


def horizon(p: Protocol) -> Iterator[Arm | Claim]:
    """How far ahead the video looks, the actions' horizon being what it is; at home and under every shift at once."""
    for tag, tried in (("", ""), (", all shifts", "--shift all")):
        for n in (0, 8, 16, 32):
            flags = f"--video-horizon {n}" if n < 32 else ""
            yield Arm(f"{n}{tag}", flags, tried, curve=f"horizon{tag or ', no shift'}", x=n)
    yield Claim("a longer video horizon: 32 steps beat 16", "32", "16", "0.67 / 0.55")
    yield Claim("32 steps beat 0", "32", "0", "0.67 / 0.30")
    paper = "gain largest under a shift"
    yield Claim("32 steps beat 16, all shifts", "32, all shifts", "16, all shifts", paper)
    yield Claim("32 steps beat 0, all shifts", "32, all shifts", "0, all shifts", paper)


def action_free(p: Protocol) -> Iterator[Arm | Claim]:
    """Tasks that are seen on video only: actions are known of others."""
    labelled, tried = f"--tasks {p.labelled_tasks}", f"--tasks {p.video_only_tasks}"
    video = f"{labelled} --action-free {p.video_only_tasks}"
    yield Arm("two_stage, with video", video, tried)
    yield Arm("joint, with video", f"{video} {METHOD_FLAGS['joint']}", tried)
    yield Arm("bc, without", f"{labelled} {METHOD_FLAGS['bc']}", tried)
    text = "video without actions teaches a task: two-stage with it beats cloning without"
    yield Claim(text, "two_stage, with video", "bc, without", "0.41 / 0.21 (Diffusion Policy)")
    yield Claim("joint with it beats cloning without", "joint, with video", "bc, without")


def demos(p: Protocol) -> Iterator[Arm | Claim]:
    """Fewer and fewer labels, the video all there; all methods but bc and frozen_random learn from it."""
    full = {method: METHOD_FLAGS[method] for method in ("two_stage", "bc", "joint", "frozen_random")} | more_noise(p)
    fewer = full | {"two_stage, no dropout": "--head-dropout 0", "bc, dropout": "--method bc"}
    for curve, flags in fewer.items():
        for n in p.label_counts if curve in ("two_stage", "bc") else (p.few_labels,):
            shared = "two_stage" in curve
            yield Arm(f"{curve}, {n}", f"--labelled {n} {flags}", shared_generator=shared, curve=curve, x=n)
    for curve, flags in full.items():
        yield Arm(f"{curve}, all", flags, curve=curve, x=p.demos * 9 // 10)
    for n in p.label_counts:
        text = f"{n} labelled demos: two-stage beats cloning"
        yield Claim(text, f"two_stage, {n}", f"bc, {n}", "gain largest with few")
    n, noisy = p.few_labels, f"{p.noise_samples} samples"
    two_stage, labelled = f"two_stage, {n}", f"{n} labelled demos:"
    yield Claim(f"{labelled} two-stage beats joint", two_stage, f"joint, {n}")
    yield Claim(f"{labelled} the generator must be trained", two_stage, f"frozen_random, {n}")
    yield Claim(f"{labelled} two-stage beats joint with {noisy}", two_stage, f"joint, {noisy}, {n}")
    yield Claim(f"{labelled} two-stage beats cloning with {noisy}", two_stage, f"bc, {noisy}, {n}")
    yield Claim(f"{labelled} the head's dropout helps two-stage", two_stage, f"two_stage, no dropout, {n}")
    yield Claim(f"{labelled} the head's dropout helps cloning", f"bc, dropout, {n}", f"bc, {n}")


def shifts(p: Protocol) -> Iterator[Arm | Claim]:
    """Scenes unlike those of training; and whether it helps to train in random colours."""
    compared, shifted = ("two_stage", "bc"), SHIFTS[1:]
    yield from (Arm(method, METHOD_FLAGS[method]) for method in compared)
    for method in compared:
        yield from (Arm(f"{method}, {shift}", METHOD_FLAGS[method], f"--shift {shift}") for shift in shifted)
    yield Arm("color jitter, none", "--color-jitter 1")
    yield from (Arm(f"color jitter, {shift}", "--color-jitter 1", f"--shift {shift}") for shift in shifted)
    text, paper = "two-stage beats cloning", "shown on a real robot"
    yield from (Claim(f"shift {shift}: {text}", f"two_stage, {shift}", f"bc, {shift}", paper) for shift in shifted)
    text = "color jitter in training costs nothing without a shift (within 10 points)"
    yield Claim(text, "color jitter, none", "two_stage", margin=-0.1)
    text = "color jitter in training helps"
    yield from (Claim(f"shift {shift}: {text}", f"color jitter, {shift}", f"two_stage, {shift}") for shift in shifted)


def sampling(p: Protocol) -> Iterator[Arm | Claim]:
    """How long to think: denoising steps, the noise at which features are read, actions executed at a time."""
    yield Arm("0 steps", curve="steps")
    for n in (1, 4, 10):
        yield Arm(f"{n} steps", evaluate=f"--video-steps {n}", curve="steps")
    for s in ("0.5", "2", "8"):
        yield Arm(f"10 steps, read at {s}", evaluate=f"--video-steps 10 --read-sigma {s}", curve="read")
    for n in (8, 32):
        yield Arm(f"execute {n}", evaluate=f"--execute {n}", curve="execute")
    text, paper = "one pass decides as well as 10 steps (within 3 points)", "0.664 / 0.671 (Fast-WAM and others)"
    yield Claim(text, "0 steps", "10 steps, read at 0.5", paper, margin=-0.03)
    text = "one pass decides as well as 10 steps read at the lowest noise (within 3 points)"
    yield Claim(text, "0 steps", "10 steps", margin=-0.03)
    yield Claim("half of a chunk executed is better than all of it", "0 steps", "execute 32")


def oracle(p: Protocol) -> Iterator[Arm | Claim]:
    """Whether failures are the dream's or the decoder's: the expert's video of a scene in place of the dream."""
    scored, told = "--oracle score", "--oracle feed --read-sigma 0.5"
    yield Arm("dream of one pass", evaluate=scored)
    yield Arm("dream of 10 steps", evaluate=f"--video-steps 10 --read-sigma 0.5 {scored}")
    yield Arm("expert's film", evaluate=told)
    yield Arm("dream of one pass, all shifts", evaluate=f"{scored} --shift all")
    yield Arm("expert's film, all shifts", evaluate=f"{told} --shift all")
    text = "the expert's film decides better than"
    yield Claim(f"{text} one pass", "expert's film", "dream of one pass")
    yield Claim(f"{text} a dream of 10 steps", "expert's film", "dream of 10 steps")
    yield Claim(f"{text} one pass, all shifts", "expert's film, all shifts", "dream of one pass, all shifts")
    text, paper = "a better first dream goes with success", "shown by example"
    yield Claim(text, "dream of one pass", paper=paper)
    yield Claim(f"{text}, all shifts", "dream of one pass, all shifts", paper=paper)


def decoders(p: Protocol) -> Iterator[Arm | Claim]:
    """Actions from the network's features, or from the pixels of the frames that it generated."""
    yield Arm("features, one pass")
    yield Arm("features, 10 steps", evaluate="--video-steps 10")
    for label, flags in (("one pass", ""), ("10 steps", "--video-steps 10"), ("expert's film", "--oracle feed")):
        yield Arm(f"pixels, {label}", "--decoder pixels", flags, shared_generator=True)
    yield Claim("features, one pass, beat pixels of one pass", "features, one pass", "pixels, one pass")
    yield Claim("features, one pass, beat pixels of 10 steps", "features, one pass", "pixels, 10 steps")
    yield Claim("pixels of the expert's film beat features", "pixels, expert's film", "features, one pass")


def scaling(p: Protocol) -> Iterator[Arm | Claim]:
    """Success over compute and data, on scenes that no other ablation meets; a tenth of the demos is held out."""
    task = "--tasks TurnOffSinkFaucet"
    for demos, steps in p.scaling:
        train = f"--demos {demos} --steps {steps} --head-steps 2000 --data demos2000 {task}"
        curve = f"{demos * 9 // 10} demos"
        yield Arm(f"{curve}, {steps} steps", train, f"--seed 7 --episodes 100 {task}", curve=curve, x=steps)
    if p.scaling:
        yield Claim("180 demos: 2400 steps beat 300", "180 demos, 2400 steps", "180 demos, 300 steps")
        yield Claim("2400 steps: 1800 demos beat 180", "1800 demos, 2400 steps", "180 demos, 2400 steps")


FUNCTIONS = (methods, horizon, action_free, demos, shifts, sampling, oracle, decoders, scaling)
ABLATIONS = {function.__name__: function for function in FUNCTIONS}
AXES = {"demos": "demos with actions", "horizon": "control steps generated ahead", "sampling": "ms per decision",
        "scaling": "steps of the generator"}  # fmt: skip


def rows_of(kind: type, name: str, protocol: Protocol) -> list:
    """The arms of an ablation, rows_of(Arm, ...), or its claims, rows_of(Claim, ...).

    A claim is what the paper, or the work around it, says; where `paper` is empty, what else one would ask.
    """
    return [row for row in ABLATIONS[name](protocol) if isinstance(row, kind)]
