"""Fixtures that stand on the table, as MJCF bodies of simple shapes. Each docstring names the joints and sites.

A fixture's frame has its origin on the table, z up, and opens towards -y (the front camera's side; its left is -x).
A site's frame is the pose that the hand takes there: x along the fingers' travel, z out of the hand.
Each part has its own material, to be repainted. Of two shapes of a part, each is a body and an episode uses one.
"""

import math
import xml.etree.ElementTree as ET

from sim.mjcf import ACROSS, body, box, geom, graspable, hand_site, joint, region, walls

BOARD = 0.012  # thickness of the boards of all fixtures
HALF = BOARD / 2
GAP = 0.003  # between parts that slide past each other, so that contacts do not lock a drawer
REACH_TILT = 0.9  # radians: tilt of a hand that reaches into a fixture
DROP = 0.006  # metres above its place at which an object is released


def _case(name, size, shelf):
    """A case of boards, open in front, with a shelf at a height."""
    case, material = ET.Element("body", name=name), f"{name}_case"
    width, depth, height = size
    walls(case, (0, 0, height / 2), (width / 2, depth / 2, height / 2), BOARD, material)
    for part, z in (("bottom", HALF), ("shelf", shelf), ("top", height - HALF)):
        box(case, part, (0, -HALF, z), (width / 2 - BOARD, depth / 2 - HALF, HALF), material)
    return case


def drawer():
    """A chest of drawers: joint drawer_slide (0 shut), sites drawer_handle, drawer_push, handles drawer_bar, _knob."""
    width, depth, height = 0.26, 0.20, 0.20
    shelf = 0.095  # height of the board under the drawer
    thick, out = 0.018, 0.036  # thickness of the handle, and how far its middle is from the drawer's front
    tilt = 0.8  # the hand comes from above and in front, clear of the chest
    chest = _case("drawer", (width, depth, height), shelf)
    front, lower = -depth / 2 - HALF, (shelf - HALF) / 2
    box(chest, "lower", (0, front, lower), (width / 2 - GAP, HALF, lower - GAP), "drawer_front")
    box(chest, "lower_bar", (0, front - HALF - 0.01, lower), (0.05, 0.01, 0.008), "drawer_handle")
    tray = body(chest, "drawer_box")  # what moves: an open box behind a front that covers the chest's upper half
    joint(tray, "drawer_slide", "slide", (0, -1, 0), span=(0, 0.15), damping=8, friction=3)
    low, high = shelf + HALF + GAP, height - BOARD - GAP  # room between shelf and top
    inside, long = width / 2 - BOARD - GAP, depth / 2 - BOARD
    wall = (high - low) * 0.35  # half height of the walls, lower than the front
    box(tray, "floor", (0, -BOARD, low + HALF), (inside, long, HALF), "drawer_case")
    walls(tray, (0, -BOARD, low + BOARD + wall), (inside, long, wall), BOARD, "drawer_case")
    y, middle = front - GAP, (shelf + height) / 2
    box(tray, "face", (0, y, middle), (width / 2 - GAP, HALF, (height - shelf) / 2 - GAP), "drawer_front", mass=0.3)
    y -= HALF
    for kind, half_length, posts in (("bar", 0.055, (-0.04, 0.04)), ("knob", 0.022, (0.0,))):
        part = body(tray, f"drawer_{kind}", (0, y, middle))
        half, turn = (half_length, thick / 2, thick / 2), (tilt, 0, 0)  # its faces meet the fingers flat
        graspable(box(part, "grip", (0, -out, 0), half, "drawer_handle", turn=turn))
        post = (out - thick / 2) / 2
        for i, x in enumerate(posts):
            box(part, f"post{i}", (x, -post, 0), (0.006, post, 0.006), "drawer_handle")
    hand_site(tray, "drawer_handle", (0, y - out, middle), tilt)
    # the fingertips are in front of the handle, and below its middle
    hand_site(tray, "drawer_push", (0, y - out - 0.035, middle - 0.015), tilt=0.5)
    return chest


