"""What is compared: the protocol that all runs share, and nine questions.

An arm is a policy and a way to evaluate it, as flags of train.py and evaluate.py (or ablations/readout.py) that differ
from the protocol's. A question is groups of arms; the first of a group is compared with each of the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sim.task import SHIFTS
from sim.tasks import TASKS


@dataclass(frozen=True)
class Protocol:
    """What all arms share, one policy for all tasks; the defaults are those of tiny.

    Two of its three tasks need the prompt, and an open-loop replay succeeds in at most 13 of 50 scenes of any.
    """

    preset: str = "tiny"  # of train.py
    results: str = "results/tiny"  # the folder of runs.jsonl
    data: str = "demos100"  # folder of demonstrations
    shifted: str = "demos100_shifted"  # ... under all shifts
    play: str = "play120"  # ... of play, in other scenes
    shifted_play: str = "play120_shifted"  # ... under all shifts
    others: str = "demos100_others"  # ... of tasks with other fixtures, for pretraining
    record: str = "--cameras front side wrist --size 96"  # how: the pose estimator sees more than a tiny policy
    tasks: str = "OpenDrawer TurnSinkSpout TurnOnStove"
    other_tasks: str = "CloseDoubleDoor OpenDoubleDoor TurnOffMicrowave CoffeeServeMug PickAndPlace UprightObject"
    demos: int = 100  # of each task; every tenth is held out
    plays: int = 120  # recordings of play in scenes of each task
    steps: int = 1500  # of the generator: stage 1, or all where there is one stage
    head_steps: int = 2000  # of the head in stage 2
    episodes: int = 30  # of each task, for each run, in scenes that were not used to choose anything (--seed 2)
    noise_samples: int = 16  # a batch of joint or bc then has as many noisy chunks of actions as one of stage 2


PROTOCOLS = {
    "tiny": Protocol(),
    "base": Protocol(  # all seventeen tasks; one GPU
        preset="base", results="results/base", data="demos50", shifted="demos50_shifted", play="play50",
        shifted_play="play50_shifted", tasks=" ".join(TASKS), other_tasks="", demos=50, plays=50, steps=15000,
        head_steps=5000, noise_samples=2,
    ),
}  # fmt: skip
QUICK = {"steps": 500, "head_steps": 1000, "episodes": 10}  # of --quick


@dataclass(frozen=True)
class Arm:
    """One policy and one way to evaluate it, as flags that differ from the protocol's."""

    label: str
    train: str = ""
    evaluate: str = ""
    generator: "Arm | None" = None  # flags --generator, --init, --estimator: that arm's run of the same training seed
    init: "Arm | None" = None
    estimator: "Arm | None" = None
    labelled: int | None = None  # the number of labelled demonstrations, where it is the axis of a plot
    paper: str = ""  # what the paper, or the work around it, found

    @property
    def bases(self) -> dict[str, "Arm"]:
        """The arms whose runs this one's policy is trained from, by the flag that names them."""
        arms = {name: getattr(self, name) for name in ("generator", "init", "estimator")}
        return {f"--{name}": arm for name, arm in arms.items() if arm}

    @property
    def made_from(self) -> str:
        """The flags of these arms, in one text."""
        flags = [flag.replace("--generator", "") + f" {arm.train} {arm.made_from}" for flag, arm in self.bases.items()]
        return "; ".join(" ".join(text.split()) or "two_stage" for text in flags)

    @property
    def key(self) -> tuple[str, str, str]:
        """What distinguishes its runs in runs.jsonl from those of other arms; it has the same runs in all questions."""
        return self.train, self.made_from, self.evaluate


@dataclass(frozen=True)
class Group:
    """Arms; the claim is that the first is better than each of the others."""

    title: str
    arms: list[Arm]


METHODS = ("two-stage", "joint", "joint, detached", "BC", "random generator")
TWO_STAGE = Arm("two-stage")


