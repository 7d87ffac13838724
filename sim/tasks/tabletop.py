"""The tabletop family: pour candies into a cup, stand a bottle up, stack two cups."""

import math

from sim.experts import CLOSED, OPEN, STAND_OFF, VIA, lift, reach, retreat, stay
from sim.objects import BOTTLE, CANDY, Beaker, bottle, bowl, candy, cup, spot
from sim.task import Placement, Scene, Task, disabled_bodies, is_unseen, paint, sample, sample_place

CARRY, INSERT, POUR = 0.5, 0.35, 0.2  # caps on the action
CLEAR = 0.12  # metres of lifting a cup, over the rim of the other

# x of what is grasped, and of its partner: training, unseen
PLACES = ((-0.10, 0.02),), ((-0.15, -0.12), (0.04, 0.08))
LYING_PLACES = PLACES[0], ((0.04, 0.10),)  # nearer to the robot the hand cannot turn far enough

# Hues that no table has: what is moved is warm, its partner cold, candies are pale
MOVED = ((0.85, 0.20, 0.15), (0.95, 0.50, 0.10), (0.80, 0.15, 0.45)), ((0.95, 0.80, 0.15), (0.70, 0.45, 0.85))
PARTNER = ((0.15, 0.35, 0.75), (0.10, 0.50, 0.40), (0.45, 0.30, 0.70)), ((0.30, 0.75, 0.75), (0.90, 0.90, 0.85))
SWEETS = ((1.0, 0.95, 0.80), (0.45, 0.90, 1.0), (0.70, 1.0, 0.40)), ((0.15, 0.15, 0.20), (0.45, 0.10, 0.10))


def bring(s, thing, part, over, to, by=STAND_OFF):
    """Grasp an object, lift it by some metres, bring a part of it over its place, then slowly to it."""
    tool = f"{thing}_{part}"
    yield from reach(s, f"{thing}_above", gripper=OPEN, short=STAND_OFF, via=VIA)
    yield from reach(s, f"{thing}_above", gripper=OPEN, speed=CARRY)  # aligned first, since the fingers hardly clear it
    yield from reach(s, f"{thing}_grip", gripper=OPEN, speed=CARRY)
    yield from stay(s, CLOSED, steps=12)
    yield from lift(s, by=by, speed=CARRY)
    yield from reach(s, over, CLOSED, tool=tool, speed=CARRY)
    yield from reach(s, to, CLOSED, tool=tool, speed=INSERT)


def set_down(s, thing, region, over, to, by=STAND_OFF):
    """Bring an object's foot to its place, open the fingers and draw back; repeat until it stands in a region."""
    while not s.placed(thing, region):
        yield from bring(s, thing, "foot", over, to, by)
        yield from stay(s, OPEN, steps=12)
        yield from retreat(s)


# ---- MMsToCup. Differs: the original scoops candies out of a bowl. Here ten balls start in a cup that the hand holds,
# the cup to be filled is wide and fixed, and half of the balls are enough

CUP_SHAPES = {"plain": Beaker(0.08, 0.020, 0.027, 0.030), "mug": Beaker(0.08, 0.025, 0.027, 0.024)}
BOWL_SHAPES = {"plain": Beaker(0.05, 0.042, 0.055, 0.006), "mug": Beaker(0.05, 0.052, 0.055, 0.006)}
CANDIES = tuple(f"candy{i}" for i in range(10))


def pour_scene(rng, shift):
    """The candies lie in the cup, behind the bowl."""
    places = PLACES[is_unseen(shift, "location")]
    x, y = sample(rng, *places), sample(rng, (0.09, 0.17))
    loose, radius = {"cup": Placement("table", x, y)}, CANDY["big" if is_unseen(shift, "objects") else "small"]
    for i, name in enumerate(CANDIES):  # two layers of five, 13 mm from the cup's axis, 32 mm above the table
        turn = 2 * math.pi * i / 5 + i // 5
        height = 0.032 + radius + i // 5 * 2 * radius
        loose[name] = Placement("table", x + 0.013 * math.cos(turn), y + 0.013 * math.sin(turn), z=height)
    color = paint(rng, shift, {"cup": MOVED, "bowl": PARTNER})
    pose = {"bowl": (sample(rng, *places), sample(rng, (-0.10, -0.03)), 0.0)}
    color |= paint(rng, shift, dict.fromkeys(CANDIES, SWEETS))
    disabled = disabled_bodies(shift, ("cup", "bowl"), CUP_SHAPES) + disabled_bodies(shift, CANDIES, CANDY)
    return Scene(pose, loose, color=color, disabled_bodies=disabled)


