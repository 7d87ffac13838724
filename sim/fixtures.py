"""Things that stand on the table, as MJCF bodies of simple shapes: each names its joints and the sites a hand goes to.

A fixture's own frame stands on the table, z up, and opens towards -y (the front camera's side; its left is -x).
A site's frame is the pose that the hand takes there: x along the fingers' travel, z out of the hand.
Colours live in one material per part, so that an episode repaints a part by a single edit. Where a fixture has two
shapes of a part, each is a body of its own and an episode uses one.
"""

import math
import xml.etree.ElementTree as ET

from sim.mjcf import ACROSS, body, box, geom, graspable, hand_site, hinge, region, slider, text, walls

CHEST = (0.26, 0.20, 0.20)  # width, depth, height
BOARD = 0.012  # thickness of the boards of all fixtures
HALF = BOARD / 2
SHELF = 0.095  # height of the board under the drawer
GAP = 0.003  # between parts that slide past each other: touching them would lock the drawer
TRAVEL = 0.15  # how far the drawer opens
HANDLE = 0.018  # thickness of the graspable bar
REACH_OUT = 0.036  # from the drawer's front to the middle of the bar
GRASP_TILT = 0.8  # the hand comes from above and in front, clear of the chest
PUSH_TILT = 0.5
REACH_TILT = 0.9  # of a hand that brings something into a fixture or takes it out
TIP = 0.022  # metres from the point between the fingertips to what their ends are about to press
PUSH_GAP, PUSH_BELOW = 0.035, 0.015  # the fingertips wait in front of the bar, and reach below its middle


def drawer(name):
    """A chest with one drawer above a closed one.

    Joint `<name>_slide` (0 shut, 1 open); sites `<name>_handle` (grasp) and `<name>_push`; handles `<name>_bar` and
    `<name>_knob`.
    """
    chest = ET.Element("body", name=name)
    case, front, handle = f"{name}_case", f"{name}_front", f"{name}_handle"
    width, depth, height = CHEST
    walls(chest, (0, 0, height / 2), (width / 2, depth / 2, height / 2), BOARD, case)
    for part, z in (("bottom", HALF), ("shelf", SHELF), ("top", height - HALF)):
        box(chest, part, (0, -HALF, z), (width / 2 - BOARD, depth / 2 - HALF, HALF), case)
    lower = (SHELF - HALF) / 2
    box(chest, "lower", (0, -depth / 2 - HALF, lower), (width / 2 - GAP, HALF, lower - GAP), front)
    box(chest, "lower_bar", (0, -depth / 2 - BOARD - 0.01, lower), (0.05, 0.01, 0.008), handle)
    _tray(chest, name, case, front, handle)
    return chest


def _tray(chest, name, case, front, handle):
    """The moving part of a drawer: an open box behind a front that covers the chest's upper half."""
    width, depth, height = CHEST
    low, high = SHELF + HALF + GAP, height - BOARD - GAP  # room between shelf and top
    inside, long = width / 2 - BOARD - GAP, depth / 2 - BOARD
    wall = (high - low) * 0.35  # half height of the walls, lower than the front
    tray = body(chest, f"{name}_box")
    slider(tray, f"{name}_slide", axis=(0, -1, 0), travel=TRAVEL)
    box(tray, "floor", (0, -BOARD, low + HALF), (inside, long, HALF), case)
    walls(tray, (0, -BOARD, low + BOARD + wall), (inside, long, wall), BOARD, case)
    y = -depth / 2 - GAP - HALF
    middle = (SHELF + height) / 2
    box(tray, "face", (0, y, middle), (width / 2 - GAP, HALF, (height - SHELF) / 2 - GAP), front, mass=0.3)
    y -= HALF
    for kind, half_length, posts in (("bar", 0.055, (-0.04, 0.04)), ("knob", 0.022, (0.0,))):
        part = body(tray, f"{name}_{kind}", (0, y, middle))
        grip = box(part, "grip", (0, -REACH_OUT, 0), (half_length, HANDLE / 2, HANDLE / 2), handle)
        grip.set("axisangle", text((1, 0, 0, GRASP_TILT)))  # its faces meet the fingers flat
        graspable(grip)
        post = (REACH_OUT - HANDLE / 2) / 2
        for i, x in enumerate(posts):
            box(part, f"post{i}", (x, -post, 0), (0.006, post, 0.006), handle)
    hand_site(tray, f"{name}_handle", (0, y - REACH_OUT, middle), GRASP_TILT)
    hand_site(tray, f"{name}_push", (0, y - REACH_OUT - PUSH_GAP, middle - PUSH_BELOW), PUSH_TILT)