def microwave():
    """A microwave oven: of its buttons stop and start, joint microwave_stop_press (1 pressed in), site microwave_stop,
    shapes microwave_stop_square and _round; region microwave_cavity, site microwave_put, body microwave_door.
    """
    oven = ET.Element("body", name="microwave")
    width, depth, height = 0.36, 0.20, 0.21
    panel, cavity, wide = 0.05, 0.13, 0.022  # half widths of the control panel, of the cavity with walls, of a button
    left, right = -panel, width / 2 - panel  # x of the middle of the cavity and of the panel
    for part, z in (("floor", HALF), ("top", height - HALF)):
        box(oven, part, (left, 0, z), (cavity, depth / 2, HALF), "microwave_case")
    walls(oven, (left, 0, height / 2), (cavity, depth / 2, height / 2 - BOARD), BOARD, "microwave_case")
    door = body(oven, "microwave_door")
    box(door, "pane", (left, -depth / 2 - GAP - HALF, height / 2), (cavity, HALF, height / 2), "microwave_glass")
    # the panel is set back, so that a button can move in
    box(oven, "block", (right, BOARD, height / 2), (panel, depth / 2 - BOARD, height / 2), "microwave_panel")
    for kind, z in (("stop", 0.07), ("start", 0.14)):
        name = f"microwave_{kind}"
        button = body(oven, f"{name}_button", (right, -depth / 2, z))
        joint(button, f"{name}_press", "slide", (0, 1, 0), span=(0, 0.018), damping=8, friction=2)
        square, disc = body(button, f"{name}_square"), body(button, f"{name}_round")
        box(square, "cap", (0, 0, 0), (wide, HALF, wide), name)
        geom(disc, "cap", "cylinder", (0, 0, 0), (wide * 1.2, HALF), name, turn=(math.pi / 2, 0, 0))
        hand_site(button, name, (0, -HALF - 0.022, 0), 0.8, ACROSS)  # the fingertips just before they press
    region(oven, "microwave_cavity", (left, 0, BOARD), (cavity - BOARD, depth / 2, height / 2))
    hand_site(oven, "microwave_put", (left, -depth / 4, BOARD), REACH_TILT, ACROSS)
    return oven


def sink():
    """A basin: joints sink_spout (0 left, 1 right) and sink_lever (0 off), a bar and a tube of each; sites of a hand
    beside them, sink_spout_leftwards, sink_spout_rightwards, sink_lever_shut; region sink_basin.
    """
    basin = ET.Element("body", name="sink")
    width, depth, height = 0.38, 0.26, 0.06
    beside, below = 0.036, -0.012  # from a bar's middle to the fingertips that push it
    box(basin, "floor", (0, 0, HALF), (width / 2, depth / 2, HALF), "sink_bowl")
    middle = (0, 0, height / 2)  # of the walls; here front and back are the long ones
    walls(basin, middle, (width / 2, depth / 2 - BOARD, height / 2), BOARD, "sink_bowl", sides=("left", "right"))
    walls(basin, middle, (width / 2 + BOARD, depth / 2, height / 2), BOARD, "sink_bowl", sides=("front", "back"))
    region(basin, "sink_basin", (0, 0, BOARD), (width / 2, depth / 2, height))
    back = depth / 2 - HALF
    for part, x, z in (("spout", 0, 0.14), ("lever", -0.11, 0.09)):
        geom(basin, f"{part}_post", "cylinder", (x, back, z / 2), (0.014, z / 2), "sink_metal")
    spout = _arm(basin, "sink_spout", (0, back, 0.16), 0.15, "sink_metal", span=(-1.1, 1.1))
    box(spout, "nozzle", (0, -0.15, -0.015), (0.012, 0.012, 0.022), "sink_metal", mass=0.02)
    lever = _arm(basin, "sink_lever", (-0.11, back, 0.11), 0.10, "sink_grip", span=(0, 1.2), axis=(0, 0, -1))
    hand_site(spout, "sink_spout_leftwards", (beside, -0.12, below), yaw=ACROSS)
    hand_site(spout, "sink_spout_rightwards", (-beside, -0.12, below))
    hand_site(lever, "sink_lever_shut", (-beside, -0.08, below), yaw=ACROSS)
    return basin


