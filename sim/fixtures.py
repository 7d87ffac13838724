"""Things that stand on the table, as MJCF bodies of simple shapes: each names its joints and the sites a hand goes to.

A fixture's own frame stands on the table, z up, and opens towards -y (the front camera's side; its left is -x).
A site's frame is the pose that the hand takes there: x along the fingers' travel, z out of the hand.
Colours live in one material per part, so that an episode repaints a part by a single edit. Where a fixture has two
shapes of a part, each is a body of its own and an episode uses one.
"""

import math
import xml.etree.ElementTree as ET

from sim.mjcf import ACROSS, body, box, geom, graspable, hand_site, joint, region, text, walls

BOARD = 0.012  # thickness of the boards of all fixtures
HALF = BOARD / 2
GAP = 0.003  # between parts that slide past each other: touching them would lock a drawer
REACH_TILT = 0.9  # of a hand that brings something into a fixture or takes it out
TIP = 0.022  # metres from the point between the fingertips to what their ends are about to press
DROP = 0.006  # metres above its place at which something is let go


def _case(name, size, shelf):
    """A case of boards that is open in front, with a shelf at a height."""
    case, material = ET.Element("body", name=name), f"{name}_case"
    width, depth, height = size
    walls(case, (0, 0, height / 2), (width / 2, depth / 2, height / 2), BOARD, material)
    for part, z in (("bottom", HALF), ("shelf", shelf), ("top", height - HALF)):
        box(case, part, (0, -HALF, z), (width / 2 - BOARD, depth / 2 - HALF, HALF), material)
    return case


CHEST = (0.26, 0.20, 0.20)  # width, depth, height
SHELF = 0.095  # height of the board under the drawer
HANDLE = 0.018  # thickness of the graspable bar
REACH_OUT = 0.036  # from the drawer's front to the middle of the bar
GRASP_TILT = 0.8  # the hand comes from above and in front, clear of the chest
PUSH_GAP, PUSH_BELOW = 0.035, 0.015  # the fingertips wait in front of the bar, and reach below its middle


def drawer():
    """A chest with one drawer above a closed one.

    Joint drawer_slide (0 shut, 1 open); sites drawer_handle (grasp) and drawer_push; handles drawer_bar, drawer_knob.
    """
    chest = _case("drawer", CHEST, SHELF)
    width, depth, height = CHEST
    front, lower = -depth / 2 - HALF, (SHELF - HALF) / 2
    box(chest, "lower", (0, front, lower), (width / 2 - GAP, HALF, lower - GAP), "drawer_front")
    box(chest, "lower_bar", (0, front - HALF - 0.01, lower), (0.05, 0.01, 0.008), "drawer_handle")
    # what moves: an open box behind a front that covers the chest's upper half
    tray = body(chest, "drawer_box")
    joint(tray, "drawer_slide", "slide", (0, -1, 0), span=(0, 0.15), damping=8, friction=3)
    low, high = SHELF + HALF + GAP, height - BOARD - GAP  # room between shelf and top
    inside, long = width / 2 - BOARD - GAP, depth / 2 - BOARD
    wall = (high - low) * 0.35  # half height of the walls, lower than the front
    box(tray, "floor", (0, -BOARD, low + HALF), (inside, long, HALF), "drawer_case")
    walls(tray, (0, -BOARD, low + BOARD + wall), (inside, long, wall), BOARD, "drawer_case")
    y, middle = front - GAP, (SHELF + height) / 2
    box(tray, "face", (0, y, middle), (width / 2 - GAP, HALF, (height - SHELF) / 2 - GAP), "drawer_front", mass=0.3)
    y -= HALF
    for kind, half_length, posts in (("bar", 0.055, (-0.04, 0.04)), ("knob", 0.022, (0.0,))):
        part = body(tray, f"drawer_{kind}", (0, y, middle))
        grip = box(part, "grip", (0, -REACH_OUT, 0), (half_length, HANDLE / 2, HANDLE / 2), "drawer_handle")
        grip.set("axisangle", text((1, 0, 0, GRASP_TILT)))  # its faces meet the fingers flat
        graspable(grip)
        post = (REACH_OUT - HANDLE / 2) / 2
        for i, x in enumerate(posts):
            box(part, f"post{i}", (x, -post, 0), (0.006, post, 0.006), "drawer_handle")
    hand_site(tray, "drawer_handle", (0, y - REACH_OUT, middle), GRASP_TILT)
    hand_site(tray, "drawer_push", (0, y - REACH_OUT - PUSH_GAP, middle - PUSH_BELOW), tilt=0.5)
    return chest