OVEN = (0.36, 0.20, 0.21)  # width, depth, height of the microwave oven
PANEL = 0.10  # width of its control panel, on the right
BUTTON = 0.022  # half width of a button, large enough to be seen in 64 pixels
PRESS = 0.018  # how far a button goes in
PRESS_TILT = 0.8
STOP, START = 0.07, 0.14  # heights of the two buttons


def microwave(name):
    """A microwave oven with an open cavity and two buttons that stay where they are pressed to.

    Joints `<name>_stop_press`, `<name>_start_press` (1 pressed in); sites `<name>_stop`, `<name>_start` (the hand in
    front of a button), `<name>_cavity` (region) and `<name>_put` (where an object's underside goes); buttons
    `<name>_stop_square`, `<name>_stop_round` and the same for start; `<name>_door` closes the cavity unless it is
    disabled.
    """
    oven = ET.Element("body", name=name)
    case, panel, door = f"{name}_case", f"{name}_panel", f"{name}_glass"
    width, depth, height = OVEN
    cavity = (width - PANEL) / 2  # half its width, walls included
    left = -PANEL / 2  # x of its middle
    for part, z in (("floor", HALF), ("top", height - HALF)):
        box(oven, part, (left, 0, z), (cavity, depth / 2, HALF), case)
    walls(oven, (left, 0, height / 2), (cavity, depth / 2, height / 2 - BOARD), BOARD, case)
    pane = body(oven, f"{name}_door")
    box(pane, "pane", (left, -depth / 2 - GAP - HALF, height / 2), (cavity, HALF, height / 2), door)
    side = width / 2 - PANEL / 2
    back = depth / 2 - BOARD  # the panel is set back, so that a button can go in
    box(oven, "block", (side, BOARD, height / 2), (PANEL / 2, back, height / 2), panel)
    for kind, z in (("stop", STOP), ("start", START)):
        _button(oven, f"{name}_{kind}", (side, -depth / 2, z))
    region(oven, f"{name}_cavity", (left, 0, BOARD), (cavity - BOARD, depth / 2, height / 2))
    hand_site(oven, f"{name}_put", (left, -depth / 4, BOARD), REACH_TILT, ACROSS)
    return oven


def _button(parent, name, pos):
    """A button that slides in along y, square or round; its material has its own name."""
    moving = body(parent, f"{name}_button", pos)
    slider(moving, f"{name}_press", axis=(0, 1, 0), travel=PRESS, friction=2)
    box(body(moving, f"{name}_square"), "cap", (0, 0, 0), (BUTTON, HALF, BUTTON), name)
    turn = (math.pi / 2, 0, 0)
    geom(body(moving, f"{name}_round"), "cap", "cylinder", (0, 0, 0), (BUTTON * 1.2, HALF), name, turn=turn)
    hand_site(moving, name, (0, -HALF - TIP, 0), PRESS_TILT, ACROSS)


SINK = (0.38, 0.26, 0.06)  # width, depth, height of the basin
SPOUT, SPOUT_UP = 0.15, 0.16  # length of the spout and its height
LEVER, LEVER_UP, LEVER_X = 0.10, 0.11, -0.11  # length and height of the handle, and where it stands
BESIDE = 0.036  # from the middle of a bar to the fingertips that push it
BELOW = 0.012  # how far the fingertips reach below a bar's middle


