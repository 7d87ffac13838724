"""Loose objects and vessels, as MJCF bodies of simple shapes.

An object's origin is the middle of its underside, z up when it stands. Its sites are poses for the hand, or tools,
which a hand that holds it brings to other sites. Of its child bodies, one a shape, an episode disables all but one;
they keep their weight, so all masses are small.
"""

import math
import xml.etree.ElementTree as ET
from typing import NamedTuple

from sim.mjcf import ACROSS, body, box, geom, graspable, hand_site, loose_body, region, text


class Beaker(NamedTuple):
    """A round vessel that widens towards its rim: metres, radii measured outside."""

    height: float
    foot: float  # radius at the table
    rim: float  # radius at the top
    floor: float  # thickness: thick, so that a cup stands on another's floor and does not jam in its walls


SIDES = 10  # flat walls of a vessel
WALL = 0.004  # thickness: opening fingers would catch on a thinner one
DROP = 0.008  # metres above its place at which an object is released


def _ring(parent, part, low, high, material):
    """Walls from one (radius, height) to another."""
    slope = math.atan2(high[0] - low[0], high[1] - low[1])
    middle, z = (low[0] + high[0]) / 2 - WALL / 2, (low[1] + high[1]) / 2
    half = (WALL / 2, high[0] * math.tan(math.pi / SIDES), (high[1] - low[1]) / 2 / math.cos(slope))
    for i in range(SIDES):
        cos, sin = math.cos(2 * math.pi * i / SIDES), math.sin(2 * math.pi * i / SIDES)
        wall = box(parent, f"{part}{i}", (middle * cos, middle * sin, z), half, material, mass=0.001)
        wall.set("xyaxes", text((cos * math.cos(slope), sin * math.cos(slope), -math.sin(slope), -sin, cos, 0)))
        graspable(wall, friction="0.9 0.05 0.0001")  # with 1 or more the rim gets stuck below a finger's pad


def _vessels(root, name, shapes):
    """A child body for each Beaker of {kind: shape}, a mug's handle at its -y side -> the first, for the sites."""
    for kind, shape in shapes.items():
        part, half = body(root, f"{name}_{kind}"), shape.floor / 2
        neck = (shape.rim, shape.height - 0.024)  # upright from here, since a sloping part slips out of the fingers
        _ring(part, "wall", (shape.foot, 0.001), neck, name)
        _ring(part, "band", neck, (shape.rim, shape.height), name)
        geom(part, "floor", "cylinder", (0, 0, half), (shape.foot - WALL / 2, half), name, mass=0.04)
        if kind == "mug":
            y, z = -shape.rim - 0.018, shape.height - 0.013
            box(part, "bar", (0, y, z), (0.010, 0.005, 0.013), name, mass=0.002)
            for i, up in enumerate((-0.009, 0.009)):
                box(part, f"arm{i}", (0, y + 0.009, z + up), (0.010, 0.009, 0.004), name, mass=0.001)
    return next(iter(shapes.values()))


def cup(name, shapes):
    """A loose cup in several shapes of equal height: sites `<name>_above` and `_grip`; tools `_foot` and `_lip` (the
    rim's +y side); region `_inside`; for another cup's foot, sites `_over` and `_nest`.
    """
    root = loose_body(name)
    shape = _vessels(root, name, shapes)
    hand_site(root, f"{name}_above", (0, 0, shape.height + 0.02), yaw=ACROSS)
    # just below the rim: the palm must not be in the way of pouring
    hand_site(root, f"{name}_grip", (0, 0, shape.height - 0.004), yaw=ACROSS)
    hand_site(root, f"{name}_foot", (0, 0, 0))
    hand_site(root, f"{name}_lip", (0, shape.rim, shape.height))
    region(root, f"{name}_inside", (0, 0, shape.floor), (shape.foot / 2, shape.foot / 2, 0.02))
    hand_site(root, f"{name}_over", (0, 0, shape.height + 0.03))
    hand_site(root, f"{name}_nest", (0, 0, shape.floor + DROP))
    return root


def bowl(shapes):
    """A wide cup that cannot move: sites bowl_over, bowl_tipped, bowl_poured for a cup's lip; region bowl_inside."""
    root = ET.Element("body", name="bowl")
    shape = _vessels(root, "bowl", shapes)
    tilt = -1.9  # radians: beyond horizontal; the hand is behind the cup, out of the front camera's view
    high, low = shape.height + 0.11, shape.height + 0.045  # height of the lip of an upright and of a tilted cup
    hand_site(root, "bowl_over", (0, 0, high))
    hand_site(root, "bowl_tipped", (0, 0, (high + low) / 2), tilt / 2)
    hand_site(root, "bowl_poured", (0, 0, low), tilt)
    inner = shape.rim - WALL - 0.004  # so that a candy outside that touches the wall is not inside
    region(root, "bowl_inside", (0, 0, shape.floor), (inner, shape.height))
    return root


CANDY = {"small": 0.007, "big": 0.008}  # radius