OVEN = (0.36, 0.20, 0.21)  # width, depth, height of the microwave oven
PANEL = 0.10  # width of its control panel, on the right
BUTTONS = {"stop": 0.07, "start": 0.14}  # their heights
BUTTON = 0.022  # half width of a button, large enough to be seen in 64 pixels


def microwave():
    """A microwave oven with an open cavity and two buttons that stay where they are pressed to.

    Of stop and start: joint microwave_stop_press (1 pressed in), site microwave_stop (the hand in front of the button),
    buttons microwave_stop_square and microwave_stop_round. Sites microwave_cavity (region) and microwave_put (where an
    object's underside goes). microwave_door closes the cavity unless it is disabled.
    """
    oven = ET.Element("body", name="microwave")
    width, depth, height = OVEN
    cavity = (width - PANEL) / 2  # half its width, walls included
    left, right = -PANEL / 2, width / 2 - PANEL / 2  # x of the middle of the cavity, of the panel
    for part, z in (("floor", HALF), ("top", height - HALF)):
        box(oven, part, (left, 0, z), (cavity, depth / 2, HALF), "microwave_case")
    walls(oven, (left, 0, height / 2), (cavity, depth / 2, height / 2 - BOARD), BOARD, "microwave_case")
    door = body(oven, "microwave_door")
    box(door, "pane", (left, -depth / 2 - GAP - HALF, height / 2), (cavity, HALF, height / 2), "microwave_glass")
    # the panel is set back, so that a button can go in
    box(oven, "block", (right, BOARD, height / 2), (PANEL / 2, depth / 2 - BOARD, height / 2), "microwave_panel")
    for kind, z in BUTTONS.items():
        name = f"microwave_{kind}"
        button = body(oven, f"{name}_button", (right, -depth / 2, z))
        joint(button, f"{name}_press", "slide", (0, 1, 0), span=(0, 0.018), damping=8, friction=2)
        square, disc = body(button, f"{name}_square"), body(button, f"{name}_round")
        box(square, "cap", (0, 0, 0), (BUTTON, HALF, BUTTON), name)
        geom(disc, "cap", "cylinder", (0, 0, 0), (BUTTON * 1.2, HALF), name, turn=(math.pi / 2, 0, 0))
        hand_site(button, name, (0, -HALF - TIP, 0), 0.8, ACROSS)
    region(oven, "microwave_cavity", (left, 0, BOARD), (cavity - BOARD, depth / 2, height / 2))
    hand_site(oven, "microwave_put", (left, -depth / 4, BOARD), REACH_TILT, ACROSS)
    return oven


SINK = (0.38, 0.26, 0.06)  # width, depth, height of the basin
SPOUT, SPOUT_UP = 0.15, 0.16  # length of the spout and its height
LEVER, LEVER_UP, LEVER_X = 0.10, 0.11, -0.11  # length and height of the handle, and where it stands
BESIDE, BELOW = 0.036, 0.012  # from a bar's middle to the fingertips that push it: to the side, down


