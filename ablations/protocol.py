"""What is compared: the protocol that all runs share, and the arms and claims of each question.

An arm is a policy and a way to evaluate it, as flags of train.py and evaluate.py (or ablations/readout.py) that differ
from the protocol's. A claim is about two arms. runs.py runs the arms, statistics.py judges the claims.
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
    record: str = "--cameras front side wrist --size 96"  # how: the pose estimator sees more than a tiny policy
    tasks: str = "OpenDrawer TurnSinkSpout TurnOnStove"
    demos: int = 100  # of each task; every tenth is held out
    plays: int = 120  # recordings of play in scenes of each task
    steps: int = 1500  # of the generator: stage 1, or all where there is one stage
    head_steps: int = 2000  # of the head in stage 2
    episodes: int = 30  # of each task, for each run, in scenes that nothing was chosen on (--seed 2)
    noise_samples: int = 16  # a batch of joint or bc then has as many noisy chunks of actions as one of stage 2


PROTOCOLS = {
    "tiny": Protocol(),
    "base": Protocol(  # all seventeen tasks; one GPU
        preset="base", results="results/base", data="demos50", shifted="demos50_shifted", play="play50",
        tasks=" ".join(TASKS), demos=50, plays=50, steps=15000, head_steps=5000, noise_samples=2,
    ),
}  # fmt: skip
QUICK = {"steps": 500, "head_steps": 1000, "episodes": 10}  # of --quick: a third to a half


@dataclass(frozen=True)
class Arm:
    """One policy and one way to evaluate it, as flags that differ from the protocol's."""

    label: str
    train: str = ""
    evaluate: str = ""
    generator: "Arm | None" = None  # stage 1 is left out: the generator of that arm's run of the same seed is loaded
    labelled: int | None = None  # the number of labelled demonstrations, where it is the axis of a plot

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its runs from those of other arms in runs.jsonl; an arm has the same runs in all questions."""
        return self.train, (self.generator.train or "two_stage") if self.generator else "", self.evaluate


@dataclass(frozen=True)
class Claim:
    """The arm `better` has a higher success rate than the arm `worse`; both are labels.

    Without `worse`: the AUROC of the arm's success by the error of its generated video is above 0.5.
    """

    better: str
    worse: str = ""
    paper: str = ""  # what the paper, or the work around it, found

    @property
    def text(self) -> str:
        """The claim in words."""
        return self.better + (f" is better than {self.worse}" if self.worse else ": better videos go with success")


def method_flags(p: Protocol) -> dict[str, str]:
    """How each method is trained. BC has no dropout in its head: with it BC learns nothing here."""
    samples = f"noise_samples={p.noise_samples}"
    return {
        "two-stage": "",
        "joint": f"--method joint --set {samples}",
        "joint, detached": f"--method joint_detached --set {samples}",
        "BC": f"--method bc --set head.dropout=0 {samples}",
        "random generator": "--method frozen_random",
    }


def policy(p: Protocol, name: str, labelled: int | None = None) -> Arm:
    """The arm of a method with the actions of `labelled` demonstrations of each task, or of all of them.

    "<method> + retrained head": the generator of that method is frozen, and a new head is trained on it as in stage 2.
    """
    method, _, retrained = name.partition(" + ")
    labels = f"--labelled {labelled}" if labelled else ""
    made = f"{labels} {method_flags(p)[method]}".strip()
    arm = Arm(f"{name}, {labelled or 'all'} labels", made, labelled=labelled or p.demos * 9 // 10)
    if retrained:
        return replace(arm, train=labels, generator=Arm(method, made))
    return replace(arm, generator=Arm(method)) if method == "two-stage" and labelled else arm  # stage 1 reads no labels


def labels(p: Protocol) -> Iterator[Arm | Claim]:
    """Does generating video help, with all labels and with few?"""
    papers = {
        "joint": "0.63 / 0.57", "joint + retrained head": "", "joint, detached": "",
        "joint, detached + retrained head": "", "BC": "0.63 / 0.41 (Diffusion Policy)", "BC + retrained head": "",
        "random generator": "0.63 / 0.09 (not fine-tuned)",
    }  # fmt: skip
    for count, tag in ((None, "all labels"), (5, "5 labels")):
        yield policy(p, "two-stage", count)
        for name, paper in papers.items():
            yield policy(p, name, count)
            yield Claim(f"two-stage, {tag}", f"{name}, {tag}", "" if count else paper)
        yield Claim(f"joint, {tag}", f"BC, {tag}", "" if count else "0.57 / 0.41 (Diffusion Policy)")
    watched = f"--labelled 5 --play {p.play}"
    yield Arm("two-stage, 5 labels, the others estimated", watched, generator=Arm("two-stage"))
    yield Arm("BC, 5 labels, the others estimated", f"{watched} {method_flags(p)['BC']}")
    yield Claim("two-stage, 5 labels, the others estimated", "two-stage, 5 labels")
    yield Claim("two-stage, 5 labels, the others estimated", "BC, 5 labels, the others estimated")


def watching(p: Protocol) -> Iterator[Arm | Claim]:
    """Can a policy do a task from video alone: with the labels of other tasks, of play, or without any?

    Arms of one label are one row: each of the tasks in turn has no labels. The generator has seen the video of all.
    """
    tasks, generator, play = p.tasks.split(), Arm("two-stage"), f"--play {p.play}"
    others = {task: " ".join(other for other in tasks if other != task) for task in tasks}
    rows = {
        "labels of other tasks": "",
        "commands, labels of other tasks": "--set action_space=delta",
        "labels of other tasks and of play": f"--action-free {{task}} {play} --set watching=head",
        "estimated by play and other tasks": f"--action-free {{task}} {play}",
    }
    yield Arm("its own labels")
    yield Arm("commands, its own labels", "--set action_space=delta", generator=generator)
    for label, how in rows.items():
        for task in tasks:
            flags = f"--tasks {others[task]} {how.format(task=task)}"
            yield Arm(label, flags.strip(), f"--tasks {task}", generator)
        yield Claim("its own labels", label, "" if how else "0.63 / 0.41")
    for task in tasks:
        yield Arm("BC, labels of other tasks", f"--tasks {others[task]} {method_flags(p)['BC']}", f"--tasks {task}")
    yield Claim("labels of other tasks", "BC, labels of other tasks", "0.41 / 0.21 (Diffusion Policy)")
    watched = f"--action-free all {play}"
    yield Arm("estimated by play alone", watched, generator=generator)
    yield Arm("estimated by play alone, BC", f"{watched} {method_flags(p)['BC']}")
    yield Claim("its own labels", "estimated by play alone")
    yield Claim("estimated by play alone", "estimated by play alone, BC")


def demos(p: Protocol) -> Iterator[Arm | Claim]:
    """How many labelled demonstrations are needed? Two-stage also learns from the video of all others."""
    for count in (2, 5, 10, 25, None):
        arms = [policy(p, method, count) for method in ("two-stage", "BC")]
        yield from (*arms, Claim(*(arm.label for arm in arms)))


def shifts(p: Protocol) -> Iterator[Arm | Claim]:
    """What is left of success in scenes unlike those of training, and does action-free video of such scenes help?"""
    for shift in SHIFTS:
        how = "" if shift == "none" else f"--shift {shift}"
        tag = {"none": "no shift", "objects": "object shift", "all": "all shifts"}.get(shift, f"{shift} shift")
        for name in ("two-stage", "BC", "BC + retrained head"):
            yield replace(policy(p, name), label=f"{name}, {tag}", evaluate=how)
        yield Arm(f"two-stage with shifted video, {tag}", f"--videos {p.shifted}", how)
        yield Claim(f"two-stage, {tag}", f"BC, {tag}")
        yield Claim(f"two-stage, {tag}", f"BC + retrained head, {tag}")
        yield Claim(f"two-stage with shifted video, {tag}", f"two-stage, {tag}")


def horizon(p: Protocol) -> Iterator[Arm | Claim]:
    """How far ahead should the video go? The actions' horizon stays the same."""
    yield Arm("32 steps")
    for n, paper in ((16, "0.55"), (0, "0.30")):
        yield Arm(f"{n} steps", f"--video-horizon {n}")
        yield Claim("32 steps", f"{n} steps", f"0.67 / {paper}")
    yield Arm("0 steps, no dropout", "--video-horizon 0 --set head.dropout=0")
    yield Claim("32 steps", "0 steps, no dropout", "0.67 / 0.30")


