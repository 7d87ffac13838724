"""A task (Task), one of its episodes as data (Scene), and what goals and experts see of the simulation (State)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

SHIFTS = ("none", "location", "objects", "background", "all")  # what differs from the training scenes
CAMERAS = ("front", "side", "wrist")  # sim/appearance.py places them
GRIP_SITE = "gripper0_right_grip_site"  # robosuite's name for the point between the fingertips
SLIDES, ROUND = 2, 5  # mujoco's numbers of a sliding joint and of a cylinder
STRIDE, STRIDE_TURN = 0.05, 0.4  # metres and radians by which a hand aims ahead of what it moves
FLOOR_SLACK = 0.01  # metres that a body may lie below a region's floor, since contacts are soft


class Pose(NamedTuple):
    """A frame in the world: pos (3,) in metres, rot (3, 3) with the frame's axes as columns."""

    pos: np.ndarray
    rot: np.ndarray


def _pose(element):
    return Pose(element.xpos.copy(), element.xmat.reshape(3, 3).copy())


def rotation(vector):
    """The matrix (3, 3) that turns about a vector by its length in radians (Rodrigues' formula)."""
    # not scipy's, which differs in the last bit: contacts amplify that, and recordings would change
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


class State:
    """A read-only view of the simulation: what goals and experts may use. A `site` is the pose that a hand takes."""

    def __init__(self, model, data):
        self._model, self._data = model, data
        self.choice = ""  # what this episode's prompt asks for, one of the task's choices

    def site(self, name):
        """The pose of a site, which a hand takes to use a fixture."""
        return _pose(self._data.site(name))

    def body(self, name):
        """The pose of a body; an object's origin is the middle of its underside, z up when it stands."""
        return _pose(self._data.body(name))

    def joint(self, name):
        """A joint's position as a fraction of its range: 0 at the lower end, 1 at the upper end."""
        low, high = self._model.joint(name).range
        return float((self._data.joint(name).qpos[0] - low) / (high - low))

    def ahead(self, site, joint, way):
        """A site's pose after its joint moved on by a stride, up (way 1) or down (way -1)."""
        pose, moved = self.site(site), self._data.joint(joint)
        axis = way * moved.xaxis
        if self._model.joint(joint).type[0] == SLIDES:
            return Pose(pose.pos + STRIDE * axis, pose.rot)
        turn = rotation(STRIDE_TURN * axis)
        return Pose(moved.xanchor + turn @ (pose.pos - moved.xanchor), turn @ pose.rot)

    def inside(self, region, body):
        """Whether a body's origin lies in a region, a site that mjcf.region makes: a box or a cylinder."""
        frame, site = self.site(region), self._model.site(region)
        x, y, z = frame.rot.T @ (self.body(body).pos - frame.pos)
        if site.type[0] == ROUND:
            radius, high, _ = site.size
            return bool(np.hypot(x, y) < radius and -FLOOR_SLACK < z < high)
        wide, deep, high = site.size
        return bool(abs(x) < wide and abs(y) < deep and -FLOOR_SLACK < z < high)

    def upright(self, body):
        """Whether a body stands within 0.25 rad of straight up."""
        return bool(self.body(body).rot[2, 2] > np.cos(0.25))

    def away(self, site):
        """Whether the hand has let go: it is more than 5 cm away from a site."""
        return bool(np.linalg.norm(self.hand.pos - self.site(site).pos) > 0.05)

    def placed(self, thing, region):
        """Whether an object stands upright in a region, and the hand is away from its grip."""
        return self.inside(region, thing) and self.upright(thing) and self.away(f"{thing}_grip")

    @property
    def hand(self):
        """The pose of the point between the fingertips: x along the fingers' travel, z out of the hand."""
        return self.site(GRIP_SITE)

    @property
    def gripper(self):
        """Gap between the fingers: metres, 0 closed to 0.08 open."""
        left, right = (self._data.joint(f"gripper0_right_finger_joint{i}").qpos[0] for i in (1, 2))
        return float(left - right)


class Placement(NamedTuple):
    """Where a loose object starts: its origin in the frame of a site, or of the table's top, "table"."""

    on: str
    x: float  # metres
    y: float
    yaw: float = 0.0  # radians
    roll: float = 0.0  # about the object's x axis, before yaw: -pi/2 lays it down with its top towards +y
    z: float = 0.001