def policy(p: Protocol, method: str, labels="", clips="", *, retrained=True, init=None, estimator=None, **more) -> Arm:
    """The arm of a method. labels, clips: flags of train.py that decide whose actions and whose video it has.

    retrained: its generator is frozen, and a new head is trained as in stage 2 (two-stage training has such a head).
    """
    samples = f"--set noise_samples={p.noise_samples}"
    flags = {
        "two-stage": "",
        "joint": f"--method joint {samples}",
        "joint, detached": f"--method joint_detached {samples}",
        "BC": f"--method bc {samples.replace(' ', ' head.dropout=0 ')}",  # with dropout in its head it learns nothing
        "random generator": "--method frozen_random",
    }[method]
    whole = Arm(method, " ".join(filter(None, (clips, labels, flags))), init=init, estimator=estimator)
    if method == "two-stage" and (labels or estimator):  # stage 1 reads no labels
        whole = Arm(method, clips, init=init)
    elif method in ("two-stage", "random generator") or not retrained:
        return replace(whole, **more)
    flags = f"{clips} {labels}".strip()
    return replace(Arm(method, flags, generator=whole, estimator=estimator), **more)


def first_clips(count: int) -> str:
    """Flags of train.py for so many training clips of each task: every tenth demonstration is held out."""
    return f"--demos {count + (count - 1) // 9}"


def watched(p: Protocol) -> Arm:
    """The arm that watches: a pose estimator that learned from play alone labels all demonstrations."""
    return policy(p, "two-stage", f"--action-free all --play {p.play}", label="estimated by play alone")


def labels(p: Protocol) -> Iterator[Group]:
    """Does generating video help, with all labels and with few?"""
    papers = dict(zip(METHODS, ("0.63", "0.57", "", "0.41 (Diffusion Policy)", "0.09 (not fine-tuned)"), strict=True))
    for title, few in (("all labels", ""), ("5 labels", "--labelled 5")):
        for heads, retrained in (("heads retrained", True), ("heads as trained", False)):
            arms = [policy(p, m, few, retrained=retrained, paper="" if few else papers[m]) for m in METHODS]
            yield Group(f"{title}, {heads}", arms)


def watching(p: Protocol) -> Iterator[Group]:
    """Can a policy do a task from video alone: with the labels of other tasks, of play, or without any?

    Arms of one label are one row: each of the tasks in turn has no labels. The generator has seen the video of all.
    """
    tasks, play = p.tasks.split(), f"--play {p.play}"
    rows = {
        "labels of other tasks": "",
        "labels of other tasks, commands": "--set action_space=delta",
        "labels of other tasks and of play": f"--action-free TASK {play} --set watching=head",
        "estimated by play and other tasks": f"--action-free TASK {play}",
    }
    arms = [replace(TWO_STAGE, label="its own labels", paper="0.63")]
    for label, how in rows.items():
        for task in tasks:
            others = " ".join(other for other in tasks if other != task)
            made = policy(p, "two-stage", f"--tasks {others} {how.replace('TASK', task)}".strip())
            arms.append(replace(made, label=label, evaluate=f"--tasks {task}", paper="" if play in how else "0.41"))
    yield Group("all tasks watched", [arms[0], watched(p)])
    yield Group("all tasks watched, methods", [watched(p), policy(p, "BC", "--action-free all", estimator=watched(p))])
    yield Group("one task watched", arms)


def horizon(p: Protocol) -> Iterator[Group]:
    """How far ahead should the video go, with the actions' horizon as it is? Read the better of two dropouts."""
    for title, dropout in (("dropout 0.8", ""), ("no dropout", "--set head.dropout=0")):
        arms = []
        for steps, paper in ((32, "0.67"), (16, "0.55"), (0, "0.30")):
            flags = "" if steps == 32 else f"--video-horizon {steps}"
            arms.append(policy(p, "two-stage", dropout, flags, label=f"{steps} steps of video", paper=paper))
        yield Group(title, arms)


