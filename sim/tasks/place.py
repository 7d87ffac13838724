"""The place family: take an object from where it stands and put it where the prompt says."""

from sim import fixtures
from sim.experts import pick, put
from sim.objects import goods, mug
from sim.palettes import DARKS, METALS, WHITES
from sim.task import Placement, Scene, Task, beside, draw, draw_one, draw_place, is_unseen, paint

# x of the fixture and of the object on the table: training, unseen
PLACES = ((-0.14, -0.03),), ((-0.19, -0.15), (-0.02, 0.02))
LEFTS, RIGHTS = (((-0.10, -0.04),), ((-0.13, -0.11),)), (((0.06, 0.12),), ((0.13, 0.15),))
SPOTS = ((-0.08, 0.05),), ((-0.12, -0.09), (0.06, 0.10))
DEPTHS = (0.26, 0.30)  # y of the fixture
YAWS = (-0.12, 0.12)
TURNS = (-0.2, 0.2)  # yaw of the object

WOODS = ((0.80, 0.62, 0.42), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
FOODS = ((0.85, 0.15, 0.15), (0.20, 0.60, 0.25), (0.95, 0.75, 0.10)), ((0.60, 0.20, 0.70), (0.10, 0.60, 0.75))
BLUES = ((0.15, 0.35, 0.75), (0.25, 0.55, 0.85)), ((0.80, 0.35, 0.60), (0.55, 0.75, 0.30))
DRINKS = ((0.20, 0.10, 0.05),), ((0.75, 0.65, 0.50),)
SEEN_SHAPES, UNSEEN_SHAPES = ("can", "carton"), ("jar", "flask")

RIGHTWARDS = 1.0  # where the spout is out of the way


def disabled_shapes(rng, shift, name, seen=SEEN_SHAPES, unseen=UNSEEN_SHAPES):
    """The bodies to disable, so that an object has one of its seen or unseen shapes."""
    kept = draw_one(rng, unseen if is_unseen(shift, "objects") else seen)
    return tuple(f"{name}_{other}" for other in seen + unseen if other != kept)


def stand(rng, shift):
    """Where the fixture stands: x, y, yaw."""
    return draw_place(rng, shift, PLACES, DEPTHS, YAWS)


def cupboard_scene(rng, shift):
    """Food on the raised shelf of a cupboard, near its edge."""
    food = Placement("cupboard_shelf", draw(rng, (-0.05, 0.05)), draw(rng, (-0.06, -0.03)), draw(rng, TURNS))
    return Scene(
        pose={"cupboard": stand(rng, shift)}, loose={"food": food},
        color=paint(rng, shift, {"cupboard_boards": WOODS, "cupboard_block": WHITES, "food": FOODS}),
        disabled_bodies=disabled_shapes(rng, shift, "food"),
    )  # fmt: skip


def microwave_scene(rng, shift):
    """An open microwave oven, and food on the counter before it."""
    food = Placement("table", *draw_place(rng, shift, SPOTS, (-0.06, 0.02), TURNS))
    unused = ("microwave_door", "microwave_stop_square", "microwave_start_square")
    return Scene(
        pose={"microwave": stand(rng, shift)}, loose={"food": food},
        color=paint(rng, shift, {"microwave_case": WHITES, "microwave_panel": DARKS, "microwave_stop": METALS,
                                 "microwave_start": METALS, "food": FOODS}),
        disabled_bodies=disabled_shapes(rng, shift, "food") + unused,
    )  # fmt: skip


def stove_scene(rng, shift):
    """A pan on one of the burners, and food on the counter before the stove."""
    food = Placement("table", *draw_place(rng, shift, SPOTS, (-0.10, 0.0), TURNS))
    stands, burners = stand(rng, shift), fixtures.BURNERS
    pan = beside(stands, burners[draw_one(rng, tuple(burners))], fixtures.BURNER_Y)
    return Scene(
        pose={"stove": stands, "pan": pan}, loose={"food": food},
        color=paint(rng, shift, {"stove_case": WHITES, "stove_burner": DARKS, "stove_knob": METALS,
                                 "stove_mark": METALS, "pan": DARKS, "food": FOODS}),
        disabled_bodies=disabled_shapes(rng, shift, "food") + ("stove_left_square", "stove_right_square"),
    )  # fmt: skip


def sink_scene(rng, shift):
    """Food in the front of a basin, and a plate on the counter before it."""
    pose = {"sink": stand(rng, shift), "plate": draw_place(rng, shift, SPOTS, (-0.04, 0.04), YAWS)}
    food = Placement("sink_basin", draw(rng, (-0.09, 0.09)), draw(rng, (-0.06, -0.03)), draw(rng, TURNS))
    return Scene(
        pose=pose, loose={"food": food}, joint={"sink_spout": RIGHTWARDS, "sink_lever": 0.0},
        color=paint(rng, shift, {"sink_bowl": WHITES, "sink_metal": METALS, "sink_grip": METALS, "plate": BLUES,
                                 "food": FOODS}),
        disabled_bodies=disabled_shapes(rng, shift, "food") + ("sink_spout_tube", "sink_lever_tube"),
    )  # fmt: skip


def coffee_scene(rng, shift):
    """A full mug under the head of a coffee machine."""
    return Scene(
        pose={"machine": stand(rng, shift)},
        loose={"mug": Placement("machine_spot", draw(rng, (-0.01, 0.01)), draw(rng, (-0.01, 0.01)), draw(rng, TURNS))},
        color=paint(rng, shift, {"machine_case": DARKS, "machine_trim": METALS, "mug": FOODS, "mug_drink": DRINKS}),
        disabled_bodies=disabled_shapes(rng, shift, "mug", ("round",), ("square",)),
    )  # fmt: skip


def basket_scene(rng, shift):
    """A can and a box side by side, a basket behind them, and which of the two to put in."""
    sides = [Placement("table", *draw_place(rng, shift, places, (-0.12, -0.02), TURNS)) for places in (LEFTS, RIGHTS)]
    can, box = sides[::-1] if draw_one(rng, (False, True)) else sides
    return Scene(
        pose={"basket": draw_place(rng, shift, SPOTS, (0.16, 0.22), YAWS)}, choice=draw_one(rng, ("can", "box")),
        loose={"can": can, "box": box}, color=paint(rng, shift, {"basket": WOODS, "can": FOODS, "box": BLUES}),
        disabled_bodies=disabled_shapes(rng, shift, "can", ("can",), ("jar",))
        + disabled_shapes(rng, shift, "box", ("carton",), ("cube",)),
    )  # fmt: skip


def moved(thing, region):
    """The goal that an object stands in a region and the hand has left it: to knock it over or down is not enough."""
    return lambda s: s.inside(region, thing) and s.upright(thing) and s.away(f"{thing}_grip")


def carry(thing, place, region):
    """The recipe that picks an object up and puts it down at a place within a region; again if it fell on the way."""

    def recipe(s):
        while not (s.inside(region, thing) and s.upright(thing)):
            yield from pick(s, thing, like=place)
            yield from put(s, thing, place)

    return recipe


def named_is_in(s):
    """The object that the prompt names is in the basket, the other is not, and the hand is away."""
    other = "box" if s.choice == "can" else "can"
    return moved(s.choice, "basket_inside")(s) and not s.inside("basket_inside", other)


def carry_named(s):
    """Put the object that the prompt names into the basket."""
    yield from carry(s.choice, "basket_put", "basket_inside")(s)


def food():
    """The object of the kitchen tasks."""
    return goods("food", SEEN_SHAPES + UNSEEN_SHAPES)


# Simpler than RoboCasa's: one object of a simple shape and no others around it, fixtures of boxes that stand on the
# table, doors open; "the gripper is away" means 5 cm from where it held the object instead of 25.
TASKS = [
    Task(  # a shelf 11 cm above the counter instead of a wall cabinet
        name="PnPCabToCounter", prompt="take the food out of the cupboard and put it on the counter", family="place",
        horizon=200, fixtures=lambda: [fixtures.cupboard(), food()], build=cupboard_scene,
        goal=moved("food", "cupboard_counter"), recipe=carry("food", "cupboard_counter_put", "cupboard_counter"),
    ),
    Task(  # no plate inside the oven
        name="PnPCounterToMicrowave", prompt="put the food in the microwave", family="place", horizon=200,
        fixtures=lambda: [fixtures.microwave(), food()], build=microwave_scene,
        goal=moved("food", "microwave_cavity"), recipe=carry("food", "microwave_put", "microwave_cavity"),
    ),
    Task(
        name="PnPCounterToStove", prompt="put the food in the pan on the stove", family="place", horizon=200,
        fixtures=lambda: [fixtures.stove(), fixtures.pan(), food()], build=stove_scene,
        goal=moved("food", "pan_inside"), recipe=carry("food", "pan_put", "pan_inside"),
    ),
    Task(  # a basin on the table, 6 cm deep
        name="PnPSinkToCounter", prompt="take the food out of the sink and put it on the plate", family="place",
        horizon=200, fixtures=lambda: [fixtures.sink(), fixtures.plate(), food()], build=sink_scene,
        goal=moved("food", "plate_inside"), recipe=carry("food", "plate_put", "plate_inside"),
    ),
    Task(  # the mug is held by its body, not by its handle
        name="CoffeeServeMug", prompt="take the mug from the coffee machine and put it on the counter", family="place",
        horizon=200, fixtures=lambda: [fixtures.coffee_machine(), mug("mug")], build=coffee_scene,
        goal=moved("mug", "machine_counter"), recipe=carry("mug", "machine_counter_put", "machine_counter"),
    ),
    Task(  # the real robot's: two objects, so that the prompt matters
        name="PickAndPlace", prompt="put the {choice} in the basket", family="place", horizon=200,
        choices=("can", "box"),
        fixtures=lambda: [fixtures.basket(), goods("can", ("can", "jar")), goods("box", ("carton", "cube"))],
        build=basket_scene, goal=named_is_in, recipe=carry_named,
    ),
]
