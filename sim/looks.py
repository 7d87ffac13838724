"""How the model looks and how an episode changes it: slimming, cameras, materials, run-time edits.

An edit is (kind, name, attribute, value). The same list is applied to the live model at every reset and to the
XML that is stored with a demonstration, so the two cannot disagree.
"""

import math
import os
import xml.etree.ElementTree as ET

import numpy as np
import robosuite

from sim.task import TABLES, UNSEEN_TABLES, Background, Scene

Edit = tuple[str, str, str, object]

# name -> position, the point looked at (both metres, world), vertical field of view in degrees
CAMERAS = {
    "front": ((0.46, -0.54, 1.38), (-0.05, 0.06, 0.93), 41),
    "side": ((-0.42, -0.66, 1.42), (-0.04, 0.08, 0.92), 40),
    "wrist": None,  # rides on the hand, below
}
WRIST_CAMERA = {"pos": "0.07 0 0.03", "xyaxes": "0 1 0 0.95 0 0.3", "fovy": "70"}
HEADLIGHT = {"ambient": "0.35 0.35 0.35", "diffuse": "0.25 0.25 0.25", "specular": "0.1 0.1 0.1"}
SHELL, DARK = "0.95 0.95 0.96 1", "0.24 0.25 0.28 1"
HIDDEN_GROUP = "4"
TEXTURES = os.path.join(os.path.dirname(robosuite.__file__), "models", "assets", "textures")


def material(name: str) -> ET.Element:
    """A plain material; an episode gives it its colour."""
    return ET.Element("material", name=name, specular="0.3", shininess="0.3", reflectance="0")


def slim(root: ET.Element) -> None:
    """Draw the robot by its collision meshes and reflect nothing: ten times fewer triangles, drawn once.

    Visual geoms keep their names, which robosuite looks up, and lose their meshes.
    """
    for geom in root.iter("geom"):
        if geom.get("type") == "mesh" and geom.get("group") == "1":
            del geom.attrib["mesh"]
            geom.attrib.pop("material", None)
            geom.attrib.update(type="sphere", size="0.001", group=HIDDEN_GROUP)
        elif geom.get("group", "0") == "0":
            geom.attrib.pop("material" if geom.get("name", "").endswith(("collision", "col")) else "", None)
            _paint_robot(geom)
    asset = root.find("asset")
    used = {geom.get("mesh") for geom in root.iter("geom")}
    painted = {geom.get("material") for geom in root.iter("geom")}
    for mesh in asset.findall("mesh"):
        if mesh.get("name") not in used:
            asset.remove(mesh)
    for item in asset.findall("material"):
        item.set("reflectance", "0")
        if item.get("name") not in painted:
            asset.remove(item)


def _paint_robot(geom: ET.Element) -> None:
    name = geom.get("name", "")
    if name.startswith("robot0_link"):
        geom.set("rgba", SHELL)
    elif name.startswith("gripper0"):
        geom.set("rgba", DARK)
    elif name.startswith("fixed_mount0"):
        geom.set("rgba", DARK)
    elif name == "table_collision":
        geom.set("group", HIDDEN_GROUP)


def dress(root: ET.Element) -> None:
    """Add the table's materials, name the lamp and place the cameras."""
    asset, world = root.find("asset"), root.find("worldbody")
    for name in TABLES + UNSEEN_TABLES:
        file = os.path.join(TEXTURES, f"{name}.png")
        ET.SubElement(asset, "texture", name=f"table-{name}", type="cube", file=file)
        ET.SubElement(asset, "material", name=f"table-{name}", texture=f"table-{name}", specular="0.2",
                      shininess="0.1", reflectance="0")
    world.find("light").set("name", "lamp")
    ET.SubElement(root.find("visual"), "headlight", HEADLIGHT)
    for name, view in CAMERAS.items():
        if view:
            pos, target, fovy = view
            ET.SubElement(world, "camera", name=name, pos=_text(pos), xyaxes=_text(look(pos, target)[:, :2].T.ravel()),
                          fovy=str(fovy))
    hand = next(body for body in root.iter("body") if body.get("name") == "robot0_right_hand")
    ET.SubElement(hand, "camera", name="wrist", **WRIST_CAMERA)


def _text(numbers) -> str:
    return " ".join(f"{x:.6g}" for x in np.atleast_1d(numbers))


def look(pos, target) -> np.ndarray:
    """The orientation (3, 3) of a camera at `pos` that looks at `target`: columns right, up, backward."""
    back = np.subtract(pos, target)
    right = np.cross((0, 0, 1), back)
    axes = np.stack([right, np.cross(back, right), back], axis=1)
    return axes / np.linalg.norm(axes, axis=0)


# ---- edits ---------------------------------------------------------------------------------------------------


def background_edits(background: Background) -> list[Edit]:
    """Everything that is not part of the task."""
    return [
        ("geom", "table_visual", "material", f"table-{background.table}"),
        ("geom", "table_visual", "rgba", (*background.table_tint, 1)),
        ("material", "walls_mat", "rgba", (*background.wall_tint, 1)),
        ("material", "floorplane", "rgba", (*background.floor_tint, 1)),
        ("light", "lamp", "diffuse", background.light),
        ("light", "lamp", "dir", background.light_dir),
    ]


def scene_edits(scene: Scene, model, table_top: float, parked_group: int) -> list[Edit]:
    """Where the fixtures stand, what colour they are and which of their bodies take part."""
    edits: list[Edit] = []
    for name, (x, y, yaw) in scene.pose.items():
        edits.append(("body", name, "pos", (x, y, table_top)))
        edits.append(("body", name, "quat", (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))))
    edits += [("material", name, "rgba", (*rgb, 1)) for name, rgb in scene.color.items()]
    for name in scene.absent:
        body = model.body(name).id
        for geom in np.flatnonzero(model.geom_bodyid == body):
            name = model.geom(geom).name
            edits += [("geom", name, key, 0) for key in ("contype", "conaffinity")]
            edits.append(("geom", name, "group", parked_group))
    return edits


def live_field(edit: Edit, model) -> tuple[tuple[str, str, str], np.ndarray]:
    """The array that an edit writes, and the key (kind, name, field) it is known by."""
    kind, name, attribute, _ = edit
    field = "matid" if attribute == "material" else attribute
    return (kind, name, field), getattr(getattr(model, kind)(name), field)


def apply_to_model(edit: Edit, model) -> None:
    """Write an edit into a live mujoco model."""
    value = model.material(edit[3]).id if edit[2] == "material" else edit[3]
    live_field(edit, model)[1][:] = value


def apply_to_xml(edit: Edit, root: ET.Element) -> None:
    """Write an edit into the XML of the same model."""
    kind, name, attribute, value = edit
    element = next(e for e in root.iter(kind) if e.get("name") == name)
    element.set(attribute, value if isinstance(value, str) else _text(value))
