"""What is compared: the protocol that all runs share, and the arms and claims of each question.

An arm is a policy and a way to evaluate it, as flags of train.py and evaluate.py (or ablations/readout.py) that differ
from the protocol's. A claim is about two arms. runs.py runs the arms, statistics.py judges the claims.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.task import SHIFTS
from sim.tasks import TASKS

THREE = "OpenDrawer TurnSinkSpout TurnOnStove"
VIEWS = "--cameras front side wrist --size 96"
RECORD = {  # folder of demonstrations -> the command that makes it
    "demos100": f"python -m sim.demos --tasks {THREE} --demos 100 --out demos100",
    "demos100_shifted": f"python -m sim.demos --tasks {THREE} --demos 100 --shift all --out demos100_shifted",
    "demos96": f"python -m sim.demos --tasks all {VIEWS} --out demos96",
    "demos96_shifted": f"python -m sim.demos --tasks all {VIEWS} --shift all --out demos96_shifted",
}


@dataclass(frozen=True)
class Protocol:
    """What all arms share; the defaults are those of tiny. One policy for all tasks, whose names have blanks between.

    In two of the three tasks only the prompt says what to turn. An open-loop replay succeeds in at most 13 of 50 scenes
    of any (python -m sim.tasks --replay demos).
    """

    preset: str = "tiny"  # of train.py
    results: str = "results/tiny"  # the folder of runs.jsonl
    data: str = "demos100"  # folder of demonstrations
    shifted: str = "demos100_shifted"  # ... under all shifts
    tasks: str = THREE
    demos: int = 100  # of each task; every tenth is held out
    steps: int = 1500  # of the generator: stage 1, or all where there is one stage
    head_steps: int = 2000  # of the head in stage 2
    episodes: int = 30  # of each task, for each run
    label_counts: tuple = (2, 5, 10, 25)  # numbers of demonstrations with actions; the others are action-free video
    few_labels: int = 5  # the one of them where there is only one
    noise_samples: int = 16  # a batch of joint or bc then has as many noisy chunks of actions as one of stage 2


PROTOCOLS = {
    "tiny": Protocol(),
    "base": Protocol(  # all seventeen tasks; one GPU
        preset="base", results="results/base", data="demos96", shifted="demos96_shifted", tasks=" ".join(TASKS),
        demos=50, steps=15000, head_steps=5000, noise_samples=2,
    ),
}  # fmt: skip
QUICK = {"steps": 500, "head_steps": 1000, "episodes": 10}  # of --quick: a third of everything


@dataclass(frozen=True)
class Arm:
    """One policy and one way to evaluate it, as flags that differ from the protocol's."""

    label: str
    train: str = ""
    evaluate: str = ""
    generator: "Arm | None" = None  # stage 1 is left out: the generator of that arm's run of the same seed is loaded
    curve: str = ""  # arms of one curve are joined in the plot
    x: float | None = None  # where on the plot's axis; None where the plot has none

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its runs from those of other arms in runs.jsonl; an arm has the same runs in all questions."""
        return self.train, (self.generator.train or "two_stage") if self.generator else "", self.evaluate


@dataclass(frozen=True)
class Claim:
    """The arm `better` has the higher success rate. Either side may be several arms, evaluated on one task each.

    Without `worse`: the AUROC of the arm's success by the error of its generated video is above 0.5.
    """

    better: str | tuple[str, ...]
    worse: str | tuple[str, ...] = ""
    paper: str = ""  # what the paper, or the work around it, found

    @property
    def sides(self) -> list[tuple[str, ...]]:
        """The labels of the arms on either side."""
        return [(side,) if isinstance(side, str) else side for side in (self.better, self.worse) if side]

    @property
    def text(self) -> str:
        """It in words; of several arms the last word is a task."""
        names = [side[0] if len(side) == 1 else f"{side[0].rpartition(' ')[0]} each task" for side in self.sides]
        return " is better than ".join(names) if self.worse else f"{names[0]}: better videos go with success"


TWO_STAGE = Arm("two-stage")


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


def policy(p: Protocol, name: str, labelled: int | None = None, condition: str = "", evaluate: str = "", **plot) -> Arm:
    """The arm of a method with the actions of `labelled` demonstrations of each task, or of all of them.

    "<method> + retrained head": the generator of that method is frozen, and a new head is trained on it as in stage 2.
    """
    method, _, retrained = name.partition(" + ")
    labels = f"--labelled {labelled}" if labelled else ""
    label = f"{name}, {condition or (f'{labelled} labels' if labelled else 'all labels')}"
    made = f"{labels} {method_flags(p)[method]}".strip()
    if retrained:
        return Arm(label, labels, evaluate, generator=Arm(method, made), **plot)
    shared = TWO_STAGE if method == "two-stage" and labelled else None  # stage 1 reads no labels
    return Arm(label, made, evaluate, generator=shared, **plot)


def labels(p: Protocol) -> Iterator[Arm | Claim]:
    """Does generating video help, with all labels and with few?"""
    papers = {"joint": "0.57", "BC": "0.41 (Diffusion Policy)", "random generator": "0.09 (not fine-tuned)"}
    for count, tag in ((None, "all labels"), (p.few_labels, f"{p.few_labels} labels")):
        for method in method_flags(p):
            yield policy(p, method, count)
            if method not in ("two-stage", "random generator"):  # their head is trained in that way
                yield policy(p, f"{method} + retrained head", count)
                yield Claim(f"two-stage, {tag}", f"{method} + retrained head, {tag}")
            if method != "two-stage":
                paper = f"0.63 / {papers[method]}" if method in papers and not count else ""
                yield Claim(f"two-stage, {tag}", f"{method}, {tag}", paper)
        yield Claim(f"joint, {tag}", f"BC, {tag}", "" if count else "0.57 / 0.41 (Diffusion Policy)")


def watching(p: Protocol) -> Iterator[Arm | Claim]:
    """Can a policy do a task of which it has seen video only, and the actions of other tasks?"""
    tasks = p.tasks.split()
    for task in tasks:
        others, only = f"--tasks {' '.join(t for t in tasks if t != task)}", f"--tasks {task}"
        yield Arm(f"two-stage, video of {task}", others, only, generator=TWO_STAGE)
        yield Arm(f"BC, without {task}", f"{others} {method_flags(p)['BC']}", only)
    yield policy(p, "two-stage")
    video, without = (tuple(f"{kind} {task}" for task in tasks) for kind in ("two-stage, video of", "BC, without"))
    yield Claim(video, without, "0.41 / 0.21 (Diffusion Policy)")
    yield Claim("two-stage, all labels", video)


def demos(p: Protocol) -> Iterator[Arm | Claim]:
    """How many labelled demonstrations are needed? Two-stage also learns from the video of all others."""
    for count in (*p.label_counts, None):
        for method in ("two-stage", "BC", "BC + retrained head"):
            yield policy(p, method, count, curve=method, x=count or p.demos * 9 // 10)
            if count and method != "two-stage":
                yield Claim(f"two-stage, {count} labels", f"{method}, {count} labels")


def shifts(p: Protocol) -> Iterator[Arm | Claim]:
    """What is left of success in scenes unlike those of training, and does action-free video of such scenes help?"""
    for shift in SHIFTS:
        how = "" if shift == "none" else f"--shift {shift}"
        tag = {"none": "no shift", "objects": "object shift", "all": "all shifts"}.get(shift, f"{shift} shift")
        yield from (policy(p, method, None, tag, how) for method in ("two-stage", "BC", "BC + retrained head"))
        yield Arm(f"two-stage with shifted video, {tag}", f"--videos {p.shifted}", how)
        yield Claim(f"two-stage, {tag}", f"BC, {tag}")
        yield Claim(f"two-stage, {tag}", f"BC + retrained head, {tag}")
        yield Claim(f"two-stage with shifted video, {tag}", f"two-stage, {tag}")


def horizon(p: Protocol) -> Iterator[Arm | Claim]:
    """How far ahead should the video go? The actions' horizon stays the same."""
    for curve, dropout in (("as the preset", ""), ("no dropout", "--set head.dropout=0")):
        for n in (0, 16, 32):
            flags = f"{f'--video-horizon {n}' if n < 32 else ''} {dropout}".strip()
            yield Arm(f"{n} steps{f', {curve}' if dropout else ''}", flags, curve=curve, x=n)
    for other, paper in (("16 steps", "0.55"), ("0 steps", "0.30"), ("0 steps, no dropout", "0.30")):
        yield Claim("32 steps", other, f"0.67 / {paper}")