def _arm(parent, name, pos, length, material, span, axis=(0, 0, 1)):
    """A bar or a tube that points at -y and swings about its end: joint `name`."""
    arm = body(parent, f"{name}_arm", pos)
    joint(arm, name, "hinge", axis, span, damping=0.3, friction=0.15)
    middle, turn = (0, -length / 2, 0), (math.pi / 2, 0, 0)
    box(body(arm, f"{name}_bar"), "part", middle, (0.010, length / 2, 0.010), material)
    geom(body(arm, f"{name}_tube"), "part", "capsule", middle, (0.014, length / 2), material, turn=turn)
    return arm


BURNERS = {"left": -0.09, "right": 0.09}  # x of the burners and of their knobs
BURNER_Y, BURNER_TOP = 0.04, 0.056  # y of the burners, and the height of what stands on one


def stove():
    """A stove: of left and right, joint stove_left (0 off), site stove_left_knob, knobs stove_left_round, _square."""
    top = ET.Element("body", name="stove")
    width, depth, height = 0.36, 0.28, 0.05
    box(top, "block", (0, 0, height / 2), (width / 2, depth / 2, height / 2), "stove_case")
    thick = (BURNER_TOP - height) / 2
    for side, x in BURNERS.items():
        geom(top, f"{side}_burner", "cylinder", (x, BURNER_Y, height + thick), (0.06, thick), "stove_burner")
        knob = body(top, f"stove_{side}_turning", (x, -0.10, height + GAP))
        joint(knob, f"stove_{side}", "hinge", (0, 0, -1), span=(0, 1.5), damping=0.05, friction=0.05)
        disc, square = body(knob, f"stove_{side}_round"), body(knob, f"stove_{side}_square")
        geom(disc, "disc", "cylinder", (0, 0, 0.006), (0.036, 0.006), "stove_knob")
        box(square, "plate", (0, 0, 0.006), (0.030, 0.030, 0.006), "stove_knob")
        graspable(box(knob, "ridge", (0, 0, 0.028), (0.010, 0.034, 0.016), "stove_mark"))
        hand_site(knob, f"stove_{side}_knob", (0, 0, 0.028), yaw=ACROSS)
    return top


def cabinet():
    """A cabinet with two doors: of left and right, joint cabinet_left (0 shut), site cabinet_left_hook between door and
    handle, handles cabinet_left_bar and _plate.
    """
    width, depth, height, post = 0.25, 0.16, 0.15, 0.007  # post: half thickness of what joins a handle and a door
    handle_out = 0.064  # from a door's face to its handle's middle: closed fingers fit between, with room for errors
    hook_out, hook_below = 0.028, 0.025  # of the fingertips: before a door's face, and below its top, for the palm
    root = _case("cabinet", (width, depth, height), height / 2)
    for side, way in (("left", 1), ("right", -1)):  # way: from a shut door's hinge along x
        name, x = f"cabinet_{side}", way * (width / 2 - 0.04)
        door = body(root, name, (-way * width / 2, -depth / 2 - GAP - HALF, 0))
        joint(door, name, "hinge", (0, 0, -way), span=(0, 1.35), damping=0.4, friction=0.3)
        face = (width / 4 - GAP, HALF, height / 2 - GAP)
        box(door, "face", (way * width / 4, 0, height / 2), face, "cabinet_door", mass=0.3)
        for kind, half in (("bar", (0.009, 0.009, 0.050)), ("plate", (0.022, 0.007, 0.030))):
            part = body(door, f"{name}_{kind}", (x, -HALF, height - GAP - 2 * half[2]))
            graspable(box(part, "grip", (0, -handle_out, half[2]), half, "cabinet_handle"))
            out = (handle_out - half[1]) / 2
            box(part, "post", (0, -out, post), (post, out, post), "cabinet_handle")  # low: open upwards
        # upright, or the arm would reach its limits as the hand turns with a door
        hand_site(door, f"{name}_hook", (x, -HALF - hook_out, height - hook_below), yaw=ACROSS)
    return root


