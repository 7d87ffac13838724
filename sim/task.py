"""What a task is: a record `Task`, the plain data of one episode `Scene`, and a read-only view `State`.

Nothing here imports a simulator: a scene is numbers that sim/env.py applies, a goal reads a State.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from sim.fixtures import Fixture

SHIFTS = ("none", "location", "objects", "background", "all")  # what differs from the training scenes
GRIP_SITE = "gripper0_right_grip_site"  # robosuite's name for the point between the fingertips
FINGER_JOINTS = ("gripper0_right_finger_joint1", "gripper0_right_finger_joint2")


class Pose(NamedTuple):
    """A frame in the world: pos (3,) in metres, rot (3, 3) with the frame's axes as columns."""

    pos: np.ndarray
    rot: np.ndarray


class State:
    """A read-only view of the running simulation: everything a goal or an expert may look at."""

    def __init__(self, model, data):
        self._model = model
        self._data = data

    def site(self, name: str) -> Pose:
        """Where a fixture's named site is: the pose a hand must take to use it."""
        site = self._data.site(name)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def joint(self, name: str) -> float:
        """How far a joint is along its range: 0 at the lower end, 1 at the upper end."""
        low, high = self._model.joint(name).range
        return float((self._data.joint(name).qpos[0] - low) / (high - low))

    def axis(self, joint: str) -> np.ndarray:
        """The world direction, a unit vector (3,), in which a sliding joint grows."""
        return self._data.joint(joint).xaxis.copy()

    @property
    def hand(self) -> Pose:
        """The point between the fingertips: x along the fingers' travel, z out of the hand."""
        return self.site(GRIP_SITE)

    @property
    def gripper(self) -> float:
        """Gap between the fingers: metres, 0 closed to 0.08 open."""
        left, right = (self._data.joint(name).qpos[0] for name in FINGER_JOINTS)
        return float(left - right)


RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Background:
    """How everything that is not part of the task looks; tints multiply a texture's colour."""

    table: str  # one of TABLES below
    table_tint: RGB
    wall_tint: RGB
    floor_tint: RGB
    light: RGB  # colour and strength of the lamp
    light_dir: RGB  # the direction its rays travel


@dataclass(frozen=True)
class Scene:
    """One episode before its first step, as plain data."""

    pose: dict[str, tuple[float, float, float]]  # fixture -> x, y (metres, world) and yaw (radians)
    joint: dict[str, float] = field(default_factory=dict)  # joint -> fraction of its range
    color: dict[str, RGB] = field(default_factory=dict)  # material -> colour
    absent: tuple[str, ...] = ()  # bodies that take no part: not drawn, not touched


@dataclass(frozen=True)
class Task:
    """One row of the table of tasks."""

    name: str
    prompt: str  # the sentence the policy is given
    family: str
    horizon: int  # longest episode, in control steps of 1/20 s
    fixtures: Callable[[], list["Fixture"]]  # the bodies to build, once per environment
    build: Callable[[np.random.Generator, str], Scene]  # (rng, shift) -> one episode's scene
    goal: Callable[[State], bool]  # pure; the environment asks that it holds for a while
    recipe: Callable[[State], Iterator[np.ndarray]]  # the scripted expert, a generator of (7,) actions


def is_unseen(shift: str, what: str) -> bool:
    """Whether a shift changes `what`, one of SHIFTS; ValueError for a shift that does not exist."""
    if shift not in SHIFTS:
        raise ValueError(f"unknown shift {shift!r}: choose from {', '.join(SHIFTS)}")
    return shift in (what, "all")


def draw(rng: np.random.Generator, *intervals: tuple[float, float]) -> float:
    """A number, uniform over a union of intervals; always uses up exactly one draw of the generator."""
    widths = [high - low for low, high in intervals]
    at = rng.uniform() * sum(widths)
    for (low, _), width in zip(intervals, widths, strict=True):
        if at < width:
            return low + at
        at -= width
    return intervals[-1][1]


def draw_color(rng: np.random.Generator, palette: tuple[RGB, ...], jitter: float = 0.06) -> RGB:
    """One of a palette's colours, lighter or darker by up to `jitter`: three numbers in [0, 1]; two draws."""
    base = palette[int(rng.uniform() * len(palette))]
    shade = rng.uniform(-jitter, jitter)
    return tuple(min(max(part + shade, 0.0), 1.0) for part in base)


TABLES = ("light-wood", "ceramic", "cream-plaster")  # textures that come with robosuite
UNSEEN_TABLES = ("dark-wood", "blue-wood", "clay")
WALLS = ((0.95, 0.95, 0.93), (0.88, 0.90, 0.95), (0.95, 0.90, 0.82))
UNSEEN_WALLS = ((0.55, 0.75, 0.60), (0.85, 0.55, 0.50), (0.45, 0.50, 0.75))
FLOORS = ((0.90, 0.90, 0.90), (0.80, 0.78, 0.75))
UNSEEN_FLOORS = ((0.55, 0.40, 0.30), (0.40, 0.50, 0.45))


def draw_background(rng: np.random.Generator, shift: str) -> Background:
    """Table, walls, floor and light of one episode; the unseen ones share nothing with the training ones."""
    unseen = is_unseen(shift, "background")
    tables = UNSEEN_TABLES if unseen else TABLES
    ray = np.array([draw(rng, (-0.7, -0.1)), draw(rng, (0.7, 1.2)), -1.0])  # from behind the front camera
    strength = draw(rng, (0.36, 0.46), (0.85, 0.95)) if unseen else draw(rng, (0.55, 0.75))
    return Background(
        table=tables[int(rng.uniform() * len(tables))],
        table_tint=draw_color(rng, ((0.93, 0.93, 0.93),)),
        wall_tint=draw_color(rng, UNSEEN_WALLS if unseen else WALLS),
        floor_tint=draw_color(rng, UNSEEN_FLOORS if unseen else FLOORS),
        light=(strength, strength, strength),
        light_dir=tuple((ray / np.linalg.norm(ray)).tolist()),
    )
