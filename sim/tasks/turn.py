"""The turn family: press a button, swing a spout, shut a lever, turn a knob. The fixture is the object."""

from sim.experts import CLOSED, pull, push, retreat
from sim.fixtures import microwave, sink, stove
from sim.palettes import DARKS, METALS, WHITES
from sim.task import Scene, Task, disabled_bodies, draw, draw_one, draw_place, paint

DONE, UNDONE = 0.7, 0.3  # fractions of a joint's range that count as pressed or turned, and as left alone
SHUT = 0.08  # a lever below this is shut
FAR = 0.85  # a spout this far to one side is there; 1 - FAR on the other
MARGIN = 0.05  # the expert goes this much further
SIDES = ("left", "right")

PLACES = ((-0.16, -0.04),), ((-0.21, -0.17), (-0.03, 0.01))  # x of the fixture: training, unseen
SINK_PLACES = ((-0.11, 0.01),), ((-0.16, -0.12), (0.02, 0.06))  # its lever is on the left
DEPTHS = (0.24, 0.29)  # y of the fixture
YAWS = (-0.15, 0.15)

REDS = ((0.85, 0.12, 0.12), (0.95, 0.30, 0.22)), ((0.80, 0.15, 0.55), (0.95, 0.60, 0.10))
GREENS = ((0.15, 0.60, 0.25), (0.35, 0.75, 0.35)), ((0.10, 0.55, 0.60), (0.20, 0.35, 0.80))


def microwave_scene(rng, shift):
    """A running microwave oven, its buttons out."""
    squares = "microwave_stop_square", "microwave_start_square"
    rounds = "microwave_stop_round", "microwave_start_round"
    return Scene(
        pose={"microwave": draw_place(rng, shift, PLACES, DEPTHS, YAWS)},
        color=paint(rng, shift, {"microwave_case": WHITES, "microwave_panel": DARKS, "microwave_glass": DARKS,
                                 "microwave_stop": REDS, "microwave_start": GREENS}),
        disabled_bodies=disabled_bodies(shift, squares, rounds),
    )  # fmt: skip


SINK_COLORS = {"sink_bowl": WHITES, "sink_metal": METALS, "sink_grip": REDS}
BARS, TUBES = ("sink_spout_bar", "sink_lever_bar"), ("sink_spout_tube", "sink_lever_tube")


def faucet_scene(rng, shift):
    """A sink whose water is on."""
    return Scene(
        pose={"sink": draw_place(rng, shift, SINK_PLACES, DEPTHS, YAWS)},
        joint={"sink_lever": draw(rng, (0.6, 1.0)), "sink_spout": draw(rng, (0.4, 0.6))},
        color=paint(rng, shift, SINK_COLORS), disabled_bodies=disabled_bodies(shift, BARS, TUBES),
    )  # fmt: skip


def spout_scene(rng, shift):
    """A sink whose spout points ahead, and a side to turn it to."""
    return Scene(
        pose={"sink": draw_place(rng, shift, SINK_PLACES, DEPTHS, YAWS)},
        joint={"sink_lever": 0.0, "sink_spout": draw(rng, (0.4, 0.6))}, choice=draw_one(rng, SIDES),
        color=paint(rng, shift, SINK_COLORS), disabled_bodies=disabled_bodies(shift, BARS, TUBES),
    )  # fmt: skip


def stove_scene(rng, shift):
    """A stove that is off, and a burner to turn on."""
    squares, rounds = (tuple(f"stove_{side}_{kind}" for side in SIDES) for kind in ("square", "round"))
    return Scene(
        pose={"stove": draw_place(rng, shift, PLACES, DEPTHS, YAWS)},
        joint={f"stove_{side}": draw(rng, (0.0, 0.06)) for side in SIDES}, choice=draw_one(rng, SIDES),
        color=paint(rng, shift, {"stove_case": WHITES, "stove_burner": DARKS, "stove_knob": METALS,
                                 "stove_mark": REDS}),
        disabled_bodies=disabled_bodies(shift, rounds, squares),
    )  # fmt: skip


def push_and_leave(s, site, joint, to):
    """Push what carries a site until its joint has passed `to`, and draw the finger back."""
    yield from push(s, site, joint, to)
    yield from retreat(s, gripper=CLOSED)


def stopped(s):
    """The stop button is in, the start button is not, and the finger is off it."""
    pressed, other = s.joint("microwave_stop_press"), s.joint("microwave_start_press")
    return pressed > DONE and other < UNDONE and s.away("microwave_stop")


def press_stop(s):
    """Push the stop button in."""
    while s.joint("microwave_stop_press") < DONE:
        yield from push_and_leave(s, "microwave_stop", "microwave_stop_press", to=DONE + MARGIN)


def shut_lever(s):
    """Push the lever back over the basin."""
    while s.joint("sink_lever") > SHUT:
        yield from push_and_leave(s, "sink_lever_shut", "sink_lever", to=SHUT - MARGIN)


def spout_turned(s):
    """The spout is on the side that the prompt names."""
    at = s.joint("sink_spout")
    return at < 1 - FAR if s.choice == "left" else at > FAR


def swing_spout(s):
    """Push the spout to the side that the prompt names, from its other side."""
    to = 1 - FAR - MARGIN if s.choice == "left" else FAR + MARGIN
    while not spout_turned(s):
        yield from push_and_leave(s, f"sink_spout_{s.choice}wards", "sink_spout", to=to)


def burner_on(s):
    """The burner that the prompt names is on, the other is not."""
    other = "right" if s.choice == "left" else "left"
    return s.joint(f"stove_{s.choice}") > DONE and s.joint(f"stove_{other}") < UNDONE


def turn_knob(s):
    """Grasp the knob that the prompt names, twist, let go, draw back."""
    while s.joint(f"stove_{s.choice}") < DONE:
        yield from pull(s, f"stove_{s.choice}_knob", f"stove_{s.choice}", to=DONE + MARGIN)


# Simpler than RoboCasa's: buttons, levers and knobs stay where they are left, and the sink stands on the table.
TASKS = [
    Task(  # the oven only has to be stopped: whether it "runs" is not simulated
        name="TurnOffMicrowave", prompt="press the stop button of the microwave", family="turn", horizon=120,
        fixtures=lambda: [microwave()], build=microwave_scene, goal=stopped, recipe=press_stop,
    ),
    Task(  # one lever that swings to the side, no water
        name="TurnOffSinkFaucet", prompt="turn off the sink faucet", family="turn", horizon=150,
        fixtures=lambda: [sink()], build=faucet_scene,
        goal=lambda s: s.joint("sink_lever") < SHUT, recipe=shut_lever,
    ),
    Task(
        name="TurnSinkSpout", prompt="turn the sink spout to the {choice}", family="turn", horizon=140, choices=SIDES,
        fixtures=lambda: [sink()], build=spout_scene, goal=spout_turned, recipe=swing_spout,
    ),
    Task(  # two burners instead of up to six
        name="TurnOnStove", prompt="turn on the {choice} burner of the stove", family="turn", horizon=150,
        choices=SIDES, fixtures=lambda: [stove()], build=stove_scene, goal=burner_on, recipe=turn_knob,
    ),
]
