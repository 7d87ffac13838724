"""The door family: open both doors of a cabinet, or shut both. Fingers between a door and its handle do either."""

from sim.experts import lift, push
from sim.fixtures import cabinet
from sim.palettes import HANDLES
from sim.task import Scene, Task, disabled_bodies, draw, draw_place, paint

DOORS = ("cabinet_left", "cabinet_right")  # joints, in the expert's order; a door's parts are named after its joint
SHUT, WIDE = 0.05, 0.90  # the goal: the joint's fraction below, above which a door counts as shut, open
MARGIN = 0.03  # the expert goes this much further

PLACES = ((-0.075, 0.03),), ((-0.105, -0.095), (0.05, 0.07))  # x of the cabinet: training, unseen
DEPTHS = (0.26, 0.32)  # y of the cabinet
YAWS = (-0.12, 0.12)
WOODS = ((0.80, 0.62, 0.42), (0.60, 0.66, 0.70), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
PAINTS = ((0.85, 0.68, 0.20), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35)), ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))
COLORS = {"cabinet_case": WOODS, "cabinet_door": PAINTS, "cabinet_handle": HANDLES}  # training, unseen


def scene(rng, shift, opened):
    """A cabinet on the table, each of its doors open by a fraction within `opened`."""
    bars, plates = (tuple(f"{door}_{kind}" for door in DOORS) for kind in ("bar", "plate"))
    return Scene(
        pose={"cabinet": draw_place(rng, shift, PLACES, DEPTHS, YAWS)},
        joint={door: draw(rng, opened) for door in DOORS},
        color=paint(rng, shift, COLORS), disabled_bodies=disabled_bodies(shift, bars, plates),
    )  # fmt: skip


def swing(s, door, to):
    """Put the closed fingers between a door and its handle, take it to a fraction of its range, and come up."""
    yield from push(s, f"{door}_hook", door, to)
    yield from lift(s)


def push_shut(s):
    """Push the left door shut, then the right one; again what did not shut."""
    while undone := [door for door in DOORS if s.joint(door) > SHUT]:
        yield from swing(s, undone[0], to=SHUT - MARGIN)


def pull_open(s):
    """Pull the left door open, then the right one; again what did not open."""
    while undone := [door for door in DOORS if s.joint(door) < WIDE]:
        yield from swing(s, undone[0], to=WIDE + MARGIN)


TASKS = [
    Task(
        name="CloseDoubleDoor", prompt="close both cabinet doors", family="door", horizon=250,
        fixtures=lambda: [cabinet()], build=lambda rng, shift: scene(rng, shift, opened=(0.5, 0.8)),
        goal=lambda s: all(s.joint(door) < SHUT for door in DOORS), recipe=push_shut,
    ),
    Task(
        name="OpenDoubleDoor", prompt="open both cabinet doors", family="door", horizon=300,
        fixtures=lambda: [cabinet()], build=lambda rng, shift: scene(rng, shift, opened=(0.0, 0.1)),
        goal=lambda s: all(s.joint(door) > WIDE for door in DOORS), recipe=pull_open,
    ),
]
