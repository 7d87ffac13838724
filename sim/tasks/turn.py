"""The turn family: press a button, swing a spout, shut a lever, turn a knob."""

from sim.experts import CLOSED, pull, push, retreat
from sim.fixtures import microwave, sink, stove
from sim.task import DARKS, METALS, WHITES, Task, fixture_scene

DONE, UNDONE = 0.7, 0.3  # fractions of a joint's range: above counts as pressed or turned, below as untouched
SHUT = 0.08  # a lever below this is shut
SPOUT = {"left": 0.15, "right": 0.85}  # the fraction below, above which a spout is on that side
MARGIN = 0.05  # the expert aims this much further
SIDES = ("left", "right")

PLACES = ((-0.16, -0.04),), ((-0.21, -0.17), (-0.03, 0.01))  # x of the fixture: training, unseen
SINK_PLACES = ((-0.11, 0.01),), ((-0.16, -0.12), (0.02, 0.06))  # its lever is on the left
DEPTHS, YAWS = (0.24, 0.29), (-0.15, 0.15)  # y and yaw of the fixture
REDS = ((0.85, 0.12, 0.12), (0.95, 0.30, 0.22)), ((0.80, 0.15, 0.55), (0.95, 0.60, 0.10))
GREENS = ((0.15, 0.60, 0.25), (0.35, 0.75, 0.35)), ((0.10, 0.55, 0.60), (0.20, 0.35, 0.80))

microwave_scene = fixture_scene(  # its buttons are out
    "microwave", (PLACES, DEPTHS, YAWS),
    {"microwave_case": WHITES, "microwave_panel": DARKS, "microwave_glass": DARKS, "microwave_stop": REDS,
     "microwave_start": GREENS},
    parts=("microwave_stop", "microwave_start"), shapes=("square", "round"), joints={},
)  # fmt: skip
stove_scene = fixture_scene(  # it is off, and a burner is to be turned on
    "stove", (PLACES, DEPTHS, YAWS),
    {"stove_case": WHITES, "stove_burner": DARKS, "stove_knob": METALS, "stove_mark": REDS},
    parts=("stove_left", "stove_right"), shapes=("round", "square"),
    joints={"stove_left": (0.0, 0.06), "stove_right": (0.0, 0.06)}, choices=SIDES,
)  # fmt: skip


def sink_scene(joints, choices=()):
    """Scenes of a sink. joints: {joint: interval of fractions}."""
    colors = {"sink_bowl": WHITES, "sink_metal": METALS, "sink_grip": REDS}
    place, parts = (SINK_PLACES, DEPTHS, YAWS), ("sink_spout", "sink_lever")
    return fixture_scene("sink", place, colors, parts, ("bar", "tube"), joints, choices)


def push_and_leave(s, site, joint, to):
    """Push what carries a site until its joint has passed `to`, and draw the closed fingers back."""
    yield from push(s, site, joint, to, MARGIN, leave=lambda s: retreat(s, gripper=CLOSED))


def stopped(s):
    """The stop button is pressed, the start button is not, and the hand is away."""
    pressed = s.joint("microwave_stop_press") > DONE and s.joint("microwave_start_press") < UNDONE
    return pressed and s.away("microwave_stop")


def burner_on(s):
    """The burner that the prompt names is on, the other one is not."""
    other = "right" if s.choice == "left" else "left"
    return s.joint(f"stove_{s.choice}") > DONE and s.joint(f"stove_{other}") < UNDONE


# Differs: simpler than RoboCasa's. Buttons, levers and knobs stay where they are left, the sink stands on the table,
# water and the oven's state are not simulated, and the stove has two burners instead of up to six.
TASKS = [
    Task("TurnOffMicrowave", "press the stop button of the microwave", family="turn", horizon=120,
         fixtures=lambda: [microwave()], build=microwave_scene, goal=stopped,
         recipe=lambda s: push_and_leave(s, "microwave_stop", "microwave_stop_press", to=DONE)),
    Task("TurnOffSinkFaucet", "turn off the sink faucet", family="turn", horizon=150, fixtures=lambda: [sink()],
         build=sink_scene({"sink_lever": (0.6, 1.0), "sink_spout": (0.4, 0.6)}),
         goal=lambda s: s.joint("sink_lever") < SHUT,
         recipe=lambda s: push_and_leave(s, "sink_lever_shut", "sink_lever", to=SHUT)),
    Task("TurnSinkSpout", "turn the sink spout to the {choice}", family="turn", horizon=140, choices=SIDES,
         fixtures=lambda: [sink()], build=sink_scene({"sink_spout": (0.4, 0.6)}, SIDES),
         goal=lambda s: (s.joint("sink_spout") < SPOUT["left"] if s.choice == "left"
                         else s.joint("sink_spout") > SPOUT["right"]),
         recipe=lambda s: push_and_leave(s, f"sink_spout_{s.choice}wards", "sink_spout", to=SPOUT[s.choice])),
    Task("TurnOnStove", "turn on the {choice} burner of the stove", family="turn", horizon=150, choices=SIDES,
         fixtures=lambda: [stove()], build=stove_scene, goal=burner_on,
         recipe=lambda s: pull(s, f"stove_{s.choice}_knob", f"stove_{s.choice}", to=DONE, margin=MARGIN)),
]  # fmt: skip