def sink():
    """A basin with a spout that swings to both sides and a lever for the water.

    Joints sink_spout (0 left, 0.5 ahead, 1 right) and sink_lever (0 off, 1 on); sites sink_spout_leftwards,
    sink_spout_rightwards and sink_lever_shut (the hand beside what it pushes), sink_basin (region); shapes
    sink_spout_bar, sink_spout_tube and the same for the lever.
    """
    basin = ET.Element("body", name="sink")
    width, depth, height = SINK
    box(basin, "floor", (0, 0, HALF), (width / 2, depth / 2, HALF), "sink_bowl")
    middle = (0, 0, height / 2)  # of the walls; here front and back are the long ones
    walls(basin, middle, (width / 2, depth / 2 - BOARD, height / 2), BOARD, "sink_bowl", sides=("left", "right"))
    walls(basin, middle, (width / 2 + BOARD, depth / 2, height / 2), BOARD, "sink_bowl", sides=("front", "back"))
    region(basin, "sink_basin", (0, 0, BOARD), (width / 2, depth / 2, height))
    back = depth / 2 - HALF
    for part, x, up in (("spout", 0, SPOUT_UP), ("lever", LEVER_X, LEVER_UP)):
        geom(basin, f"{part}_post", "cylinder", (x, back, up / 2 - 0.01), (0.014, up / 2 - 0.01), "sink_metal")
    spout = _arm(basin, "sink_spout", (0, back, SPOUT_UP), SPOUT, "sink_metal", span=(-1.1, 1.1))
    box(spout, "nozzle", (0, -SPOUT, -0.015), (0.012, 0.012, 0.022), "sink_metal", mass=0.02)
    lever = _arm(basin, "sink_lever", (LEVER_X, back, LEVER_UP), LEVER, "sink_grip", span=(0, 1.2), axis=(0, 0, -1))
    hand_site(spout, "sink_spout_leftwards", (BESIDE, -0.8 * SPOUT, -BELOW), yaw=ACROSS)
    hand_site(spout, "sink_spout_rightwards", (-BESIDE, -0.8 * SPOUT, -BELOW))
    hand_site(lever, "sink_lever_shut", (-BESIDE, -0.8 * LEVER, -BELOW), yaw=ACROSS)
    return basin


def _arm(parent, name, pos, length, material, span, axis=(0, 0, 1)):
    """A bar or a tube that points at -y and swings about its end: joint `name`."""
    arm = body(parent, f"{name}_arm", pos)
    joint(arm, name, "hinge", axis, span, damping=0.3, friction=0.15)
    middle, turn = (0, -length / 2, 0), (math.pi / 2, 0, 0)
    box(body(arm, f"{name}_bar"), "part", middle, (0.010, length / 2, 0.010), material)
    geom(body(arm, f"{name}_tube"), "part", "capsule", middle, (0.014, length / 2), material, turn=turn)
    return arm


STOVE = (0.36, 0.28, 0.05)  # width, depth, height
BURNERS = {"left": -0.09, "right": 0.09}  # x of the burners and of their knobs
BURNER_Y, KNOB_Y = 0.04, -0.10
KNOB = (0.010, 0.034, 0.016)  # half thickness, length and height of the ridge that is gripped
BURNER_TOP = STOVE[2] + 0.006  # height of what stands on a burner


def stove():
    """A stove with two burners and a knob in front of each.

    Of left and right: joint stove_left (0 off, 1 fully on), site stove_left_knob, knobs stove_left_round and
    stove_left_square.
    """
    top = ET.Element("body", name="stove")
    width, depth, height = STOVE
    box(top, "block", (0, 0, height / 2), (width / 2, depth / 2, height / 2), "stove_case")
    for side, x in BURNERS.items():
        thick = (BURNER_TOP - height) / 2
        geom(top, f"{side}_burner", "cylinder", (x, BURNER_Y, height + thick), (0.06, thick), "stove_burner")
        knob = body(top, f"stove_{side}_turning", (x, KNOB_Y, height + GAP))
        joint(knob, f"stove_{side}", "hinge", (0, 0, -1), span=(0, 1.5), damping=0.05, friction=0.05)
        disc, square = body(knob, f"stove_{side}_round"), body(knob, f"stove_{side}_square")
        geom(disc, "disc", "cylinder", (0, 0, 0.006), (0.036, 0.006), "stove_knob")
        box(square, "plate", (0, 0, 0.006), (0.030, 0.030, 0.006), "stove_knob")
        middle = (0, 0, 0.012 + KNOB[2])
        graspable(box(knob, "ridge", middle, KNOB, "stove_mark"))
        hand_site(knob, f"stove_{side}_knob", middle, yaw=ACROSS)
    return top


