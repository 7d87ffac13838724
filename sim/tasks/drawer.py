"""The drawer family: push a drawer shut, or pull it open by its handle."""

from collections.abc import Iterator

import numpy as np

from sim.experts import CLOSED, OPEN, PULLING, PUSHING, approach, drive, grasp, reach, release, retreat
from sim.fixtures import Fixture, drawer
from sim.task import Scene, State, Task, draw, draw_color, is_unseen

HANDLE, PUSH, JOINT = "drawer_handle", "drawer_push", "drawer_slide"
SHUT, WIDE = 0.04, 0.93  # the goal: the joint's fraction below, above which a drawer counts as shut, open
MARGIN = 0.02  # the expert goes this much further

PLACES, UNSEEN_PLACES = ((-0.10, 0.02),), ((-0.16, -0.12), (0.04, 0.08))  # x of the chest
DEPTHS = (0.25, 0.30)  # y of the chest
YAWS = (-0.15, 0.15)

CASES = ((0.80, 0.62, 0.42), (0.93, 0.92, 0.88), (0.55, 0.38, 0.26))  # pine, white, walnut
UNSEEN_CASES = ((0.35, 0.50, 0.38), (0.30, 0.32, 0.50))
FRONTS = ((0.90, 0.75, 0.52), (0.35, 0.55, 0.80), (0.88, 0.45, 0.35))
UNSEEN_FRONTS = ((0.50, 0.75, 0.40), (0.70, 0.50, 0.80))
HANDLES = ((0.20, 0.20, 0.22), (0.72, 0.70, 0.66))
UNSEEN_HANDLES = ((0.90, 0.75, 0.20), (0.10, 0.45, 0.45))


def fixtures() -> list[Fixture]:
    """The one chest of this family."""
    return [drawer("drawer")]


def scene(rng: np.random.Generator, shift: str, opened: tuple[float, float]) -> Scene:
    """A chest on the table, its drawer pulled out by a fraction within `opened`."""
    elsewhere, other = is_unseen(shift, "location"), is_unseen(shift, "objects")
    x = draw(rng, *(UNSEEN_PLACES if elsewhere else PLACES))
    return Scene(
        pose={"drawer": (x, draw(rng, DEPTHS), draw(rng, YAWS))},
        joint={JOINT: draw(rng, opened)},
        color={
            "drawer_case": draw_color(rng, UNSEEN_CASES if other else CASES),
            "drawer_front": draw_color(rng, UNSEEN_FRONTS if other else FRONTS),
            "drawer_handle": draw_color(rng, UNSEEN_HANDLES if other else HANDLES),
        },
        absent=("drawer_bar",) if other else ("drawer_knob",),
    )


def push_shut(s: State) -> Iterator[np.ndarray]:
    """Bring the closed fingers in front of the handle and push until the drawer is shut."""
    while s.joint(JOINT) > SHUT:
        yield from approach(s, PUSH, gripper=CLOSED)
        yield from reach(s, PUSH, gripper=CLOSED)
        yield from drive(s, PUSH, JOINT, to=SHUT - MARGIN, speed=PUSHING)


def pull_open(s: State) -> Iterator[np.ndarray]:
    """Grasp the handle, pull until the drawer is open, let go, draw back; again if the hand slipped."""
    while s.joint(JOINT) < WIDE:
        yield from approach(s, HANDLE, gripper=OPEN)
        yield from reach(s, HANDLE, gripper=OPEN)
        yield from grasp(s)
        yield from drive(s, HANDLE, JOINT, to=WIDE + MARGIN, speed=PULLING)
        yield from release(s)
        yield from retreat(s)


TASKS = [
    Task(
        name="CloseDrawer", prompt="close the drawer", family="drawer", horizon=120, fixtures=fixtures,
        build=lambda rng, shift: scene(rng, shift, opened=(0.6, 1.0)),
        goal=lambda s: s.joint(JOINT) < SHUT, recipe=push_shut,
    ),
    Task(
        name="OpenDrawer", prompt="open the drawer", family="drawer", horizon=200, fixtures=fixtures,
        build=lambda rng, shift: scene(rng, shift, opened=(0.0, 0.2)),
        goal=lambda s: s.joint(JOINT) > WIDE, recipe=pull_open,
    ),
]
