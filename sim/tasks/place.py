"""The place family: pick an object up and put it where the prompt says."""

import numpy as np

from sim import fixtures
from sim.experts import carry
from sim.objects import SHAPES, goods, mug
from sim.task import DARKS, METALS, WHITES, Placement, Scene, Task, is_unseen, paint, sample, sample_one, sample_place

# x of the fixture and of the object on the table: training, unseen
PLACES = ((-0.14, -0.03),), ((-0.19, -0.15), (-0.02, 0.02))
LEFTS, RIGHTS = (((-0.10, -0.04),), ((-0.13, -0.11),)), (((0.06, 0.12),), ((0.13, 0.15),))
SPOTS = ((-0.08, 0.05),), ((-0.12, -0.09), (0.06, 0.10))
YAWS = (-0.12, 0.12)  # of the fixture
STAND = PLACES, (0.26, 0.30), YAWS  # x, y and yaw of the fixture
TURNS = (-0.2, 0.2)  # yaw of the object

WOODS = ((0.80, 0.62, 0.42), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
FOODS = ((0.85, 0.15, 0.15), (0.20, 0.60, 0.25), (0.95, 0.75, 0.10)), ((0.60, 0.20, 0.70), (0.10, 0.60, 0.75))
BLUES = ((0.15, 0.35, 0.75), (0.25, 0.55, 0.85)), ((0.80, 0.35, 0.60), (0.55, 0.75, 0.30))
DRINKS = ((0.20, 0.10, 0.05),), ((0.75, 0.65, 0.50),)


def scene(rng, shift, pose, loose, palettes, unused=(), **others):
    """A Scene of fixtures and objects in random colours, with one shape of each object and without `unused` bodies."""
    color, disabled = paint(rng, shift, palettes), ()
    for name in loose:
        kept = sample_one(rng, SHAPES[name][is_unseen(shift, "objects")])
        disabled += tuple(f"{name}_{shape}" for shape in sum(SHAPES[name], ()) if shape != kept)
    return Scene(pose, loose, color=color, disabled_bodies=disabled + unused, **others)


def beside(pose, x, y):
    """The pose at (x, y) in the frame of a fixture's pose, with the same yaw."""
    x0, y0, yaw = pose
    c, s = np.cos(yaw), np.sin(yaw)
    return float(x0 + c * x - s * y), float(y0 + s * x + c * y), yaw


def cupboard_scene(rng, shift):
    """Food on the raised shelf of a cupboard, near its edge."""
    food = Placement("cupboard_shelf", sample(rng, (-0.05, 0.05)), sample(rng, (-0.06, -0.03)), sample(rng, TURNS))
    colors = {"cupboard_boards": WOODS, "cupboard_block": WHITES, "food": FOODS}
    return scene(rng, shift, {"cupboard": sample_place(rng, shift, *STAND)}, {"food": food}, colors)


def microwave_scene(rng, shift):
    """An open microwave oven, and food on the counter before it."""
    food = Placement("table", *sample_place(rng, shift, SPOTS, (-0.06, 0.02), TURNS))
    colors = {"microwave_case": WHITES, "microwave_panel": DARKS, "microwave_stop": METALS, "microwave_start": METALS,
              "food": FOODS}  # fmt: skip
    unused = ("microwave_door", "microwave_stop_square", "microwave_start_square")
    return scene(rng, shift, {"microwave": sample_place(rng, shift, *STAND)}, {"food": food}, colors, unused)


def stove_scene(rng, shift):
    """A pan on one of the burners, and food on the counter before the stove."""
    food = Placement("table", *sample_place(rng, shift, SPOTS, (-0.10, 0.0), TURNS))
    stands, burner = sample_place(rng, shift, *STAND), sample_one(rng, tuple(fixtures.BURNERS.values()))
    pose = {"stove": stands, "pan": beside(stands, burner, fixtures.BURNER_Y)}
    colors = {"stove_case": WHITES, "stove_burner": DARKS, "stove_knob": METALS, "stove_mark": METALS, "pan": DARKS,
              "food": FOODS}  # fmt: skip
    return scene(rng, shift, pose, {"food": food}, colors, unused=("stove_left_square", "stove_right_square"))


def sink_scene(rng, shift):
    """Food in the front of a basin, the spout out of the way on the right, and a plate on the counter before it."""
    pose = {"sink": sample_place(rng, shift, *STAND), "plate": sample_place(rng, shift, SPOTS, (-0.04, 0.04), YAWS)}
    food = Placement("sink_basin", sample(rng, (-0.09, 0.09)), sample(rng, (-0.06, -0.03)), sample(rng, TURNS))
    colors = {"sink_bowl": WHITES, "sink_metal": METALS, "sink_grip": METALS, "plate": BLUES, "food": FOODS}
    unused, joint = ("sink_spout_tube", "sink_lever_tube"), {"sink_spout": 1.0, "sink_lever": 0.0}
    return scene(rng, shift, pose, {"food": food}, colors, unused, joint=joint)


def coffee_scene(rng, shift):
    """A full mug under the head of a coffee machine."""
    pose = {"machine": sample_place(rng, shift, *STAND)}
    mug = Placement("machine_spot", sample(rng, (-0.01, 0.01)), sample(rng, (-0.01, 0.01)), sample(rng, TURNS))
    colors = {"machine_case": DARKS, "machine_trim": METALS, "mug": FOODS, "mug_drink": DRINKS}
    return scene(rng, shift, pose, {"mug": mug}, colors)


def basket_scene(rng, shift):
    """A can and a box side by side and a basket behind them; the choice is the one to put in."""
    sides = [Placement("table", *sample_place(rng, shift, places, (-0.12, -0.02), TURNS)) for places in (LEFTS, RIGHTS)]
    can, box = sides[::-1] if sample_one(rng, (False, True)) else sides
    pose = {"basket": sample_place(rng, shift, SPOTS, (0.16, 0.22), YAWS)}
    choice, colors = sample_one(rng, ("can", "box")), {"basket": WOODS, "can": FOODS, "box": BLUES}
    return scene(rng, shift, pose, {"can": can, "box": box}, colors, choice=choice)


def named_is_in(s):
    """The object that the prompt names is in the basket, the other one is not, and the hand is away."""
    other = "box" if s.choice == "can" else "can"
    return s.placed(s.choice, "basket_inside") and not s.inside("basket_inside", other)


def placing(name, prompt, thing, place, region, **others):
    """The task of carrying one object to a place within a region."""
    return Task(name, prompt, family="place", horizon=200, goal=lambda s: s.placed(thing, region),
                recipe=lambda s: carry(s, thing, place, region), **others)  # fmt: skip


# Differs: simpler than RoboCasa's. One object of a simple shape without distractors, fixtures of boxes on the table,
# open doors, a low shelf, no plate in the oven, a flat basin, the mug held by its body; the gripper is away at 5 cm
# instead of 25. PickAndPlace is the real robot's task: its prompt names one of two.
TASKS = [
    placing("PnPCabToCounter", "take the food out of the cupboard and put it on the counter", "food",
            "cupboard_counter_put", "cupboard_counter", build=cupboard_scene,
            fixtures=lambda: [fixtures.cupboard(), goods("food")]),
    placing("PnPCounterToMicrowave", "put the food in the microwave", "food", "microwave_put", "microwave_cavity",
            build=microwave_scene, fixtures=lambda: [fixtures.microwave(), goods("food")]),
    placing("PnPCounterToStove", "put the food in the pan on the stove", "food", "pan_put", "pan_inside",
            build=stove_scene, fixtures=lambda: [
                fixtures.stove(), fixtures.dish("pan", 0.065, fixtures.BURNER_TOP, 0.04), goods("food")]),
    placing("PnPSinkToCounter", "take the food out of the sink and put it on the plate", "food", "plate_put",
            "plate_inside", build=sink_scene,
            fixtures=lambda: [fixtures.sink(), fixtures.dish("plate", 0.075), goods("food")]),
    placing("CoffeeServeMug", "take the mug from the coffee machine and put it on the counter", "mug",
            "machine_counter_put", "machine_counter", build=coffee_scene,
            fixtures=lambda: [fixtures.coffee_machine(), mug()]),
    Task("PickAndPlace", "put the {choice} in the basket", family="place", horizon=200, choices=("can", "box"),
         fixtures=lambda: [fixtures.basket(), goods("can"), goods("box")], build=basket_scene, goal=named_is_in,
         recipe=lambda s: carry(s, s.choice, "basket_put", "basket_inside")),
]  # fmt: skip
