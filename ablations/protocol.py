"""What is compared: the protocols, and the arms and claims of each ablation.

An arm is a policy and a way to try it, as flags of train.py and evaluate.py that differ from the protocol's. A claim is
about two arms. runs.py runs the arms, statistics.py judges the claims. One more of either is one more row here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sim.task import SHIFTS
from sim.tasks import TASKS
from train import METHODS

THREE = "OpenDrawer TurnSinkSpout TurnOnStove"
RECORD = {  # folder of demonstrations -> the command that makes it
    "demos100": f"python -m sim.demos --tasks {THREE} --demos 100 --out demos100",
    "play100": f"python -m sim.demos --tasks {THREE} --demos 100 --play --out play100",
    "demos100_shifted": f"python -m sim.demos --tasks {THREE} --demos 100 --shift all --out demos100_shifted",
    "demos2000": "python -m sim.demos --tasks TurnOffSinkFaucet --demos 2000 --out demos2000",
    "demos96": "python -m sim.demos --tasks all --cameras front side wrist --size 96 --out demos96",
    "play96": "python -m sim.demos --tasks all --cameras front side wrist --size 96 --play --out play96",
    "demos96_shifted": "python -m sim.demos --tasks all --cameras front side wrist --size 96 --shift all "
    "--out demos96_shifted",
}


@dataclass(frozen=True)
class Protocol:
    """What all arms of a preset share; the defaults are those of tiny. Names of tasks have blanks between them.

    One policy for all tasks, told apart by their sentences. In two of those of tiny only the sentence tells what to
    turn. A robot that does not look wins at most 13 of 50 scenes of any (python -m sim.tasks --blind demos). Tasks of
    more families are not learned in so few steps: docs/results.md. Every trained generator sees as many windows, but
    for those of a shorter video "with as much compute".
    """

    data: str = "demos100"  # folder of demonstrations
    play: str = "play100"  # ... and of random motion in the same scenes
    shifted: str = "demos100_shifted"  # ... and of the expert under all shifts
    tasks: str = THREE
    demos: int = 100  # of each task, of which every tenth is held out; more cost no training time
    flags: str = "--zero-terminal-snr"  # of all arms that do not say otherwise; the one-pass dream gains 4 dB by it
    steps: int = 1500  # of the generator: stage 1, or all where there is one stage
    head_steps: int = 2000  # of the head in stage 2
    episodes: int = 30  # per task, training seed and arm
    label_counts: tuple = (2, 5, 10, 25)  # numbers of demos with actions to try; all others are video alone
    few_labels: int = 5  # the one of them that is used where only one is
    noise_samples: int = 16  # of actions for each window: a batch of joint or bc then has as many as one of stage 2
    # (demos, generator steps) of the ablation "scaling", the cheapest first
    scaling: tuple = ((200, 300), (200, 600), (600, 600), (200, 1200), (600, 1200), (2000, 1200), (200, 2400),
                      (600, 2400), (2000, 2400), (2000, 4800))  # fmt: skip


PROTOCOLS = {
    "tiny": Protocol(),
    "base": Protocol(  # all seventeen; one GPU
        data="demos96", play="play96", shifted="demos96_shifted", tasks=" ".join(TASKS), demos=50,
        steps=15000, head_steps=5000, noise_samples=2, scaling=(),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One policy of an ablation and one way to try it, as flags that differ from the protocol's."""

    label: str
    train: str = ""
    evaluate: str = ""
    generator_of: "Arm | None" = None  # stage 1 is left out: the generator of that arm's run of the same seed is loaded
    curve: str = ""  # arms of one curve are joined in the plot
    x: float | None = None  # where on the plot's axis; None where the plot has none


@dataclass(frozen=True)
class Claim:
    """The arm `better` succeeds more often than the arm `worse`, by more than `margin`; below 0 it is "no worse".

    Either may be several arms, tried on a task each: their episodes count as those of one. Without `worse`: the AUROC
    of the arm's success by dream error is above 0.5, successes have the better dreams; `partial`: their rank
    correlation is below 0 among scenes in which the expert has as far to go.
    """

    text: str
    better: str | tuple[str, ...]
    worse: str | tuple[str, ...] = ""
    paper: str = ""
    margin: float = 0.0
    partial: bool = False

    @property
    def sides(self) -> list[tuple[str, ...]]:
        """The labels of the arms on either side."""
        return [(side,) if isinstance(side, str) else side for side in (self.better, self.worse) if side]