CABINET = (0.25, 0.16, 0.15)  # width, depth, height of the cabinet with two doors
HANDLE_IN = 0.04  # from the cabinet's middle to a handle
HANDLE_OUT = 0.064  # from a door's face to its handle's middle: closed fingers go between, with room for errors
HANDLES = {"bar": (0.009, 0.009, 0.050), "plate": (0.022, 0.007, 0.030)}  # half lengths; both end at the door's top
POST = 0.007  # half thickness of what joins a handle and a door
HOOK_OUT, HOOK_BELOW = 0.028, 0.025  # the fingertips' place before a door's face, below the top: no palm touches it


def cabinet():
    """A cabinet with two doors, hinged at its left and right edges, and a shelf.

    Of left and right: joint cabinet_left (0 shut, 1 open), site cabinet_left_hook between door and handle, handles
    cabinet_left_bar and cabinet_left_plate.
    """
    width, depth, height = CABINET
    root = _case("cabinet", CABINET, height / 2)
    top = height - GAP
    for side, way in (("left", 1), ("right", -1)):  # way: from a shut door's hinge along x
        name, x = f"cabinet_{side}", way * (width / 2 - HANDLE_IN)
        door = body(root, name, (-way * width / 2, -depth / 2 - GAP - HALF, 0))
        joint(door, name, "hinge", (0, 0, -way), span=(0, 1.35), damping=0.4, friction=0.3)  # a brush moves it a bit
        face = (width / 4 - GAP, HALF, height / 2 - GAP)
        box(door, "face", (way * width / 4, 0, height / 2), face, "cabinet_door", mass=0.3)
        for kind, half in HANDLES.items():  # they stand on one post, open upwards
            part = body(door, f"{name}_{kind}", (x, -HALF, top - 2 * half[2]))
            graspable(box(part, "grip", (0, -HANDLE_OUT, half[2]), half, "cabinet_handle"))
            out = (HANDLE_OUT - half[1]) / 2
            box(part, "post", (0, -out, POST), (POST, out, POST), "cabinet_handle")
        # upright, or the arm would stretch, and bend, to its limits as the hand turns with a door
        hand_site(door, f"{name}_hook", (x, -HALF - HOOK_OUT, height - HOOK_BELOW), yaw=ACROSS)
    return root


BEFORE = 0.13  # from a fixture's front to the middle of the counter before it
COUNTER = (0.22, 0.09, 0.05)  # half width, half depth and height of what counts as that counter


def _counter(parent, name, front):
    """The stretch of table before a fixture whose front is at -front: region and place to put something down."""
    region(parent, f"{name}_counter", (0, -front - BEFORE, 0), COUNTER)
    hand_site(parent, f"{name}_counter_put", (0, -front - BEFORE, DROP), REACH_TILT, ACROSS)


CUPBOARD = (0.35, 0.20, 0.32)  # width, depth, height
CUPBOARD_FLOOR = 0.11  # its shelf stands this high


def cupboard():
    """An open cupboard on a block, so that its shelf is raised.

    Sites cupboard_shelf (region), cupboard_counter (region before it) and cupboard_counter_put.
    """
    case = ET.Element("body", name="cupboard")
    width, depth, height = CUPBOARD
    foot = (width / 2, depth / 2, CUPBOARD_FLOOR / 2)
    box(case, "foot", (0, 0, CUPBOARD_FLOOR / 2), foot, "cupboard_block")
    middle, half = (height + CUPBOARD_FLOOR) / 2, (height - CUPBOARD_FLOOR) / 2
    inside = (width / 2, depth / 2, half - HALF)  # under the top
    walls(case, (0, 0, middle), (width / 2, depth / 2, half), BOARD, "cupboard_boards", sides=("left", "right"))
    box(case, "top", (0, 0, height - HALF), (width / 2 - BOARD, depth / 2, HALF), "cupboard_boards")
    walls(case, (0, 0, middle - HALF), inside, BOARD, "cupboard_boards", sides=("back",))
    region(case, "cupboard_shelf", (0, 0, CUPBOARD_FLOOR), (width / 2, depth / 2, half))
    _counter(case, "cupboard", depth / 2)
    return case