def sink(name):
    """A basin with a spout that swings to both sides and a lever for the water.

    Joints `<name>_spout` (0 left, 0.5 ahead, 1 right) and `<name>_lever` (0 off, 1 on); sites
    `<name>_spout_leftwards`, `<name>_spout_rightwards` and `<name>_lever_shut` (the hand beside what it pushes),
    `<name>_basin` (region); shapes `<name>_spout_bar`, `<name>_spout_tube` and the same for the lever.
    """
    basin = ET.Element("body", name=name)
    bowl, metal, grip = f"{name}_bowl", f"{name}_metal", f"{name}_grip"
    width, depth, height = SINK
    box(basin, "floor", (0, 0, HALF), (width / 2, depth / 2, HALF), bowl)
    middle = (0, 0, height / 2)  # of the walls; here front and back are the long ones
    walls(basin, middle, (width / 2, depth / 2 - BOARD, height / 2), BOARD, bowl, sides=("left", "right"))
    walls(basin, middle, (width / 2 + BOARD, depth / 2, height / 2), BOARD, bowl, sides=("front", "back"))
    region(basin, f"{name}_basin", (0, 0, BOARD), (width / 2, depth / 2, height))
    back = depth / 2 - HALF
    for part, x, up in (("spout", 0, SPOUT_UP), ("lever", LEVER_X, LEVER_UP)):
        geom(basin, f"{part}_post", "cylinder", (x, back, up / 2 - 0.01), (0.014, up / 2 - 0.01), metal)
    spout = _arm(basin, f"{name}_spout", (0, back, SPOUT_UP), SPOUT, metal, span=(-1.1, 1.1))
    box(spout, "nozzle", (0, -SPOUT, -0.015), (0.012, 0.012, 0.022), metal, mass=0.02)
    lever = _arm(basin, f"{name}_lever", (LEVER_X, back, LEVER_UP), LEVER, grip, span=(0, 1.2), axis=(0, 0, -1))
    hand_site(spout, f"{name}_spout_leftwards", (BESIDE, -0.8 * SPOUT, -BELOW), yaw=ACROSS)
    hand_site(spout, f"{name}_spout_rightwards", (-BESIDE, -0.8 * SPOUT, -BELOW))
    hand_site(lever, f"{name}_lever_shut", (-BESIDE, -0.8 * LEVER, -BELOW), yaw=ACROSS)
    return basin


def _arm(parent, name, pos, length, material, span, axis=(0, 0, 1)):
    """A bar or a tube that points at -y and swings about its end: joint `name`."""
    arm = body(parent, f"{name}_arm", pos)
    hinge(arm, name, axis=axis, span=span, damping=0.3, friction=0.15)
    middle, turn = (0, -length / 2, 0), (math.pi / 2, 0, 0)
    box(body(arm, f"{name}_bar"), "part", middle, (0.010, length / 2, 0.010), material)
    geom(body(arm, f"{name}_tube"), "part", "capsule", middle, (0.014, length / 2), material, turn=turn)
    return arm


STOVE = (0.36, 0.28, 0.05)  # width, depth, height
BURNERS = {"left": -0.09, "right": 0.09}  # x of the burners and of their knobs
BURNER_Y, KNOB_Y = 0.04, -0.10
KNOB = (0.010, 0.034, 0.016)  # half thickness, length and height of the ridge that is gripped
KNOB_TURN = 1.5
BURNER_TOP = STOVE[2] + 0.006  # height of what stands on a burner


def stove(name):
    """A stove with two burners and a knob in front of each.

    Joints `<name>_left`, `<name>_right` (0 off, 1 fully on); sites `<name>_left_knob`, `<name>_right_knob`; knobs
    `<name>_left_round`, `<name>_left_square` and the same for right.
    """
    top = ET.Element("body", name=name)
    case, burner, knob, mark = f"{name}_case", f"{name}_burner", f"{name}_knob", f"{name}_mark"
    width, depth, height = STOVE
    box(top, "block", (0, 0, height / 2), (width / 2, depth / 2, height / 2), case)
    for side, x in BURNERS.items():
        thick = (BURNER_TOP - height) / 2
        geom(top, f"{side}_burner", "cylinder", (x, BURNER_Y, height + thick), (0.06, thick), burner)
        turning = body(top, f"{name}_{side}_turning", (x, KNOB_Y, height + GAP))
        hinge(turning, f"{name}_{side}", axis=(0, 0, -1), span=(0, KNOB_TURN), damping=0.05, friction=0.05)
        geom(body(turning, f"{name}_{side}_round"), "disc", "cylinder", (0, 0, 0.006), (0.036, 0.006), knob)
        box(body(turning, f"{name}_{side}_square"), "plate", (0, 0, 0.006), (0.030, 0.030, 0.006), knob)
        middle = (0, 0, 0.012 + KNOB[2])
        graspable(box(turning, "ridge", middle, KNOB, mark))
        hand_site(turning, f"{name}_{side}_knob", middle, yaw=ACROSS)
    return top