def readout(p: Protocol) -> Iterator[Arm | Claim]:
    """What should the head read: features of one denoising step, of several, or of the expert's own video?"""
    yield Arm("one step")
    for read in ("", "0.5", "2", "8"):
        label = f"10 steps, read at {read or 'the lowest noise'}"
        yield Arm(label, evaluate=f"--video-steps 10 {f'--read-sigma {read}' if read else ''}".strip())
        yield Claim("one step", label, "0.664 / 0.671 (Cosmos Policy, arXiv 2601.16163)" if read == "0.5" else "")
    for tag, shift in (("", ""), (", all shifts", "--shift all")):
        if shift:
            yield Arm(f"one step{tag}", evaluate=shift)
        yield Arm(f"expert's video{tag}", evaluate=f"--oracle feed --read-sigma 0.5 {shift}".strip())
        yield Claim(f"expert's video{tag}", f"one step{tag}")


def video_error(p: Protocol) -> Iterator[Arm | Claim]:
    """Does the policy succeed where its first generated video is close to the expert's?"""
    for label, shift in (("without a shift", ""), ("all shifts", "--shift all")):
        yield Arm(label, evaluate=f"--oracle score {shift}".strip())
        yield Claim(label, paper="shown by example")


QUESTIONS = (labels, watching, demos, shifts, horizon, readout, video_error)
ABLATIONS = {question.__name__: question for question in QUESTIONS}
AXES = {  # of those that are drawn as curves: what their arms' x is, and its scale
    "demos": ("labelled demonstrations of each task", "log"), "horizon": ("video horizon (control steps)", "linear"),
}  # fmt: skip


def rows_of(kind: type, name: str, protocol: Protocol) -> list:
    """The arms of a question, rows_of(Arm, ...), or its claims, rows_of(Claim, ...)."""
    return [row for row in ABLATIONS[name](protocol) if isinstance(row, kind)]