TWO_STAGE = Arm("two_stage")
FUTURE_UNDER_NOISE = "--no-zero-terminal-snr"


def method_flags(p: Protocol) -> dict[str, str]:
    """How each method is called: as two_stage was tuned, cloning without dropout, and with as much to learn from.

    Stage 2 of two_stage caches features, so that its batch has 128 windows; methods of one stage have 8 and
    denoise 16 noisy chunks of actions of each. The head's dropout was chosen for two_stage; cloning,
    which learns to see through it, came to nothing (TurnOffSinkFaucet, seed 0, all demos: a held-out action error of
    0.138, against 0.048 without). So cloning does without. Of joint training nothing was tuned.
    """
    more = f"--action-noise-samples {p.noise_samples}"
    flags = {method: f"--method {method} {more}" for method in METHODS}
    return flags | {
        "two_stage": "",
        "bc": f"--method bc --head-dropout 0 {more}",
        "frozen_random": "--method frozen_random",
    }


def methods(p: Protocol) -> Iterator[Arm | Claim]:
    """Who learns from what, all demos labelled.

    Stage 2 trains its head on many more windows, of features that stand still. So that of the others is also thrown
    away, and one is trained on their generator as stage 2 does it (that of cloning then has dropout, and meets noise
    that its network has not).
    """
    arms = {label: Arm(label, flags) for label, flags in method_flags(p).items()}
    yield from arms.values()
    yield from (Arm(f"{label}, then stage 2", generator_of=arms[label]) for label in ("joint", "bc"))
    yield Arm("two_stage, the future under noise", FUTURE_UNDER_NOISE)
    yield Arm("joint, 1 sample", "--method joint")
    # The paper's 0.57 is of its code, in which the action gradient flows into the generator.
    yield Claim("two-stage beats behaviour cloning", "two_stage", "bc", "0.63 / 0.41 (Diffusion Policy)")
    yield Claim("two-stage beats joint", "two_stage", "joint", "0.63 / 0.57")
    yield Claim("joint beats behaviour cloning", "joint", "bc", "0.57 / 0.41 (Diffusion Policy)")
    yield Claim("the generator must be trained", "two_stage", "frozen_random", "0.63 / 0.09 (not fine-tuned)")
    yield Claim("two-stage beats joint detached", "two_stage", "joint_detached")
    yield Claim("joint, the action gradient reaching the generator, beats joint detached", "joint", "joint_detached")
    for label, name in (("joint", "joint"), ("bc", "behaviour cloning")):
        yield Claim(f"two-stage beats {name} with a head of stage 2", "two_stage", f"{label}, then stage 2")
        yield Claim(f"a head of stage 2 helps {name}", f"{label}, then stage 2", label)
    yield Claim("more noisy actions of each window help joint", "joint", "joint, 1 sample")
    text = "a generator that sees noise alone at sigma_max beats one that sees the future under it"
    yield Claim(text, "two_stage", "two_stage, the future under noise")


