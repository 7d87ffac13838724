"""What is compared: the protocols, the arms of each ablation, and the claims that they put to the test.

An arm is a policy and a way to try it, as flags of train.py and evaluate.py that differ from the protocol's. runs.py
runs arms, statistics.py says what came out. One more arm, or claim, is one more row here.
"""

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
    """What all arms of a preset share. Names of tasks have blanks between them."""

    data: str  # folder of demonstrations
    tasks: str
    demos: int  # of each task, of which every tenth is held out
    steps: int  # of the generator in stage 1
    head_steps: int  # of the head in stage 2
    single_stage_steps: int  # of methods that have one stage: about as much time as both of the others
    episodes: int  # per task, training seed and arm
    label_counts: tuple  # numbers of demos that keep their actions, others being video alone, and ...
    few_labels: int  # ... the one of them where one number must do
    noise_samples: int  # of actions for each clip, with which a batch of joint or bc has as many as one of stage 2
    labelled_tasks: str  # tasks with actions, where others ...
    video_only_tasks: str  # ... have none
    scaling: tuple = ()  # (demos, generator steps) of the ablation "scaling", the cheapest first


PROTOCOLS = {
    # A policy takes five minutes of one core. One task, whose fixture is visible in 64 pixels; a robot that does not
    # look wins 12 of 50 scenes (python -m sim.tasks --blind demos). 200 demos since they cost no training time. In the
    # ablation of action-free video, actions are known of another task at the same sink.
    "tiny": Protocol(
        data="demos200", tasks="TurnOffSinkFaucet", demos=200, steps=900, head_steps=1500, single_stage_steps=1200,
        episodes=50, label_counts=(2, 5, 10, 25, 50), few_labels=25, noise_samples=16,
        labelled_tasks="TurnSinkSpout", video_only_tasks="TurnOffSinkFaucet",
        scaling=((200, 300), (200, 600), (600, 600), (200, 1200), (600, 1200), (2000, 1200), (200, 2400), (600, 2400),
                 (2000, 2400), (2000, 4800)),
    ),
    # All seventeen, nine of them without actions in the ablation of that name; one GPU.
    "base": Protocol(
        data="demos96", tasks=" ".join(TASKS), demos=50, steps=15000, head_steps=5000, single_stage_steps=20000,
        episodes=50, label_counts=(2, 5, 10, 25), few_labels=5, noise_samples=2,
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
    """The arm `better` succeeds more often than the arm `worse`, by more than `margin`; below 0: it is no worse.

    Without `worse`: the AUROC of its success by dream error is above 0.5, successes have the better dreams.
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


def more_noise(protocol: Protocol) -> dict[str, str]:
    """Label -> flags of joint and bc with as many noisy chunks of actions a step as stage 2 of two_stage denoises.

    Stage 2 need not ask the generator, so that its batch has 128 windows in tiny, where that of the others has 8.
    """
    n, more = protocol.noise_samples, f"--action-noise-samples {protocol.noise_samples}"
    return {f"{method}, {n} samples": f"{METHOD_FLAGS[method]} {more}" for method in ("joint", "bc")}


def methods(protocol: Protocol) -> list[Arm]:
    """Who learns from what, all demos labelled."""
    flags = METHOD_FLAGS | more_noise(protocol) | {"joint, no dropout": "--method joint --head-dropout 0"}
    return [Arm(label, train) for label, train in flags.items()]


def demos(protocol: Protocol) -> list[Arm]:
    """Fewer and fewer labels, the video all there; all methods but bc and frozen_random learn from it."""
    full = {method: METHOD_FLAGS[method] for method in ("two_stage", "bc", "joint", "frozen_random")}
    full |= more_noise(protocol)
    fewer = full | {"two_stage, no dropout": "--head-dropout 0", "bc, dropout": "--method bc"}
    return [
        Arm(f"{curve}, {n}", f"--labelled {n} {flags}", shared_generator="two_stage" in curve, curve=curve, x=n)
        for curve, flags in fewer.items()
        for n in (protocol.label_counts if curve in ("two_stage", "bc") else (protocol.few_labels,))
    ] + [Arm(f"{curve}, all", flags, curve=curve, x=protocol.demos * 9 // 10) for curve, flags in full.items()]


def horizon(protocol: Protocol) -> list[Arm]:
    """How far ahead the video looks, the actions' horizon being what it is; at home and under every shift at once."""
    far = {steps: f"--video-horizon {steps}" for steps in (0, 8, 16)} | {32: ""}
    return [
        Arm(f"{steps}{tag}", flags, tried, curve=f"horizon{tag or ', no shift'}", x=steps)
        for tag, tried in (("", ""), (", all shifts", "--shift all"))
        for steps, flags in far.items()
    ]


def shifts(protocol: Protocol) -> list[Arm]:
    """Scenes unlike those of training; and whether it helps to train in random colours."""
    plain = [Arm(method, METHOD_FLAGS[method]) for method in ("two_stage", "bc")]
    shifted = [Arm(f"{arm.label}, {shift}", arm.train, f"--shift {shift}") for arm in plain for shift in SHIFTS[1:]]
    tried = {"none": ""} | {shift: f"--shift {shift}" for shift in SHIFTS[1:]}
    jittered = [Arm(f"color jitter, {shift}", "--color-jitter 1", flags) for shift, flags in tried.items()]
    return plain + shifted + jittered


def sampling(protocol: Protocol) -> list[Arm]:
    """How long to think: denoising steps, the noise at which features are read, actions executed at a time."""
    read = "--video-steps 10 --read-sigma"
    return [
        Arm("0 steps", curve="steps"),
        *(Arm(f"{n} steps", evaluate=f"--video-steps {n}", curve="steps") for n in (1, 4, 10)),
        *(Arm(f"10 steps, read at {s}", evaluate=f"{read} {s}", curve="read") for s in ("0.5", "2", "8")),
        *(Arm(f"execute {n}", evaluate=f"--execute {n}", curve="execute") for n in (8, 32)),
    ]


def action_free(protocol: Protocol) -> list[Arm]:
    """Tasks that are seen on video only: actions are known of others."""
    labelled, tried = f"--tasks {protocol.labelled_tasks}", f"--tasks {protocol.video_only_tasks}"
    video = f"{labelled} --action-free {protocol.video_only_tasks}"
    return [
        Arm("two_stage, with video", video, tried),
        Arm("joint, with video", f"{video} {METHOD_FLAGS['joint']}", tried),
        Arm("bc, without", f"{labelled} {METHOD_FLAGS['bc']}", tried),
    ]


def oracle(protocol: Protocol) -> list[Arm]:
    """Whether failures are the dream's or the decoder's: the expert's video of a scene in place of the dream."""
    told = "--oracle feed --read-sigma 0.5"
    return [
        Arm("dream of one pass", evaluate="--oracle score"),
        Arm("dream of 10 steps", evaluate="--video-steps 10 --read-sigma 0.5 --oracle score"),
        Arm("expert's film", evaluate=told),
        Arm("dream of one pass, all shifts", evaluate="--oracle score --shift all"),
        Arm("expert's film, all shifts", evaluate=f"{told} --shift all"),
    ]


def decoders(protocol: Protocol) -> list[Arm]:
    """Actions from the network's features, or from the pixels of the frames that it generated."""
    pixels = "--decoder pixels"
    return [
        Arm("features, one pass"),
        Arm("features, 10 steps", evaluate="--video-steps 10"),
        Arm("pixels, one pass", pixels, shared_generator=True),
        Arm("pixels, 10 steps", pixels, "--video-steps 10", shared_generator=True),
        Arm("pixels, expert's film", pixels, "--oracle feed", shared_generator=True),
    ]


def scaling(protocol: Protocol) -> list[Arm]:
    """Success over compute and data, on scenes that no other ablation meets; a tenth of the demos is held out."""
    task = "--tasks TurnOffSinkFaucet"
    return [
        Arm(f"{demos * 9 // 10} demos, {steps} steps",
            f"--demos {demos} --steps {steps} --head-steps 2000 --data demos2000 {task}",
            f"--seed 7 --episodes 100 {task}", curve=f"{demos * 9 // 10} demos", x=steps)
        for demos, steps in protocol.scaling
    ]  # fmt: skip


ARMS = (methods, horizon, action_free, demos, shifts, sampling, oracle, decoders, scaling)
ABLATIONS = {arms.__name__: arms for arms in ARMS}  # name -> function from a protocol to the arms
AXES = {"demos": "demos with actions", "horizon": "control steps generated ahead", "sampling": "ms per decision",
        "scaling": "steps of the generator"}  # fmt: skip


def claims(name: str, protocol: Protocol) -> list[Claim]:
    """What the paper, or the work around it, says of an ablation's arms; and, without a word of the paper's, what else
    one would ask of them.
    """
    few, noisy, shifted = protocol.few_labels, f"{protocol.noise_samples} samples", SHIFTS[1:]
    labelled = f"{few} labelled demos:"
    rows = {  # the fields of Claim
        "methods": [  # the paper's 0.57 is of its code, in which the action gradient flows into the generator
            ("two-stage beats joint", "two_stage", "joint", "0.63 / 0.57"),
            ("two-stage beats behaviour cloning", "two_stage", "bc", "0.63 / 0.41 (Diffusion Policy)"),
            ("joint beats behaviour cloning", "joint", "bc", "0.57 / 0.41 (Diffusion Policy)"),
            ("the generator must be trained", "two_stage", "frozen_random", "0.63 / 0.09 (not fine-tuned)"),
            ("two-stage beats joint detached", "two_stage", "joint_detached"),
            ("joint, the action gradient reaching the generator, beats joint detached", "joint", "joint_detached"),
            (f"two-stage beats joint with {noisy}", "two_stage", f"joint, {noisy}"),
            (f"two-stage beats behaviour cloning with {noisy}", "two_stage", f"bc, {noisy}"),
            (f"joint beats behaviour cloning, both with {noisy}", f"joint, {noisy}", f"bc, {noisy}"),
            ("the head's dropout helps joint", "joint", "joint, no dropout"),
        ],
        "horizon": [
            ("a longer video horizon: 32 steps beat 16", "32", "16", "0.67 / 0.55"),
            ("32 steps beat 0", "32", "0", "0.67 / 0.30"),
            ("32 steps beat 16, all shifts", "32, all shifts", "16, all shifts", "gain largest under a shift"),
            ("32 steps beat 0, all shifts", "32, all shifts", "0, all shifts", "gain largest under a shift"),
        ],
        "action_free": [
            ("video without actions teaches a task: two-stage with it beats cloning without", "two_stage, with video",
             "bc, without", "0.41 / 0.21 (Diffusion Policy)"),
            ("joint with it beats cloning without", "joint, with video", "bc, without"),
        ],
        "demos": [
            *((f"{n} labelled demos: two-stage beats cloning", f"two_stage, {n}", f"bc, {n}", "gain largest with few")
              for n in protocol.label_counts),
            (f"{labelled} two-stage beats joint", f"two_stage, {few}", f"joint, {few}"),
            (f"{labelled} the generator must be trained", f"two_stage, {few}", f"frozen_random, {few}"),
            (f"{labelled} two-stage beats joint with {noisy}", f"two_stage, {few}", f"joint, {noisy}, {few}"),
            (f"{labelled} two-stage beats cloning with {noisy}", f"two_stage, {few}", f"bc, {noisy}, {few}"),
            (f"{labelled} the head's dropout helps two-stage", f"two_stage, {few}", f"two_stage, no dropout, {few}"),
            (f"{labelled} the head's dropout helps cloning", f"bc, dropout, {few}", f"bc, {few}"),
        ],
        "shifts": [
            *((f"shift {s}: two-stage beats cloning", f"two_stage, {s}", f"bc, {s}", "shown on a real robot")
              for s in shifted),
            ("color jitter in training costs nothing without a shift (within 10 points)", "color jitter, none",
             "two_stage", "", -0.1),
            *((f"shift {s}: color jitter in training helps", f"color jitter, {s}", f"two_stage, {s}") for s in shifted),
        ],
        "sampling": [
            ("one pass decides as well as 10 steps (within 3 points)", "0 steps", "10 steps, read at 0.5",
             "0.664 / 0.671 (Fast-WAM and others)", -0.03),
            ("one pass decides as well as 10 steps read at the lowest noise (within 3 points)", "0 steps", "10 steps",
             "", -0.03),
            ("half of a chunk executed is better than all of it", "0 steps", "execute 32"),
        ],
        "oracle": [
            ("the expert's film decides better than one pass", "expert's film", "dream of one pass"),
            ("the expert's film decides better than a dream of 10 steps", "expert's film", "dream of 10 steps"),
            ("the expert's film decides better than one pass, all shifts", "expert's film, all shifts",
             "dream of one pass, all shifts"),
            ("a better first dream goes with success", "dream of one pass", "", "shown by example"),
            ("a better first dream goes with success, all shifts", "dream of one pass, all shifts", "",
             "shown by example"),
        ],
        "decoders": [
            ("features, one pass, beat pixels of one pass", "features, one pass", "pixels, one pass"),
            ("features, one pass, beat pixels of 10 steps", "features, one pass", "pixels, 10 steps"),
            ("pixels of the expert's film beat features", "pixels, expert's film", "features, one pass"),
        ],
        "scaling": [
            ("180 demos: 2400 steps beat 300", "180 demos, 2400 steps", "180 demos, 300 steps"),
            ("2400 steps: 1800 demos beat 180", "1800 demos, 2400 steps", "180 demos, 2400 steps"),
        ] if protocol.scaling else [],
    }  # fmt: skip
    return [Claim(*row) for row in rows[name]]