def _counter(parent, name, front):
    """The table before a fixture whose front is at -front: sites `<name>_counter` (region), `<name>_counter_put`."""
    region(parent, f"{name}_counter", (0, -front - 0.13, 0), (0.22, 0.09, 0.05))
    hand_site(parent, f"{name}_counter_put", (0, -front - 0.13, DROP), REACH_TILT, ACROSS)


def cupboard():
    """An open cupboard on a block: sites cupboard_shelf (region), cupboard_counter (region), cupboard_counter_put."""
    case = ET.Element("body", name="cupboard")
    width, depth, height, floor = 0.35, 0.20, 0.32, 0.11  # floor: the height of its shelf
    box(case, "foot", (0, 0, floor / 2), (width / 2, depth / 2, floor / 2), "cupboard_block")
    middle, half = (height + floor) / 2, (height - floor) / 2
    walls(case, (0, 0, middle), (width / 2, depth / 2, half), BOARD, "cupboard_boards", sides=("left", "right"))
    box(case, "top", (0, 0, height - HALF), (width / 2 - BOARD, depth / 2, HALF), "cupboard_boards")
    under = (width / 2, depth / 2, half - HALF)  # the top
    walls(case, (0, 0, middle - HALF), under, BOARD, "cupboard_boards", sides=("back",))
    region(case, "cupboard_shelf", (0, 0, floor), (width / 2, depth / 2, half))
    _counter(case, "cupboard", depth / 2)
    return case


def coffee_machine():
    """A coffee machine: sites machine_spot (region under its head), machine_counter (region), machine_counter_put."""
    machine = ET.Element("body", name="machine")
    width, depth, height, spot = 0.16, 0.20, 0.30, 0.045  # spot: from its front to the middle of where the mug stands
    box(machine, "foot", (0, 0, HALF), (width / 2, depth / 2, HALF), "machine_trim")
    box(machine, "back", (0, 0.07, height / 2), (width / 2, 0.03, height / 2), "machine_case")
    box(machine, "head", (0, -0.03, height - 0.035), (width / 2, 0.07, 0.035), "machine_case")
    geom(machine, "nozzle", "cylinder", (0, spot - depth / 2, height - 0.078), (0.014, 0.008), "machine_trim")
    region(machine, "machine_spot", (0, spot - depth / 2, BOARD), (width / 2, spot, height / 2))
    _counter(machine, "machine", depth / 2)
    return machine


def dish(name, radius, up=0.0, handle=0.0):
    """A plate, or a pan with a handle (half its length), `up` above the table: sites `<name>_inside`, `<name>_put`."""
    root = ET.Element("body", name=name)
    geom(root, "disc", "cylinder", (0, 0, up + 0.003), (radius, 0.003), name)
    rim, sides = 0.008, 12  # half height of its rim, and the number of its straight parts
    part = (0.003, radius * math.tan(math.pi / sides), rim)
    for i in range(sides):
        turn = 2 * math.pi * i / sides
        at = (radius * math.cos(turn), radius * math.sin(turn), up + rim)
        box(root, f"rim{i}", at, part, name, turn=(0, 0, turn))
    if handle:
        box(root, "handle", (0, radius + handle, up + rim), (0.009, handle, 0.006), name)
    region(root, f"{name}_inside", (0, 0, up), (radius * 0.9, 0.05))
    hand_site(root, f"{name}_put", (0, 0, up + 0.006 + DROP), yaw=ACROSS)
    return root


def basket():
    """An open box: sites basket_inside (region) and basket_put."""
    crate = ET.Element("body", name="basket")
    wide, high, sides = 0.085, 0.03, ("left", "right", "front", "back")  # half width and half height
    box(crate, "floor", (0, 0, HALF), (wide, wide, HALF), "basket")
    walls(crate, (0, 0, high), (wide + HALF, wide + HALF, high), BOARD, "basket", sides)
    region(crate, "basket_inside", (0, 0, BOARD), (wide, wide, 2 * high))
    hand_site(crate, "basket_put", (0, 0, BOARD + DROP), yaw=ACROSS)
    return crate