def demos(p: Protocol) -> Iterator[Arm | Claim]:
    """Fewer and fewer labels, the video all there; all methods but bc and frozen_random learn from it."""
    few, flags, new_head = p.few_labels, method_flags(p), "bc, then stage 2"
    for n in sorted(p.label_counts, key=lambda n: n != few):  # what the paper's claim is about comes first
        for method in ("two_stage", "bc", "joint") + ("frozen_random",) * (n == few):
            labelled, shared = f"--labelled {n} {flags[method]}", TWO_STAGE if method == "two_stage" else None
            yield Arm(f"{method}, {n}", labelled, generator_of=shared, curve=method, x=n)
            if method == "bc" and n == few:
                cloned = Arm("bc", labelled)
                yield Arm(f"bc, {n}, then stage 2", f"--labelled {n}", generator_of=cloned, curve=new_head, x=n)
        text = f"{n} labelled demos of each task: two-stage beats cloning"
        yield Claim(text, f"two_stage, {n}", f"bc, {n}", "gain largest with few")
        yield Claim(f"{n} labelled demos of each task: two-stage beats joint", f"two_stage, {n}", f"joint, {n}")
    for method in ("two_stage", "bc", "joint", "frozen_random"):
        yield Arm(f"{method}, all", flags[method], curve=method, x=p.demos * 9 // 10)
    cloned = Arm("bc", flags["bc"])
    yield Arm("bc, all, then stage 2", generator_of=cloned, curve=new_head, x=p.demos * 9 // 10)
    text = f"{few} labelled demos of each task: two-stage beats behaviour cloning with a head of stage 2"
    yield Claim(text, f"two_stage, {few}", f"bc, {few}, then stage 2")
    text = f"{few} labelled demos of each task: the generator must be trained"
    yield Claim(text, f"two_stage, {few}", f"frozen_random, {few}")


def horizon(p: Protocol) -> Iterator[Arm | Claim]:
    """How far ahead the video looks, the actions' horizon being what it is; at home and under every shift at once.

    A shorter video trains in less. With "as much compute", or a little more, it has as many more steps as fewer frames.
    """
    for tag, tried in (("", ""), (", all shifts", "--shift all")):
        for n in (0, 8, 16, 32):
            flags = f"--video-horizon {n}" if n < 32 else ""
            yield Arm(f"{n}{tag}", flags, tried, curve=f"horizon{tag or ', no shift'}", x=n)
        for n in (0, 16):
            more = f"--video-horizon {n} --steps {p.steps * 32 // max(n, 4)}"
            yield Arm(f"{n}, as much compute{tag}", more, tried, curve=f"as much compute{tag}", x=n)
    # The head of one frame has an eighth of the numbers to read, of which a dropout of 0.8 leaves few.
    flags = "--video-horizon 0 --head-dropout 0"
    yield Arm("0, head without dropout", flags, curve="no shift, head without dropout", x=0)
    paper = "gain largest under a shift"
    yield Claim("a longer video horizon: 32 steps beat 16", "32", "16", "0.67 / 0.55")
    yield Claim("32 steps beat 0", "32", "0", "0.67 / 0.30")
    yield Claim("32 steps beat 0 whose head has no dropout", "32", "0, head without dropout", "0.67 / 0.30")
    yield Claim("32 steps beat 8", "32", "8")
    yield Claim("32 steps beat 16 with as much compute", "32", "16, as much compute", "0.67 / 0.55")
    yield Claim("32 steps beat 0 with as much compute", "32", "0, as much compute", "0.67 / 0.30")
    yield Claim("32 steps beat 16, all shifts", "32, all shifts", "16, all shifts", paper)
    yield Claim("32 steps beat 0, all shifts", "32, all shifts", "0, all shifts", paper)


def action_free(p: Protocol) -> Iterator[Arm | Claim]:
    """Each task in turn is seen on video only: actions are known of the others, or of play in every scene.

    Play has no sentence that tells tasks apart, and the generator does not know what it does next: its head can only
    learn to read motion. So it also reads the end of ten steps, where motion is to be seen.
    """
    tasks = p.tasks.split()
    for task in tasks:
        others, tried = f"--tasks {' '.join(t for t in tasks if t != task)}", f"--tasks {task}"
        yield Arm(f"two_stage, video of {task}", others, tried, generator_of=TWO_STAGE)
        yield Arm(f"bc, without {task}", f"{others} {method_flags(p)['bc']}", tried)
    yield Arm("two_stage", "")
    yield Arm("two_stage, play", f"--data {p.play}", generator_of=TWO_STAGE)
    how = "--video-steps 10 --read-sigma 0.5"
    yield Arm("two_stage, play, 10 steps", f"--data {p.play}", how, generator_of=TWO_STAGE)
    video, without = (tuple(f"{what} {task}" for task in tasks) for what in ("two_stage, video of", "bc, without"))
    text = "video without actions teaches a task: two-stage with it beats cloning without"
    yield Claim(text, video, without, "0.41 / 0.21 (Diffusion Policy)")
    yield Claim("the task's own labels beat its video", "two_stage", video)
    text = "a video-only task: labels of play beat those of other tasks"
    yield Claim(text, "two_stage, play, 10 steps", video)
    yield Claim("labels of play: 10 steps beat one pass", "two_stage, play, 10 steps", "two_stage, play")


def shifts(p: Protocol) -> Iterator[Arm | Claim]:
    """Scenes unlike those of training; and whether it helps to train in random colours, or to watch such scenes.

    Half of the windows that the generator then learns from are of the expert under all shifts, without its actions; the
    head learns as always. What such actions are worth: all demonstrations, as many as always, recorded there.
    """
    compared, shifted = {"two_stage": "", "bc": method_flags(p)["bc"], "color jitter": "--color-jitter 1"}, SHIFTS[1:]
    compared["shifted video"] = f"--videos {p.shifted}"
    for label, flags in compared.items():
        yield Arm(f"{label}, none", flags)
        yield from (Arm(f"{label}, {shift}", flags, f"--shift {shift}") for shift in shifted)
    yield Arm("shifted demos, all", f"--data {p.shifted}", "--shift all")
    cloned = Arm("bc", method_flags(p)["bc"])
    yield from (Arm(f"bc then stage 2, {shift}", "", f"--shift {shift}", generator_of=cloned) for shift in shifted)
    text, paper = "two-stage beats cloning", "shown on a real robot"
    yield from (Claim(f"shift {s}: {text}", f"two_stage, {s}", f"bc, {s}", paper) for s in shifted)
    text = "two-stage beats behaviour cloning with a head of stage 2"
    yield from (Claim(f"shift {s}: {text}", f"two_stage, {s}", f"bc then stage 2, {s}") for s in shifted)
    text = "color jitter in training costs less than 10 points without a shift"
    yield Claim(text, "color jitter, none", "two_stage, none", margin=-0.1)
    text = "color jitter in training helps"
    yield from (Claim(f"shift {s}: {text}", f"color jitter, {s}", f"two_stage, {s}") for s in shifted)
    text = "video of shifted scenes costs less than 10 points without a shift"
    yield Claim(text, "shifted video, none", "two_stage, none", margin=-0.1)
    text = "video of shifted scenes, without actions, helps"
    yield from (Claim(f"shift {s}: {text}", f"shifted video, {s}", f"two_stage, {s}") for s in shifted)
    yield Claim("shift all: actions there beat the video", "shifted demos, all", "shifted video, all")


def sampling(p: Protocol) -> Iterator[Arm | Claim]:
    """How long to think: denoising steps, the noise at which features are read, actions executed at a time."""
    yield Arm("0 steps")
    for n in (1, 4, 10):
        yield Arm(f"{n} steps", evaluate=f"--video-steps {n}")
    for s in ("0.5", "2", "8"):
        yield Arm(f"10 steps, read at {s}", evaluate=f"--video-steps 10 --read-sigma {s}")
    for n in (8, 32):
        yield Arm(f"execute {n}", evaluate=f"--execute {n}")
    text = "one pass decides as well as 10 steps (within 3 points)"
    paper = "0.664 / 0.671 (Cosmos Policy, arXiv 2601.16163)"
    yield Claim(text, "0 steps", "10 steps, read at 0.5", paper, margin=-0.03)
    text = "one pass decides as well as 10 steps read at the lowest noise (within 3 points)"
    yield Claim(text, "0 steps", "10 steps", margin=-0.03)
    for s in ("2", "8"):
        text = f"one pass decides as well as 10 steps read at sigma {s} (within 3 points)"
        yield Claim(text, "0 steps", f"10 steps, read at {s}", margin=-0.03)
    yield Claim("half of a chunk executed is better than all of it", "0 steps", "execute 32")
    yield Claim("half of a chunk executed is better than a quarter", "0 steps", "execute 8")


def oracle(p: Protocol) -> Iterator[Arm | Claim]:
    """Whether failures are the dream's or the decoder's: the expert's video of a scene in place of the dream."""
    scored, fed = "--oracle score", "--oracle feed --read-sigma 0.5"
    yield Arm("dream of one pass", evaluate=scored)
    yield Arm("dream of 10 steps", evaluate=f"--video-steps 10 --read-sigma 0.5 {scored}")
    yield Arm("expert's film", evaluate=fed)
    yield Arm("reacting expert's film", evaluate="--oracle react --read-sigma 0.5")
    yield Arm("dream of one pass, all shifts", evaluate=f"{scored} --shift all")
    yield Arm("expert's film, all shifts", evaluate=f"{fed} --shift all")
    text = "the expert's film decides better than"
    yield Claim(f"{text} one pass", "expert's film", "dream of one pass")
    yield Claim(f"reacting, {text} one pass", "reacting expert's film", "dream of one pass")
    yield Claim(f"{text} a dream of 10 steps", "expert's film", "dream of 10 steps")
    yield Claim(f"{text} one pass, all shifts", "expert's film, all shifts", "dream of one pass, all shifts")
    text, paper = "a better first dream goes with success", "shown by example"
    yield Claim(text, "dream of one pass", paper=paper)
    yield Claim(f"{text}, the expert's path being as long", "dream of one pass", paper=paper, partial=True)
    yield Claim(f"{text}, all shifts", "dream of one pass, all shifts", paper=paper)


def decoders(p: Protocol) -> Iterator[Arm | Claim]:
    """Actions from the network's features, or from the pixels of the frames that it generated."""
    yield Arm("features, one pass")
    yield Arm("features, 10 steps", evaluate="--video-steps 10")
    for label, flags in (("one pass", ""), ("10 steps", "--video-steps 10"), ("expert's film", "--oracle feed")):
        yield Arm(f"pixels, {label}", "--decoder pixels", flags, generator_of=TWO_STAGE)
    more = f"--decoder pixels --action-noise-samples {p.noise_samples}"  # nothing is cached: its batch has 8 windows
    yield Arm("pixels, more samples", more, generator_of=TWO_STAGE)
    yield Claim("features, one pass, beat pixels of one pass", "features, one pass", "pixels, one pass")
    text = "features, one pass, beat pixels of one pass with as many noisy actions"
    yield Claim(text, "features, one pass", "pixels, more samples")
    yield Claim("features, one pass, beat pixels of 10 steps", "features, one pass", "pixels, 10 steps")
    yield Claim("pixels of the expert's film beat features", "pixels, expert's film", "features, one pass")


def scaling(p: Protocol) -> Iterator[Arm | Claim]:
    """Success over compute and data, on scenes that no other ablation meets; a tenth of the demos is held out."""
    task = "--tasks TurnOffSinkFaucet"  # one task, as in the demo, and with its noise
    for demos, steps in p.scaling:
        train = f"--demos {demos} --steps {steps} --head-steps 2000 --data demos2000 {task} {FUTURE_UNDER_NOISE}"
        curve = f"{demos * 9 // 10} demos"
        yield Arm(f"{curve}, {steps} steps", train, f"--seed 7 --episodes 100 {task}", curve=curve, x=steps)
    if p.scaling:
        yield Claim("180 demos: 2400 steps beat 300", "180 demos, 2400 steps", "180 demos, 300 steps")
        yield Claim("2400 steps: 1800 demos beat 180", "1800 demos, 2400 steps", "180 demos, 2400 steps")


# In this order they are run: the paper's headline claims first.
FUNCTIONS = (methods, demos, horizon, action_free, shifts, sampling, decoders, oracle, scaling)
ABLATIONS = {function.__name__: function for function in FUNCTIONS}
AXES = {  # of those that are drawn as curves: what their arms' x is, and its scale
    "demos": ("demos of each task with actions", "log"), "horizon": ("control steps generated ahead", "linear"),
    "scaling": ("steps of the generator", "log"),
}  # fmt: skip


def rows_of(kind: type, name: str, protocol: Protocol) -> list:
    """The arms of an ablation, rows_of(Arm, ...), or its claims, rows_of(Claim, ...).

    A claim is what the paper, or the work around it, says; where `paper` is empty, what else one would ask.
    """
    return [row for row in ABLATIONS[name](protocol) if isinstance(row, kind)]