def readout(p: Protocol) -> Iterator[Arm | Claim]:
    """What should actions be read from: features of one denoising step, of several, of the true video, or pixels?"""
    yield Arm("one step")
    for read in ("", "0.5", "2", "8"):
        label = f"10 steps, read at {read or 'the lowest noise'}"
        yield Arm(label, evaluate=f"--video-steps 10 {f'--read-sigma {read}' if read else ''}".strip())
        yield Claim("one step", label, "0.664 / 0.671 (Cosmos Policy, arXiv 2601.16163)" if read == "0.5" else "")
    for tag, steps in (("one step", ""), ("10 steps", "--video-steps 10 ")):
        yield Arm(f"hand poses on generated video, {tag}", evaluate=f"{steps}--pixels {p.data}")
        yield Claim("one step", f"hand poses on generated video, {tag}", "pixels (arXiv 2406.16862)")
    yield Arm("one step, all shifts", evaluate="--shift all")
    for tag, shift in (("", ""), (", all shifts", " --shift all")):
        yield Arm(f"expert's video{tag}", evaluate=f"--oracle feed --read-sigma 0.5{shift}")
        yield Claim(f"expert's video{tag}", f"one step{tag}")


def video_error(p: Protocol) -> Iterator[Arm | Claim]:
    """Does the policy succeed where its first generated video is close to the expert's?"""
    for label, shift in (("without a shift", ""), ("all shifts", " --shift all")):
        yield Arm(label, evaluate=f"--oracle score{shift}")
        yield Claim(label, paper="shown by example")


QUESTIONS = (labels, watching, demos, shifts, horizon, readout, video_error)
ABLATIONS = {question.__name__: question for question in QUESTIONS}


def rows_of(kind: type, name: str, protocol: Protocol) -> list:
    """The arms of a question, rows_of(Arm, ...), or its claims, rows_of(Claim, ...)."""
    return [row for row in ABLATIONS[name](protocol) if isinstance(row, kind)]