CABINET = (0.25, 0.16, 0.15)  # width, depth, height of the cabinet with two doors
SWING = 1.35  # radians that a door opens
DOOR_DAMPING, DOOR_FRICTION = 0.4, 0.3  # N m s and N m: a brush of the arm moves a door a little
HANDLE_IN = 0.04  # from the cabinet's middle to a handle
HANDLE_OUT = 0.064  # from a door's face to its handle's middle: closed fingers go between, with room for errors
HANDLES = {"bar": (0.009, 0.009, 0.050), "plate": (0.022, 0.007, 0.030)}  # half lengths; both end at the door's top
POST = 0.007  # half thickness of what joins a handle and a door
HOOK_OUT, HOOK_BELOW = 0.028, 0.025  # the fingertips' place before a door's face, below the top: no palm touches it


def cabinet(name):
    """A cabinet with two doors, hinged at its left and right edges, and a shelf.

    Joints `<name>_left` and `<name>_right` (0 shut, 1 open); on either side the site `<name>_<side>_hook` between door
    and handle, and the handles `<name>_<side>_bar` and `<name>_<side>_plate`.
    """
    root = ET.Element("body", name=name)
    case, door, handle = f"{name}_case", f"{name}_door", f"{name}_handle"
    width, depth, height = CABINET
    walls(root, (0, 0, height / 2), (width / 2, depth / 2, height / 2), BOARD, case)
    for part, z in (("bottom", HALF), ("shelf", height / 2), ("top", height - HALF)):
        box(root, part, (0, -HALF, z), (width / 2 - BOARD, depth / 2 - HALF, HALF), case)
    for side, way in (("left", 1), ("right", -1)):
        _door(root, f"{name}_{side}", way, door, handle)
    return root


def _door(root, name, way, door, handle):
    """One door with its handles, which reaches from its hinge by `way` (1 or -1) along x when it is shut."""
    width, depth, height = CABINET
    panel = body(root, name, (-way * width / 2, -depth / 2 - GAP - HALF, 0))
    hinge(panel, name, axis=(0, 0, -way), span=(0, SWING), damping=DOOR_DAMPING, friction=DOOR_FRICTION)
    half = (width / 4 - GAP, HALF, height / 2 - GAP)
    box(panel, "face", (way * width / 4, 0, height / 2), half, door, mass=0.3)
    x, top = way * (width / 2 - HANDLE_IN), height - GAP
    for kind, half in HANDLES.items():  # they stand on one post, open upwards
        part = body(panel, f"{name}_{kind}", (x, -HALF, top - 2 * half[2]))
        graspable(box(part, "grip", (0, -HANDLE_OUT, half[2]), half, handle))
        out = (HANDLE_OUT - half[1]) / 2
        box(part, "post", (0, -out, POST), (POST, out, POST), handle)
    # upright, or the arm would stretch, and bend, to its limits as the hand turns with a door
    hand_site(panel, f"{name}_hook", (x, -HALF - HOOK_OUT, height - HOOK_BELOW), yaw=ACROSS)


CUPBOARD = (0.35, 0.20, 0.32)  # width, depth, height
CUPBOARD_FLOOR = 0.11  # its shelf stands this high
BEFORE = 0.13  # from a fixture's front to the middle of the counter before it
COUNTER = (0.22, 0.09, 0.05)  # half width, half depth and height of what counts as that counter
DROP = 0.006  # metres above its place at which something is let go


def _counter(parent, name, front):
    """The stretch of table before a fixture whose front is at -front: region and place to put something down."""
    region(parent, f"{name}_counter", (0, -front - BEFORE, 0), COUNTER)
    hand_site(parent, f"{name}_counter_put", (0, -front - BEFORE, DROP), REACH_TILT, ACROSS)