def pour(s):
    """Pick the cup up, bring its lip over the bowl and tip it slowly; only once, since spilt candies stay spilt."""
    yield from bring(s, "cup", "lip", over="bowl_over", to="bowl_tipped", by=CLEAR)
    yield from reach(s, "bowl_poured", CLOSED, tool="cup_lip", speed=POUR)
    yield from stay(s, CLOSED, steps=15)  # while the candies fall


# ---- UprightObject. Differs: the original's bottle lies in any direction. This one lies within 0.5 rad of the y axis,
# its top towards -y, so that one turn of the wrist stands it up


def bottle_scene(rng, shift):
    """A bottle lies on the table."""
    pose = {"spot": sample_place(rng, shift, LYING_PLACES, (0.0, 0.12), (-0.5, 0.5))}
    loose = {"bottle": Placement("spot_lies", 0, 0, roll=math.pi / 2, z=BOTTLE + 0.001)}  # its top towards -y
    return Scene(pose, loose, color=paint(rng, shift, {"bottle": MOVED, "bottle_cap": PARTNER}),
                 disabled_bodies=disabled_bodies(shift, ["bottle"], ("round", "square")))  # fmt: skip


# ---- StackCups. Differs: the other cup is wider and has a thick floor, so that nothing jams

STACK_SHAPES = {"plain": Beaker(0.08, 0.016, 0.027, 0.032), "mug": Beaker(0.08, 0.020, 0.027, 0.036)}
OUTER_SHAPES = {"plain": Beaker(0.08, 0.027, 0.040, 0.032), "mug": Beaker(0.08, 0.033, 0.040, 0.032)}


def stack_scene(rng, shift):
    """Two cups, the one to be moved nearer to the front camera."""
    places = PLACES[is_unseen(shift, "location")]
    cup = Placement("table", sample(rng, *places), sample(rng, (-0.10, -0.02)))
    outer = Placement("table", sample(rng, *places), sample(rng, (0.10, 0.18)))
    return Scene({}, {"cup": cup, "outer": outer}, color=paint(rng, shift, {"cup": MOVED, "outer": PARTNER}),
                 disabled_bodies=disabled_bodies(shift, ("cup", "outer"), STACK_SHAPES))  # fmt: skip


TASKS = [
    Task("MMsToCup", "pour the candies into the empty cup", family="tabletop", horizon=250, build=pour_scene,
         fixtures=lambda: [cup("cup", CUP_SHAPES), bowl(BOWL_SHAPES), *(candy(name) for name in CANDIES)],
         goal=lambda s: 2 * sum(s.inside("bowl_inside", name) for name in CANDIES) >= len(CANDIES), recipe=pour),
    Task("UprightObject", "stand the bottle up", family="tabletop", horizon=220, build=bottle_scene,
         fixtures=lambda: [bottle(), spot()], goal=lambda s: s.placed("bottle", "spot_table"),
         recipe=lambda s: set_down(s, "bottle", "spot_table", over="spot_over", to="spot_stand")),
    Task("StackCups", "stack the cup into the other cup", family="tabletop", horizon=220, build=stack_scene,
         fixtures=lambda: [cup("cup", STACK_SHAPES), cup("outer", OUTER_SHAPES)],
         goal=lambda s: s.placed("cup", "outer_inside") and s.upright("outer"),
         recipe=lambda s: set_down(s, "cup", "outer_inside", over="outer_over", to="outer_nest", by=CLEAR)),
]  # fmt: skip
