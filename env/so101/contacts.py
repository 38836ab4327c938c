"""Tells what holds the cube, read off MuJoCo's contact list, and judged so that no trick counts as holding."""

import math
from enum import IntEnum
from typing import Any, NamedTuple

import mujoco
import numpy as np

from env.so101.model import CUBE_HALF, ArmModel

MAX_OVERLAP = 1e-3
"""Metres by which the cube may enter a finger or the table. Deeper is interpenetration, and holds nothing."""
FLAT = math.cos(math.radians(8))
"""Cosine of the tilt up to which a cube stands on a face and not on an edge."""
RESTING_SPEED, HELD_SPEED = 0.15, 0.5
"""Speeds, m/s, that no corner of a cube at rest exceeds, and none of one that is held: a faster one is being flung."""
CLEARANCE = 5e-3
"""Metres from the table to the lowest corner of a cube that is in the air. One that is dragged hops by less."""


class Hold(IntEnum):
    """Names what keeps the cube where it is. A goal on the table takes TABLE, one in the air the next, GRIP."""

    NONE = 0
    """Nothing: it flies, slides, tumbles, leans on an edge, is flung, or crushed into a finger or the table."""
    TABLE = 1
    """It lies still on a face on the table, or is pinched there."""
    GRIP = 2
    """It is pinched clear of the table."""


class CubeContacts(NamedTuple):
    """Says what meets the cube.

    touched: any part of the arm does. pinched: both pads do, from opposite sides and without entering it deeper than
    MAX_OVERLAP. overlap, table_overlap: how deep arm and table enter it, m.
    """

    touched: bool
    pinched: bool
    on_table: bool
    overlap: float
    table_overlap: float


def cube_contacts(model: ArmModel, data: mujoco.MjData) -> CubeContacts:
    """Reads off the contact list of `data`'s current state what meets the cube."""
    cube, floor, pads = model.cube_geom, model.floor_geom, model.jaw_pads
    contact = data.contact
    touched = on_table = False
    overlap = table_overlap = 0.0
    pad_rows: dict[int, list[int]] = {pad: [] for pad in pads}
    # Plain Python: for a handful of contacts NumPy takes longer.
    pairs = contact.geom.tolist()
    for row, ((first, second), distance) in enumerate(zip(pairs, contact.dist.tolist(), strict=True)):
        if cube not in (first, second):
            continue
        other = second if first == cube else first
        if other == floor:
            on_table, table_overlap = True, max(table_overlap, -distance)
            continue
        touched, overlap = True, max(overlap, -distance)
        if other in pad_rows:
            pad_rows[other].append(row)
    pinched = all(pad_rows.values()) and overlap <= MAX_OVERLAP
    if pinched:
        pushes = (_push(contact, rows, cube) for rows in pad_rows.values())
        # Pads on the same side of a cube do not push against each other.
        pinched = sum(a * b for a, b in zip(*pushes, strict=True)) < -0.5
    return CubeContacts(touched, pinched, on_table, overlap, table_overlap)


def arm_overlap(model: ArmModel, data: mujoco.MjData) -> float:
    """Returns how deep the arm is in the cube, m: cube_contacts(…).overlap, for whoever looks at every physics step."""
    contact = data.contact
    pairs, distances = contact.geom.tolist(), contact.dist.tolist()
    cube, floor = model.cube_geom, model.floor_geom
    return max(
        (-d for pair, d in zip(pairs, distances, strict=True) if cube in pair and floor not in pair), default=0.0
    )


def _push(contact: Any, rows: list[int], cube: int) -> list[float]:
    """Returns the mean of the unit normals (3,) along which the contacts in `rows` push the cube."""
    x = y = z = 0.0
    for row in rows:
        # MuJoCo's normal points from the first geom to the second.
        sign = 1 if contact.geom[row, 1] == cube else -1
        nx, ny, nz = contact.frame[row, :3].tolist()
        x, y, z = x + sign * nx, y + sign * ny, z + sign * nz
    return [x / len(rows), y / len(rows), z / len(rows)]


def cube_hold(contacts: CubeContacts, height: float, uprightness: list[float], corner_speed: float) -> Hold:
    """Says what holds a cube whose centre is `height` m above the table and whose corners move at `corner_speed` m/s.

    uprightness: the cosines between each of its three axes and the vertical, signs left out.
    """
    if max(contacts.overlap, contacts.table_overlap) > MAX_OVERLAP:
        return Hold.NONE
    if contacts.pinched and corner_speed <= HELD_SPEED:
        lowest_corner = height - CUBE_HALF * sum(uprightness)
        return Hold.GRIP if lowest_corner >= CLEARANCE else Hold.TABLE
    lies_still = contacts.on_table and max(uprightness) >= FLAT and corner_speed <= RESTING_SPEED
    return Hold.TABLE if lies_still else Hold.NONE


def corner_speed(velocity: np.ndarray) -> float:
    """Returns a speed that no corner of the cube exceeds, m/s. velocity (6,): linear m/s, angular rad/s."""
    vx, vy, vz, wx, wy, wz = velocity.tolist()
    return math.hypot(vx, vy, vz) + math.sqrt(3) * CUBE_HALF * math.hypot(wx, wy, wz)