@dataclass(frozen=True)
class Scene:
    """One episode before its first step. A colour is three numbers in [0, 1]."""

    pose: dict[str, tuple[float, float, float]]  # fixture -> x, y (metres, world) and yaw (radians)
    loose: dict[str, Placement] = field(default_factory=dict)  # loose object -> where it starts
    joint: dict[str, float] = field(default_factory=dict)  # joint -> fraction of its range
    choice: str = ""  # what the prompt asks for, one of the task's choices
    color: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # material -> colour
    disabled_bodies: tuple[str, ...] = ()  # invisible and without contacts


@dataclass(frozen=True)
class Task:
    """A task: its scenes, its goal and its scripted expert."""

    name: str
    prompt: str  # the policy's instruction; "{choice}" stands for what differs between episodes
    family: str
    horizon: int  # longest episode, in control steps of 1/20 s
    fixtures: Callable  # () -> a list of MJCF bodies, built once per environment
    build: Callable  # (rng, shift) -> Scene, one episode
    goal: Callable  # (State) -> bool, pure; success requires that it holds for some steps
    recipe: Callable  # (State) -> the expert's script, a generator of (7,) actions
    choices: tuple[str, ...] = ()  # values of "{choice}", each as likely as the others

    @property
    def any_prompt(self):
        """The prompt with all its choices, to print: "turn the sink spout to the left|right"."""
        return self.prompt.format(choice="|".join(self.choices))


# ---- sampling scenes: the same number of draws under every shift, so that the scenes of a seed stay paired


def is_unseen(shift, what):
    """Whether a shift changes `what`, one of SHIFTS."""
    if shift not in SHIFTS:
        raise ValueError(f"unknown shift {shift!r}: choose from {', '.join(SHIFTS)}")
    return shift in (what, "all")


def sample(rng, *intervals):
    """A number, uniform over a union of intervals (low, high)."""
    at = rng.uniform() * sum(high - low for low, high in intervals)
    for low, high in intervals:
        if at < high - low:
            return low + at
        at -= high - low
    return intervals[-1][1]


def sample_one(rng, options):
    """One of some options, each as likely as the others."""
    return options[int(rng.uniform() * len(options))]


def sample_color(rng, palette, jitter=0.06):
    """One of a palette's colours, lighter or darker by up to `jitter`."""
    base = sample_one(rng, palette)
    shade = rng.uniform(-jitter, jitter)
    return tuple(min(max(part + shade, 0.0), 1.0) for part in base)


def sample_place(rng, shift, places, depths, yaws):
    """x, y and yaw of an object on the table. places: intervals of x, of training and unseen."""
    return sample(rng, *places[is_unseen(shift, "location")]), sample(rng, depths), sample(rng, yaws)


def paint(rng, shift, palettes):
    """A colour for each material, from the one of its (training, unseen) palettes that the shift names."""
    unseen = is_unseen(shift, "objects")
    return {material: sample_color(rng, palette[unseen]) for material, palette in palettes.items()}


def disabled_bodies(shift, parts, shapes):
    """The bodies `<part>_<shape>` that take no part: of two shapes the unseen in training, the seen under `objects`."""
    seen, unseen = shapes
    return tuple(f"{part}_{seen if is_unseen(shift, 'objects') else unseen}" for part in parts)


def fixture_scene(name, place, palettes, parts, shapes, joints, choices=()):
    """Task.build for a fixture. place: see sample_place; parts, shapes: see disabled_bodies; joints: {joint: range}."""

    def build(rng, shift):
        pose = {name: sample_place(rng, shift, *place)}
        joint = {joint: sample(rng, opened) for joint, opened in joints.items()}
        choice = sample_one(rng, choices) if choices else ""
        return Scene(pose, joint=joint, choice=choice, color=paint(rng, shift, palettes),
                     disabled_bodies=disabled_bodies(shift, parts, shapes))  # fmt: skip

    return build


# Palettes of fixtures, each (training, unseen)
WHITES = ((0.93, 0.93, 0.91), (0.80, 0.82, 0.85)), ((0.62, 0.72, 0.60), (0.78, 0.66, 0.48))
DARKS = ((0.18, 0.18, 0.20), (0.30, 0.30, 0.33)), ((0.42, 0.22, 0.20), (0.16, 0.24, 0.42))
METALS = ((0.35, 0.37, 0.40), (0.50, 0.48, 0.45)), ((0.75, 0.58, 0.20), (0.62, 0.34, 0.22))
HANDLES = ((0.20, 0.20, 0.22), (0.72, 0.70, 0.66)), ((0.90, 0.75, 0.20), (0.10, 0.45, 0.45))
