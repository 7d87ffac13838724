"""The drawer and the door family: open or close a drawer, or both doors of a cabinet."""

from sim.experts import lift, pull, push
from sim.fixtures import cabinet, drawer
from sim.task import HANDLES, Task, fixture_scene

DRAWER = "drawer_slide"  # a joint
DOORS = ("cabinet_left", "cabinet_right")  # joints, in the expert's order; a door's parts are named after its joint
# The goals: the joint's fraction below which it counts as shut, above which as open. The experts aim MARGIN further
DRAWER_SHUT, DRAWER_WIDE, DRAWER_MARGIN = 0.04, 0.93, 0.02
DOOR_SHUT, DOOR_WIDE, DOOR_MARGIN = 0.05, 0.90, 0.03

# x of the fixture (training, unseen), its y and its yaw; below, the colours of its parts (training, unseen)
DRAWER_PLACE = (((-0.10, 0.02),), ((-0.16, -0.12), (0.04, 0.08))), (0.25, 0.30), (-0.15, 0.15)
CABINET_PLACE = (((-0.075, 0.03),), ((-0.105, -0.095), (0.05, 0.07))), (0.26, 0.32), (-0.12, 0.12)
CASES = ((0.80, 0.62, 0.42), (0.93, 0.92, 0.88), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
FRONTS = ((0.90, 0.75, 0.52), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35)), ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))
WOODS = ((0.80, 0.62, 0.42), (0.60, 0.66, 0.70), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
PAINTS = ((0.85, 0.68, 0.20), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35)), ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))


def drawer_scene(opened):
    """Scenes of a chest on the table, its drawer open by a fraction within `opened`."""
    colors = {"drawer_case": CASES, "drawer_front": FRONTS, "drawer_handle": HANDLES}
    return fixture_scene("drawer", DRAWER_PLACE, colors, ["drawer"], ("bar", "knob"), {DRAWER: opened})


def cabinet_scene(opened):
    """Scenes of a cabinet on the table, each of its doors open by a fraction within `opened`."""
    colors = {"cabinet_case": WOODS, "cabinet_door": PAINTS, "cabinet_handle": HANDLES}
    return fixture_scene("cabinet", CABINET_PLACE, colors, DOORS, ("bar", "plate"), dict.fromkeys(DOORS, opened))


def swing(s, undone, to):
    """Put the closed fingers between a door and its handle, swing it and lift the hand; the left door first."""
    while doors := [door for door in DOORS if undone(s.joint(door))]:
        yield from push(s, f"{doors[0]}_hook", doors[0], to, DOOR_MARGIN, leave=lift)


TASKS = [
    Task("CloseDrawer", "close the drawer", family="drawer", horizon=120, fixtures=lambda: [drawer()],
         build=drawer_scene(opened=(0.6, 1.0)), goal=lambda s: s.joint(DRAWER) < DRAWER_SHUT,
         recipe=lambda s: push(s, "drawer_push", DRAWER, to=DRAWER_SHUT, margin=DRAWER_MARGIN)),
    Task("OpenDrawer", "open the drawer", family="drawer", horizon=200, fixtures=lambda: [drawer()],
         build=drawer_scene(opened=(0.0, 0.2)), goal=lambda s: s.joint(DRAWER) > DRAWER_WIDE,
         recipe=lambda s: pull(s, "drawer_handle", DRAWER, to=DRAWER_WIDE, margin=DRAWER_MARGIN)),
    Task("CloseDoubleDoor", "close both cabinet doors", family="door", horizon=250, fixtures=lambda: [cabinet()],
         build=cabinet_scene(opened=(0.5, 0.8)), goal=lambda s: all(s.joint(door) < DOOR_SHUT for door in DOORS),
         recipe=lambda s: swing(s, lambda opened: opened > DOOR_SHUT, to=DOOR_SHUT)),
    Task("OpenDoubleDoor", "open both cabinet doors", family="door", horizon=300, fixtures=lambda: [cabinet()],
         build=cabinet_scene(opened=(0.0, 0.1)), goal=lambda s: all(s.joint(door) > DOOR_WIDE for door in DOORS),
         recipe=lambda s: swing(s, lambda opened: opened < DOOR_WIDE, to=DOOR_WIDE)),
]  # fmt: skip