def cupboard(name):
    """An open cupboard on a block, so that its shelf is raised.

    Sites `<name>_shelf` (region), `<name>_counter` (region before it) and `<name>_counter_put`.
    """
    case = ET.Element("body", name=name)
    boards, block = f"{name}_boards", f"{name}_block"
    width, depth, height = CUPBOARD
    box(case, "foot", (0, 0, CUPBOARD_FLOOR / 2), (width / 2, depth / 2, CUPBOARD_FLOOR / 2), block)
    middle, half = (height + CUPBOARD_FLOOR) / 2, (height - CUPBOARD_FLOOR) / 2
    walls(case, (0, 0, middle), (width / 2, depth / 2, half), BOARD, boards, sides=("left", "right"))
    box(case, "top", (0, 0, height - HALF), (width / 2 - BOARD, depth / 2, HALF), boards)
    walls(case, (0, 0, middle - HALF), (width / 2, depth / 2, half - HALF), BOARD, boards, sides=("back",))
    region(case, f"{name}_shelf", (0, 0, CUPBOARD_FLOOR), (width / 2, depth / 2, half))
    _counter(case, name, depth / 2)
    return case


MACHINE = (0.16, 0.20, 0.30)  # width, depth, height
SPOT = 0.045  # from the machine's front to the middle of where the mug stands
HEAD_DEEP, HEAD_HIGH = 0.14, 0.07


def coffee_machine(name):
    """A coffee machine: a foot, a back and a head over the mug.

    Sites `<name>_spot` (region under the head), `<name>_counter` (region before it) and `<name>_counter_put`.
    """
    machine = ET.Element("body", name=name)
    case, trim = f"{name}_case", f"{name}_trim"
    width, depth, height = MACHINE
    box(machine, "foot", (0, 0, HALF), (width / 2, depth / 2, HALF), trim)
    back, front = (depth - HEAD_DEEP) / 2, -depth / 2
    box(machine, "back", (0, depth / 2 - back, height / 2), (width / 2, back, height / 2), case)
    head = (0, front + HEAD_DEEP / 2, height - HEAD_HIGH / 2)
    box(machine, "head", head, (width / 2, HEAD_DEEP / 2, HEAD_HIGH / 2), case)
    geom(machine, "nozzle", "cylinder", (0, front + SPOT, height - HEAD_HIGH - 0.008), (0.014, 0.008), trim)
    region(machine, f"{name}_spot", (0, front + SPOT, BOARD), (width / 2, SPOT, height / 2))
    _counter(machine, name, depth / 2)
    return machine


PAN, PAN_HANDLE, PLATE = 0.065, 0.04, 0.075  # radius, half length of the handle, radius
RIM, SIDES = 0.008, 12  # half height of the rim of a dish, and its straight parts


def plate(name):
    """A plate on the table: sites `<name>_inside` (region) and `<name>_put`."""
    return _dish(name, PLATE)


def pan(name):
    """A pan on a burner of a stove: the sites of a plate."""
    return _dish(name, PAN, up=BURNER_TOP, handle=PAN_HANDLE)


def _dish(name, radius, up=0.0, handle=0.0):
    root = ET.Element("body", name=name)
    geom(root, "disc", "cylinder", (0, 0, up + 0.003), (radius, 0.003), name)
    part = (0.003, radius * math.tan(math.pi / SIDES), RIM)
    for i in range(SIDES):
        turn = 2 * math.pi * i / SIDES
        at = (radius * math.cos(turn), radius * math.sin(turn), up + RIM)
        box(root, f"rim{i}", at, part, name, turn=(0, 0, turn))
    if handle:
        box(root, "handle", (0, radius + handle, up + RIM), (0.009, handle, 0.006), name)
    region(root, f"{name}_inside", (0, 0, up), (radius * 0.9, 0.05))
    hand_site(root, f"{name}_put", (0, 0, up + 0.006 + DROP), yaw=ACROSS)
    return root


BIN = (0.085, 0.085, 0.03)  # half width, half depth, half height


def basket(name):
    """An open box to put things in: sites `<name>_inside` (region) and `<name>_put`."""
    crate = ET.Element("body", name=name)
    wide, deep, high = BIN
    box(crate, "floor", (0, 0, HALF), (wide, deep, HALF), name)
    outside = (wide + HALF, deep + HALF, high)
    walls(crate, (0, 0, high), outside, BOARD, name, sides=("left", "right", "front", "back"))
    region(crate, f"{name}_inside", (0, 0, BOARD), (wide, deep, 2 * high))
    hand_site(crate, f"{name}_put", (0, 0, BOARD + DROP), yaw=ACROSS)
    return crate