MACHINE = (0.16, 0.20, 0.30)  # width, depth, height
SPOT = 0.045  # from the machine's front to the middle of where the mug stands
HEAD_DEEP, HEAD_HIGH = 0.14, 0.07


def coffee_machine():
    """A coffee machine: a foot, a back and a head over the mug.

    Sites machine_spot (region under the head), machine_counter (region before it) and machine_counter_put.
    """
    machine = ET.Element("body", name="machine")
    width, depth, height = MACHINE
    back, front = (depth - HEAD_DEEP) / 2, -depth / 2
    head = (0, front + HEAD_DEEP / 2, height - HEAD_HIGH / 2)
    nozzle = (0, front + SPOT, height - HEAD_HIGH - 0.008)
    box(machine, "foot", (0, 0, HALF), (width / 2, depth / 2, HALF), "machine_trim")
    box(machine, "back", (0, depth / 2 - back, height / 2), (width / 2, back, height / 2), "machine_case")
    box(machine, "head", head, (width / 2, HEAD_DEEP / 2, HEAD_HIGH / 2), "machine_case")
    geom(machine, "nozzle", "cylinder", nozzle, (0.014, 0.008), "machine_trim")
    region(machine, "machine_spot", (0, front + SPOT, BOARD), (width / 2, SPOT, height / 2))
    _counter(machine, "machine", depth / 2)
    return machine


RIM, SIDES = 0.008, 12  # half height of the rim of a dish, and its straight parts


def plate():
    """A plate on the table: sites plate_inside (region) and plate_put."""
    return _dish("plate", radius=0.075)


def pan():
    """A pan on a burner of a stove: sites pan_inside (region) and pan_put."""
    return _dish("pan", radius=0.065, up=BURNER_TOP, handle=0.04)


def _dish(name, radius, up=0.0, handle=0.0):
    """A disc with a rim, its underside at height `up`; handle: half the length of one."""
    dish = ET.Element("body", name=name)
    geom(dish, "disc", "cylinder", (0, 0, up + 0.003), (radius, 0.003), name)
    part = (0.003, radius * math.tan(math.pi / SIDES), RIM)
    for i in range(SIDES):
        turn = 2 * math.pi * i / SIDES
        at = (radius * math.cos(turn), radius * math.sin(turn), up + RIM)
        box(dish, f"rim{i}", at, part, name, turn=(0, 0, turn))
    if handle:
        box(dish, "handle", (0, radius + handle, up + RIM), (0.009, handle, 0.006), name)
    region(dish, f"{name}_inside", (0, 0, up), (radius * 0.9, 0.05))
    hand_site(dish, f"{name}_put", (0, 0, up + 0.006 + DROP), yaw=ACROSS)
    return dish


BIN = (0.085, 0.085, 0.03)  # half width, half depth, half height


def basket():
    """An open box to put things in: sites basket_inside (region) and basket_put."""
    crate = ET.Element("body", name="basket")
    wide, deep, high = BIN
    box(crate, "floor", (0, 0, HALF), (wide, deep, HALF), "basket")
    outside = (wide + HALF, deep + HALF, high)
    walls(crate, (0, 0, high), outside, BOARD, "basket", sides=("left", "right", "front", "back"))
    region(crate, "basket_inside", (0, 0, BOARD), (wide, deep, 2 * high))
    hand_site(crate, "basket_put", (0, 0, BOARD + DROP), yaw=ACROSS)
    return crate
