"""Tells what holds the cube, read off MuJoCo's contact lists, and judged so that no trick counts as holding."""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

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
    """Says what meets the cube of each of N simulations, (N,) each.

    touched: any part of the arm does. pinched: both pads do, from opposite sides and without entering it deeper than
    MAX_OVERLAP. overlap, table_overlap: how deep arm and table enter it, m.
    """

    touched: np.ndarray
    pinched: np.ndarray
    on_table: np.ndarray
    overlap: np.ndarray
    table_overlap: np.ndarray


def cube_contacts(model: ArmModel, simulated: Sequence[mujoco.MjData]) -> CubeContacts:
    """Reads off the contact lists of the current states of N `simulated` what meets the cube."""
    lists = [data.contact for data in simulated]
    distances = [contact.dist for contact in lists]
    pairs = np.concatenate([contact.geom for contact in lists])
    rows = np.flatnonzero((pairs[:, 0] == model.cube_geom) | (pairs[:, 1] == model.cube_geom))
    where = np.repeat(np.arange(len(lists)), [len(each) for each in distances])[rows]
    other = pairs.sum(1)[rows] - model.cube_geom
    # Tables of simulations and geoms that meet the cube in them: how often, and how deep.
    shape = len(lists), model.mj.ngeom
    cells = where * shape[1] + other
    count = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    depth = np.zeros(shape)
    np.maximum.at(depth.reshape(-1), cells, -np.concatenate(distances)[rows])
    table, table_overlap = count[:, model.floor_geom], depth[:, model.floor_geom].copy()
    depth[:, model.floor_geom] = 0.0
    overlap, pads = depth.max(1), count[:, model.jaw_pads]
    pinched = (pads[:, 0] > 0) & (pads[:, 1] > 0) & (overlap <= MAX_OVERLAP)
    if pinched.any():
        # MuJoCo's normal points from the first geom to the second.
        signs = np.where(pairs[rows, 1] == model.cube_geom, 1, -1)
        pushes = np.zeros((*shape, 3))
        np.add.at(pushes, (where, other), signs[:, None] * np.concatenate([each.frame[:, :3] for each in lists])[rows])
        fixed, moving = (pushes[:, pad] / np.maximum(count[:, pad], 1)[:, None] for pad in model.jaw_pads)
        # Pads on the same side of a cube do not push against each other.
        pinched &= (fixed * moving).sum(1) < -0.5
    return CubeContacts(count.sum(1) > table, pinched, table > 0, overlap, table_overlap)


def arm_overlap(model: ArmModel, data: mujoco.MjData) -> float:
    """Returns how deep the arm is in the cube, m: cube_contacts(…).overlap, for whoever looks at every physics step."""
    contact = data.contact
    pairs, distances = contact.geom.tolist(), contact.dist.tolist()
    cube, floor = model.cube_geom, model.floor_geom
    return max(
        (-d for pair, d in zip(pairs, distances, strict=True) if cube in pair and floor not in pair), default=0.0
    )


def cube_hold(
    contacts: CubeContacts, height: np.ndarray, uprightness: np.ndarray, corner_speed: np.ndarray
) -> np.ndarray:
    """Returns the Hold, (N,) int, of cubes whose centres are `height` m above the table, and whose corners move at
    `corner_speed` m/s, (N,) both.

    uprightness: the cosines between each of their three axes and the vertical, signs left out, (N, 3).
    """
    lowest_corner = height - CUBE_HALF * uprightness.sum(1)
    pinched = contacts.pinched & (corner_speed <= HELD_SPEED)
    lies_still = contacts.on_table & (uprightness.max(1) >= FLAT) & (corner_speed <= RESTING_SPEED)
    whole = np.maximum(contacts.overlap, contacts.table_overlap) <= MAX_OVERLAP
    in_grip = whole & pinched & (lowest_corner >= CLEARANCE)
    return (whole & (pinched | lies_still)).astype(int) + in_grip  # TABLE is 1, and GRIP 1 more


def corner_speed(velocity: np.ndarray) -> np.ndarray:
    """Returns speeds that no corner of a cube exceeds, (…) m/s. velocity (…, 6): linear m/s, angular rad/s."""
    linear, angular = np.sqrt(np.square(velocity[..., :3]).sum(-1)), np.sqrt(np.square(velocity[..., 3:]).sum(-1))
    return linear + math.sqrt(3) * CUBE_HALF * angular
