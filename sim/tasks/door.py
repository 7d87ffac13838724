"""The door family: open or close both doors of a cabinet, with the fingers between a door and its handle."""

from sim.experts import lift, push
from sim.fixtures import cabinet
from sim.task import HANDLES, Task, fixture_scene

DOORS = ("cabinet_left", "cabinet_right")  # joints, in the expert's order; a door's parts are named after its joint
SHUT, WIDE = 0.05, 0.90  # the goal: the joint's fraction below, above which a door counts as shut, open
MARGIN = 0.03  # the expert aims this much further

PLACES = ((-0.075, 0.03),), ((-0.105, -0.095), (0.05, 0.07))  # x of the cabinet: training, unseen
DEPTHS, YAWS = (0.26, 0.32), (-0.12, 0.12)  # y and yaw of the cabinet
WOODS = ((0.80, 0.62, 0.42), (0.60, 0.66, 0.70), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
PAINTS = ((0.85, 0.68, 0.20), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35)), ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))
COLORS = {"cabinet_case": WOODS, "cabinet_door": PAINTS, "cabinet_handle": HANDLES}  # training, unseen


def scene(opened):
    """Scenes of a cabinet on the table, each of its doors open by a fraction within `opened`."""
    place = (PLACES, DEPTHS, YAWS)
    return fixture_scene("cabinet", place, COLORS, DOORS, ("bar", "plate"), dict.fromkeys(DOORS, opened))


def swing(s, undone, to):
    """Put the closed fingers between a door and its handle, swing it and lift the hand; the left door first."""
    while doors := [door for door in DOORS if undone(s.joint(door))]:
        yield from push(s, f"{doors[0]}_hook", doors[0], to, MARGIN, leave=lift)


TASKS = [
    Task("CloseDoubleDoor", "close both cabinet doors", family="door", horizon=250, fixtures=lambda: [cabinet()],
         build=scene(opened=(0.5, 0.8)), goal=lambda s: all(s.joint(door) < SHUT for door in DOORS),
         recipe=lambda s: swing(s, lambda opened: opened > SHUT, to=SHUT)),
    Task("OpenDoubleDoor", "open both cabinet doors", family="door", horizon=300, fixtures=lambda: [cabinet()],
         build=scene(opened=(0.0, 0.1)), goal=lambda s: all(s.joint(door) > WIDE for door in DOORS),
         recipe=lambda s: swing(s, lambda opened: opened < WIDE, to=WIDE)),
]  # fmt: skip
