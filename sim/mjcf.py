"""The parts of fixtures and objects, as MJCF. Lengths are half lengths, as in MuJoCo; metres, kilograms, radians."""

import math
import xml.etree.ElementTree as ET

ACROSS = math.pi / 2  # a turn of the hand that keeps the wrist far from its limits


def text(numbers):
    """Numbers as MJCF writes them."""
    return " ".join(f"{x:.6g}" for x in numbers)


def body(parent, name, pos=(0, 0, 0)):
    """A child body, which a joint can move and an episode can disable."""
    return ET.SubElement(parent, "body", name=name, pos=text(pos))


def loose_body(name):
    """The body of a loose object with joint `<name>_free`; its origin is the middle of its underside."""
    root = ET.Element("body", name=name)
    ET.SubElement(root, "freejoint", name=f"{name}_free")
    return root


def geom(parent, part, kind, pos, size, material, mass=0.1, turn=(0, 0, 0)):
    """A shape `<parent's name>_<part>`. kind: box, cylinder, sphere, capsule; turn: Euler angles about x, y, z."""
    # group 0: robosuite gives no mass to group 1, and the cameras draw groups 0 and 1
    made = ET.SubElement(parent, "geom", name=f"{parent.get('name')}_{part}", type=kind, pos=text(pos),
                         size=text(size), group="0", material=material, mass=f"{mass:.6g}")  # fmt: skip
    if any(turn):
        made.set("euler", text(turn))
    return made


def box(parent, part, pos, half, material, mass=0.1, turn=(0, 0, 0)):
    """A box."""
    return geom(parent, part, "box", pos, half, material, mass, turn)


def walls(parent, middle, half, thick, material, sides=("left", "right", "back")):
    """Upright boards just inside a box: left and right are as deep as the box, front and back fit between them."""
    (x, y, z), (wide, deep, high) = middle, half
    for side in sides:
        way = 1 if side in ("right", "back") else -1
        if side in ("left", "right"):
            box(parent, side, (x + way * (wide - thick / 2), y, z), (thick / 2, deep, high), material)
        else:
            box(parent, side, (x, y + way * (deep - thick / 2), z), (wide - thick, thick / 2, high), material)


def graspable(made, friction="1.5 0.05 0.0001", condim="4"):
    """Make a geom stiff and rough: with MuJoCo's defaults fingers sink into it at a step of 5 ms."""
    made.attrib.update(solimp="0.98 0.995 0.001", solref="0.01 1", friction=friction, condim=condim, priority="1")


def joint(parent, name, kind, axis, span, damping, friction):
    """A slide along an axis, or a hinge about one through its body's origin, that stays where it is left."""
    ET.SubElement(parent, "joint", name=name, type=kind, axis=text(axis), limited="true", range=text(span),
                  damping=f"{damping:g}", frictionloss=f"{friction:g}")  # fmt: skip


def hand_site(parent, name, pos, tilt=0.0, yaw=0.0):
    """A pose for the hand: down with its fingers along y, turned about z by `yaw` (ACROSS: fingers along x), then
    tilted about x by `tilt` (positive: it points at +y).
    """
    ct, st, cy, sy = math.cos(tilt), math.sin(tilt), math.cos(yaw), math.sin(yaw)
    fingers, palm = (-sy, cy * ct, cy * st), (cy, sy * ct, sy * st)  # the hand's x and y
    ET.SubElement(parent, "site", name=name, pos=text(pos), size="0.005", group="4", xyaxes=text(fingers + palm))


def region(parent, name, pos, size):
    """A box or cylinder for goals. pos: the middle of its floor; size: half widths and height, or radius and height."""
    kind = "box" if len(size) == 3 else "cylinder"
    ET.SubElement(parent, "site", name=name, type=kind, pos=text(pos), size=text(size), group="4", rgba="0 0 0 0")
