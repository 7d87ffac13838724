"""The drawer family: push a drawer shut, or pull it open by its handle."""

from sim.experts import pull, push
from sim.fixtures import drawer
from sim.task import HANDLES, Task, fixture_scene

JOINT = "drawer_slide"
SHUT, WIDE = 0.04, 0.93  # the goal: the joint's fraction below, above which a drawer counts as shut, open
MARGIN = 0.02  # the expert aims this much further

PLACES = ((-0.10, 0.02),), ((-0.16, -0.12), (0.04, 0.08))  # x of the chest: training, unseen
DEPTHS, YAWS = (0.25, 0.30), (-0.15, 0.15)  # y and yaw of the chest
CASES = ((0.80, 0.62, 0.42), (0.93, 0.92, 0.88), (0.55, 0.38, 0.26)), ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
FRONTS = ((0.90, 0.75, 0.52), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35)), ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))
COLORS = {"drawer_case": CASES, "drawer_front": FRONTS, "drawer_handle": HANDLES}  # training, unseen


def scene(opened):
    """Scenes of a chest on the table, its drawer open by a fraction within `opened`."""
    place = (PLACES, DEPTHS, YAWS)
    return fixture_scene("drawer", place, COLORS, ["drawer"], ("bar", "knob"), {JOINT: opened})


TASKS = [
    Task("CloseDrawer", "close the drawer", family="drawer", horizon=120, fixtures=lambda: [drawer()],
         build=scene(opened=(0.6, 1.0)), goal=lambda s: s.joint(JOINT) < SHUT,
         recipe=lambda s: push(s, "drawer_push", JOINT, to=SHUT, margin=MARGIN)),
    Task("OpenDrawer", "open the drawer", family="drawer", horizon=200, fixtures=lambda: [drawer()],
         build=scene(opened=(0.0, 0.2)), goal=lambda s: s.joint(JOINT) > WIDE,
         recipe=lambda s: pull(s, "drawer_handle", JOINT, to=WIDE, margin=MARGIN)),
]  # fmt: skip
