"""Things that stand on the table, as MJCF built from simple shapes: each names its joints and the sites a hand goes to.

A fixture's own frame stands on the table, z up, and opens towards -y (the robot's side).
A site's frame is the pose that the hand takes there: x along the fingers' travel, z out of the hand.
Colours live in one material per part, so that an episode repaints a part by a single edit.
"""

import xml.etree.ElementTree as ET

from sim.mjcf import Fixture, body, box, graspable, hand_site, slider, text

CHEST = (0.26, 0.20, 0.20)  # width, depth, height
BOARD = 0.012  # thickness of the chest's boards
SHELF = 0.095  # height of the board under the drawer
GAP = 0.003  # between parts that slide past each other: touching them would lock the drawer
TRAVEL = 0.15  # how far the drawer opens
HANDLE = 0.018  # thickness of the graspable bar
REACH_OUT = 0.036  # from the drawer's front to the middle of the bar
GRASP_TILT = 0.8  # the hand comes from above and in front, clear of the chest
PUSH_TILT = 0.5
PUSH_GAP, PUSH_BELOW = 0.035, 0.015  # the fingertips wait in front of the bar, and reach below its middle


def drawer(name: str) -> Fixture:
    """A chest with one drawer above a closed one.

    Joint `<name>_slide` (0 shut, 1 open); sites `<name>_handle` (grasp) and `<name>_push`; bodies
    `<name>_bar` and `<name>_knob` are two handles, of which an episode uses one.
    """
    chest = ET.Element("body", name=name)
    case, front, handle = f"{name}_case", f"{name}_front", f"{name}_handle"
    width, depth, height = CHEST
    board = BOARD / 2
    side = width / 2 - board
    box(chest, f"{name}_left", (-side, 0, height / 2), (board, depth / 2, height / 2), case)
    box(chest, f"{name}_right", (side, 0, height / 2), (board, depth / 2, height / 2), case)
    box(chest, f"{name}_back", (0, depth / 2 - board, height / 2), (side - board, board, height / 2), case)
    inner = (side - board, depth / 2 - BOARD / 2, board)
    for part, z in (("bottom", board), ("shelf", SHELF), ("top", height - board)):
        box(chest, f"{name}_{part}", (0, -BOARD / 2, z), inner, case)
    lower = (SHELF - board) / 2
    box(chest, f"{name}_lower", (0, -depth / 2 - board, lower), (width / 2 - GAP, board, lower - GAP), front)
    box(chest, f"{name}_lower_bar", (0, -depth / 2 - BOARD - 0.01, lower), (0.05, 0.01, 0.008), handle)
    _slider(chest, name, case, front, handle)
    return Fixture(name, chest, (case, front, handle))


def _slider(chest: ET.Element, name: str, case: str, front: str, handle: str) -> None:
    """The moving part of a drawer: an open box behind a front that covers the chest's upper half."""
    width, depth, height = CHEST
    board = BOARD / 2
    low, high = SHELF + board + GAP, height - BOARD - GAP  # room between shelf and top
    inside = width / 2 - BOARD - GAP
    tray = body(chest, f"{name}_box")
    slider(tray, f"{name}_slide", axis=(0, -1, 0), travel=TRAVEL)
    wall = (high - low) * 0.35  # half height of the walls, lower than the front
    long = depth / 2 - BOARD
    box(tray, f"{name}_floor", (0, -BOARD, low + board), (inside, long, board), case)
    for part, x in (("wall_left", -inside + board), ("wall_right", inside - board)):
        box(tray, f"{name}_{part}", (x, -BOARD, low + BOARD + wall), (board, long, wall), case)
    box(tray, f"{name}_wall_back", (0, long - BOARD - board, low + BOARD + wall),
         (inside - BOARD, board, wall), case)
    y = -depth / 2 - GAP - board
    middle = (SHELF + height) / 2
    panel = (width / 2 - GAP, board, (height - SHELF) / 2 - GAP)
    box(tray, f"{name}_face", (0, y, middle), panel, front, mass=0.3)
    y -= board
    for kind, half_length, posts in (("bar", 0.055, (-0.04, 0.04)), ("knob", 0.022, (0.0,))):
        part = body(tray, f"{name}_{kind}", (0, y, middle))
        grip = box(part, f"{name}_{kind}_grip", (0, -REACH_OUT, 0),
                    (half_length, HANDLE / 2, HANDLE / 2), handle)
        grip.set("axisangle", text((1, 0, 0, GRASP_TILT)))  # its faces meet the fingers flat
        graspable(grip)
        for i, x in enumerate(posts):
            post = (REACH_OUT - HANDLE / 2) / 2
            box(part, f"{name}_{kind}_post{i}", (x, -post, 0), (0.006, post, 0.006), handle)
    hand_site(tray, f"{name}_handle", (0, y - REACH_OUT, middle), GRASP_TILT)
    hand_site(tray, f"{name}_push", (0, y - REACH_OUT - PUSH_GAP, middle - PUSH_BELOW), PUSH_TILT)