def demos(p: Protocol) -> Iterator[Group]:
    """How many labelled demonstrations are needed, with and without the others' video, and with estimated labels?"""
    for count in (2, 5, 10, 25, p.demos * 9 // 10):
        few = "" if count == p.demos * 9 // 10 else f"--labelled {count}"
        arms = [policy(p, method, few, labelled=count) for method in ("two-stage", "BC")]
        if few:
            arms.append(Arm("two-stage without other video", first_clips(count), labelled=count))
            rest = {"estimator": watched(p), "labelled": count}
            watch = [policy(p, m, few, **rest, label=f"{m}, others estimated") for m in ("two-stage", "BC")]
            yield Group(f"{count} labels, others estimated", [watch[0], arms[0], watch[1]])
        yield Group(f"{count} labels", arms)


def shifts(p: Protocol) -> Iterator[Group]:
    """What is left of success in scenes unlike those of training, and does watching such scenes help?"""
    seen = Arm("shifted video", f"--videos {p.shifted}")
    estimated = policy(p, "two-stage", f"--play {p.shifted_play}", seen.train, label="shifted video, labels estimated")
    groups = {"shift": [TWO_STAGE, policy(p, "BC")], "shifted video": [seen, TWO_STAGE, estimated]}
    for shift in SHIFTS:
        how = "" if shift == "none" else f"--shift {shift}"
        for title, arms in groups.items():
            yield Group(f"{title}: {shift}", [replace(arm, evaluate=how) for arm in arms])


def readout(p: Protocol) -> Iterator[Group]:
    """What should actions be read from: features of one denoising step, of eight, or the generated pixels?"""
    rows = {f"eight steps, at sigma {sigma}": f"--video-steps 7 --read-sigma {sigma}" for sigma in ("0.5", "2", "8")}
    rows |= {"pixels, one step": f"--pixels {p.data}", "pixels, eight steps": f"--video-steps 7 --pixels {p.data}"}
    arms = [Arm(label, evaluate=how) for label, how in rows.items()]
    arms[0] = replace(arms[0], paper="0.664 / 0.671 (arXiv 2601.16163)")
    yield Group("no shift", [replace(TWO_STAGE, label="one step"), *arms])


def actions(p: Protocol) -> Iterator[Group]:
    """What should an action be: a hand pose, a command, or the place that a command aims at?"""
    commands = policy(p, "two-stage", "--set action_space=delta", label="commands, half of each chunk")
    whole = replace(commands, label="commands, whole chunks", evaluate="--execute 32")
    targets = policy(p, "two-stage", "--set action_space=target", label="absolute targets")
    yield Group("all labels", [replace(TWO_STAGE, label="hand poses"), targets, whole, commands])


def pretraining(p: Protocol) -> Iterator[Group]:
    """Does a generator of other tasks' video help where clips of the new tasks are few?

    Steps on the new tasks are the same; those of pretraining come on top. Without other tasks there is nothing to ask.
    """
    if not p.other_tasks:
        return
    starts = {"pretrained": Arm("other tasks", f"--data {p.others} --tasks {p.other_tasks}"), "from nothing": None}
    for count in (5, 25):
        for title, flags, estimator in (("labelled", "", None), ("watched", "--action-free all", watched(p))):
            arms = []
            for method in ("two-stage", "BC"):
                for name, init in starts.items():
                    made = policy(p, method, flags, first_clips(count), init=init, estimator=estimator)
                    arms.append(replace(made, label=f"{method}, {name}"))
            yield Group(f"{count} clips, {title}", arms)


def video_error(p: Protocol) -> Iterator[Group]:
    """Does the policy succeed where its first generated video is close to the expert's, and does true video help?"""
    for title, shift in (("no shift", ""), ("all shifts", " --shift all")):
        true = Arm("the expert's video", evaluate=f"--oracle feed --read-sigma 0.5{shift}")
        yield Group(title, [true, Arm("generated video", evaluate=f"--oracle score{shift}")])


QUESTIONS = (labels, watching, horizon, demos, shifts, readout, actions, pretraining, video_error)
ABLATIONS = {question.__name__: question for question in QUESTIONS}
