"""How the model looks, and how an episode changes that: simple visuals, cameras, materials, edits.

Edits, {(kind, name, attribute): value}, go into the live model at each reset, and into a demonstration's XML.
"""

import math
import xml.etree.ElementTree as ET

import numpy as np
from robosuite.models import assets_root

from sim.mjcf import text
from sim.task import is_unseen, sample, sample_color, sample_one

# name -> position, target point (metres, world), vertical field of view in degrees; the wrist's moves with the hand
FIXED_CAMERAS = {
    "front": ((0.46, -0.54, 1.38), (-0.10, 0.08, 0.95), 41),
    "side": ((-0.42, -0.66, 1.42), (-0.04, 0.08, 0.92), 40),
}
SHELL, DARK = "0.88 0.89 0.90 1", "0.24 0.25 0.28 1"  # a light arm, and a dark hand that stands out from the table
HIDDEN_GROUP = "4"


def materials(fixture):
    """The plain materials that a fixture names; an episode gives them their colours."""
    names = dict.fromkeys(geom.get("material") for geom in fixture.iter("geom"))
    return [ET.Element("material", name=name, specular="0.3", shininess="0.3", reflectance="0") for name in names]


def strip_visuals(root):
    """Draw the robot by its collision meshes and leave out what no camera sees: fewer triangles render faster."""
    for geom in root.iter("geom"):
        name, group = geom.get("name", ""), geom.get("group", "0")
        if geom.get("type") == "mesh" and group == "1":
            del geom.attrib["mesh"]  # the geom stays: robosuite looks up its name
            geom.attrib.pop("material", None)
            geom.attrib.update(type="sphere", size="0.001", group=HIDDEN_GROUP)
        elif name.startswith(("table_collision", "table_leg", "wall_right")):  # no camera sees them
            geom.set("group", HIDDEN_GROUP)
        elif name == "floor":
            geom.set("size", "3 3 3")  # the third number is the size of its tiles: a small one means thousands
        elif group == "0" and name.startswith("robot0_link"):
            geom.set("rgba", SHELL)
        elif group == "0" and name.startswith(("gripper0", "fixed_mount0")):
            geom.set("rgba", DARK)
    # this link's dense collision mesh has the shape of two tubes: draw those
    link = root.find(".//body[@name='robot0_link1']")
    link.find("geom[@name='robot0_link1_collision']").set("group", HIDDEN_GROUP)
    for i, ends in enumerate(("0 0 -0.192 0 0 0.05", "0 0 0 0 -0.129 0")):
        ET.SubElement(link, "geom", name=f"robot0_link1_tube{i}", type="cylinder", fromto=ends, size="0.055",
                      group="1", contype="0", conaffinity="0", mass="0", rgba=SHELL)  # fmt: skip
    asset = root.find("asset")
    for kind in ("mesh", "material"):
        used = {geom.get(kind) for geom in root.iter("geom")}
        for item in asset.findall(kind):
            if item.get("name") not in used:
                asset.remove(item)
            elif kind == "material":
                item.set("reflectance", "0")


def add_cameras(root):
    """Add the table's materials, a name for the lamp, and the cameras."""
    asset, world = root.find("asset"), root.find("worldbody")
    for name in TABLES[0] + TABLES[1]:
        file = f"{assets_root}/textures/{name}.png"
        ET.SubElement(asset, "texture", name=f"table-{name}", type="cube", file=file)
        ET.SubElement(asset, "material", name=f"table-{name}", texture=f"table-{name}", specular="0.2",
                      shininess="0.1", reflectance="0")  # fmt: skip
    world.find("light").set("name", "lamp")
    visual, hand = root.find("visual"), root.find(".//body[@name='robot0_right_hand']")
    ET.SubElement(visual, "headlight", ambient="0.35 0.35 0.35", diffuse="0.25 0.25 0.25", specular="0.1 0.1 0.1")
    ET.SubElement(visual, "quality", numquads="2")
    for name, (pos, target, fovy) in FIXED_CAMERAS.items():
        back = np.subtract(pos, target)
        right = np.cross((0, 0, 1), back)
        axes = [axis / np.linalg.norm(axis) for axis in (right, np.cross(back, right))]  # right, up
        ET.SubElement(world, "camera", name=name, pos=text(pos), xyaxes=text(np.ravel(axes)), fovy=str(fovy))
    ET.SubElement(hand, "camera", name="wrist", pos="0.07 0 0.03", xyaxes="0 1 0 0.95 0 0.3", fovy="70")


# what surrounds a task: (training, unseen)
TABLES = ("light-wood", "ceramic", "cream-plaster"), ("dark-wood", "blue-wood", "clay")  # textures of robosuite
WALLS = (((0.95, 0.95, 0.93), (0.88, 0.90, 0.95), (0.95, 0.90, 0.82)),
         ((0.55, 0.75, 0.60), (0.85, 0.55, 0.50), (0.45, 0.50, 0.75)))  # fmt: skip
FLOORS = ((0.90, 0.90, 0.90), (0.80, 0.78, 0.75)), ((0.55, 0.40, 0.30), (0.40, 0.50, 0.45))
LAMPS = ((0.55, 0.75),), ((0.36, 0.46), (0.85, 0.95))  # intervals of its strength


def sample_background(rng, shift):
    """Edits of table, walls, floor and light for an episode; unseen ones share nothing with the training ones."""
    unseen = is_unseen(shift, "background")
    ray = np.array([sample(rng, (-0.7, -0.1)), sample(rng, (0.7, 1.2)), -1.0])  # from behind the front camera
    strength = sample(rng, *LAMPS[unseen])
    return {
        ("geom", "table_visual", "material"): f"table-{sample_one(rng, TABLES[unseen])}",
        ("geom", "table_visual", "rgba"): (*sample_color(rng, ((0.93, 0.93, 0.93),)), 1),
        ("material", "walls_mat", "rgba"): (*sample_color(rng, WALLS[unseen]), 1),
        ("material", "floorplane", "rgba"): (*sample_color(rng, FLOORS[unseen]), 1),
        ("light", "lamp", "diffuse"): (strength,) * 3,
        ("light", "lamp", "dir"): tuple(ray / np.linalg.norm(ray)),
    }


def scene_edits(scene, model, table_top):
    """Edits that place and colour the fixtures and disable the bodies that take no part in the episode."""
    edits = {("material", name, "rgba"): (*rgb, 1) for name, rgb in scene.color.items()}
    for name, (x, y, yaw) in scene.pose.items():
        edits["body", name, "pos"] = (x, y, table_top)
        edits["body", name, "quat"] = (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
    for body in scene.disabled_bodies:
        for geom in np.flatnonzero(model.geom_bodyid == model.body(body).id):
            name = model.geom(geom).name
            edits["geom", name, "contype"] = edits["geom", name, "conaffinity"] = 0
            edits["geom", name, "rgba"] = (0, 0, 0, 0)  # invisible; another group would change its mass
    return edits


def live_field(model, kind, name, attribute):
    """The array of a live mujoco model that an edit writes."""
    return getattr(getattr(model, kind)(name), "matid" if attribute == "material" else attribute)