def candy(name):
    """A loose ball with its origin in its middle; bodies `<name>_small` and `<name>_big`."""
    root = loose_body(name)
    for kind, radius in CANDY.items():
        ball = geom(body(root, f"{name}_{kind}"), "ball", "sphere", (0, 0, 0), (radius,), name, mass=0.001)
        ball.attrib.update(priority="2", friction="0.3 0.001 0.0001", solref="0.01 1")  # slides out of a rough cup
    return root


BOTTLE, BOTTLE_GRIP = 0.022, 0.085  # radius, or half width of the square one; height of the grip


def bottle():
    """A loose bottle, grasped while it lies with its top towards -y: sites bottle_above, bottle_grip, bottle_foot."""
    root, high, neck = loose_body("bottle"), 0.0575, 0.025  # half heights of its wide part and of its neck
    for kind, shape, wide, narrow in (("round", "cylinder", (BOTTLE,), 0.011), ("square", "box", (BOTTLE,) * 2, 0.015)):
        part = body(root, f"bottle_{kind}")
        grip = geom(part, "body", shape, (0, 0, high), (*wide, high), "bottle", mass=0.06)
        graspable(grip, friction="1.5 0.05 0.002", condim="6")  # or it rolls away
        geom(part, "neck", "cylinder", (0, 0, 2 * high + neck), (narrow, neck), "bottle_cap", mass=0.005)
    lean = 0.35 - math.pi / 2  # of the hand when it grasps; at the end it leans to the other side
    above = (0, -0.06 * math.sin(lean), BOTTLE_GRIP + 0.06 * math.cos(lean))
    hand_site(root, "bottle_above", above, lean, ACROSS)
    hand_site(root, "bottle_grip", (0, 0, BOTTLE_GRIP), lean, ACROSS)
    hand_site(root, "bottle_foot", (0, 0, 0))
    return root


def spot():
    """An invisible place for a bottle: spot_lies where it lies; for its foot, spot_over and spot_stand; spot_table."""
    root = ET.Element("body", name="spot")
    region(root, "spot_lies", (0, BOTTLE_GRIP, 0), (0.01, 0.01, 0.01))
    hand_site(root, "spot_over", (0, 0, 0.04))
    hand_site(root, "spot_stand", (0, 0, DROP / 2))
    region(root, "spot_table", (0, 0, 0), (0.4, 0.4, 0.01))
    return root


# Shapes of each object that is carried: those of training, unseen ones
SHAPES = {
    "food": (("can", "carton"), ("jar", "flask")),
    "can": (("can",), ("jar",)),
    "box": (("carton",), ("cube",)),
    "mug": (("round",), ("square",)),
}
# The parts of each shape: (kind, height of the middle, MuJoCo's size), metres
GOODS = {
    "can": (("cylinder", 0.030, (0.026, 0.030)),),
    "carton": (("box", 0.029, (0.021, 0.021, 0.029)),),
    "jar": (("cylinder", 0.023, (0.030, 0.023)), ("cylinder", 0.051, (0.021, 0.005))),
    "flask": (("cylinder", 0.024, (0.025, 0.024)), ("cylinder", 0.054, (0.013, 0.006))),
    "cube": (("box", 0.024, (0.024, 0.024, 0.024)),),
}


def goods(name):
    """A food, can or box in all its shapes: sites `<name>_grip` and `<name>_base` (the underside)."""
    thing = loose_body(name)
    for shape in sum(SHAPES[name], ()):
        part = body(thing, f"{name}_{shape}")
        for i, (kind, z, size) in enumerate(GOODS[shape]):
            graspable(geom(part, str(i), kind, (0, 0, z), size, name, mass=0.03))
    hand_site(thing, f"{name}_grip", (0, 0, 0.038))  # not lower: the palm is 3 cm above the fingertips' middle
    hand_site(thing, f"{name}_base", (0, 0, 0))
    return thing


def mug():
    """A full mug, round or square: sites mug_grip (of its body, not its handle) and mug_base (its underside)."""
    thing, wide, half = loose_body("mug"), 0.029, 0.035  # radius and half height
    ear = 1.15  # radians: direction of the handle, out of the way of fingers and palm
    for shape, kind, size in (("round", "cylinder", (wide, half)), ("square", "box", (wide * 0.9, wide * 0.9, half))):
        part = body(thing, f"mug_{shape}")
        graspable(geom(part, "wall", kind, (0, 0, half), size, "mug", mass=0.04))
        geom(part, "drink", "cylinder", (0, 0, 2 * half), (wide * 0.8, 0.001), "mug_drink", mass=0.001)
        at = (0.039 * math.cos(ear), 0.039 * math.sin(ear), half)
        box(part, "ear", at, (0.014, 0.004, 0.022), "mug", mass=0.003, turn=(0, 0, ear))
    hand_site(thing, "mug_grip", (0, 0, 0.057))
    hand_site(thing, "mug_base", (0, 0, 0))
    return thing
