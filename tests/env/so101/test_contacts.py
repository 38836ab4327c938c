"""What holds the cube: the judgement by hand, and the contacts it rests on against states put together by hand."""

from itertools import product
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from env.so101.contacts import (
    FLAT,
    HELD_SPEED,
    MAX_OVERLAP,
    RESTING_SPEED,
    CubeContacts,
    Hold,
    arm_overlap,
    corner_speed,
    cube_contacts,
    cube_hold,
)
from env.so101.model import CUBE_HALF

# The judgement

FREE = CubeContacts(touched=False, pinched=False, on_table=False, overlap=0.0, table_overlap=0.0)
LYING = FREE._replace(on_table=True)
PINCHED = FREE._replace(touched=True, pinched=True)
PINCHED_ON_TABLE = PINCHED._replace(on_table=True)
UPRIGHT, STILL, FAST = 1.0, 0.0, 2.0
LEANING, TUMBLING = np.cos(np.radians(8.1)), np.sqrt(0.5)
DEEP = 1.001 * MAX_OVERLAP


def held(contacts, height, uprightness, speed):
    """cube_hold of one cube."""
    columns = CubeContacts(*(np.array([value]) for value in contacts))
    return cube_hold(columns, np.array([height]), np.array([uprightness]), np.array([speed])).item()


@pytest.mark.parametrize(
    ("contacts", "cosine", "speed", "hold"),
    [
        (FREE, UPRIGHT, STILL, Hold.NONE),
        (FREE._replace(touched=True), UPRIGHT, STILL, Hold.NONE),
        (LYING, UPRIGHT, STILL, Hold.TABLE),
        (LYING._replace(touched=True), UPRIGHT, STILL, Hold.TABLE),
        (LYING, FLAT, RESTING_SPEED, Hold.TABLE),
        (LYING, UPRIGHT, 1.001 * RESTING_SPEED, Hold.NONE),
        (LYING, LEANING, STILL, Hold.NONE),
        (LYING, TUMBLING, STILL, Hold.NONE),
        (PINCHED, UPRIGHT, STILL, Hold.GRIP),
        (PINCHED, TUMBLING, HELD_SPEED, Hold.GRIP),
        (PINCHED, UPRIGHT, 1.001 * HELD_SPEED, Hold.NONE),
        (PINCHED, TUMBLING, FAST, Hold.NONE),
        (PINCHED_ON_TABLE, UPRIGHT, STILL, Hold.TABLE),
        (PINCHED_ON_TABLE, TUMBLING, HELD_SPEED, Hold.TABLE),
        (PINCHED_ON_TABLE, UPRIGHT, 1.001 * HELD_SPEED, Hold.NONE),
        (PINCHED_ON_TABLE, TUMBLING, FAST, Hold.NONE),
        (PINCHED._replace(overlap=MAX_OVERLAP), UPRIGHT, STILL, Hold.GRIP),
        (PINCHED._replace(overlap=DEEP), UPRIGHT, STILL, Hold.NONE),
        (PINCHED_ON_TABLE._replace(overlap=DEEP), UPRIGHT, STILL, Hold.NONE),
        (PINCHED_ON_TABLE._replace(table_overlap=DEEP), UPRIGHT, STILL, Hold.NONE),
        (LYING._replace(table_overlap=MAX_OVERLAP), UPRIGHT, STILL, Hold.TABLE),
        (LYING._replace(table_overlap=DEEP), UPRIGHT, STILL, Hold.NONE),
        (LYING._replace(touched=True, overlap=DEEP), UPRIGHT, STILL, Hold.NONE),
    ],
)
def test_what_holds_a_cube(contacts, cosine, speed, hold):
    uprightness = [cosine, np.sqrt(1 - cosine**2), 0.0]
    height = CUBE_HALF * sum(uprightness) if contacts.on_table else 0.1
    assert held(contacts, height, uprightness, speed) == hold


@pytest.mark.parametrize("contacts", [PINCHED, PINCHED_ON_TABLE])
@pytest.mark.parametrize("tilt", [0.0, 0.3, np.pi / 4])
@pytest.mark.parametrize(("clearance", "hold"), [(0.0049, Hold.TABLE), (0.0051, Hold.GRIP)])
def test_a_pinched_cube_is_clear_of_the_table_when_its_lowest_corner_is(contacts, tilt, clearance, hold):
    """Whatever the contact list says: a cube that is dragged loses touch with the table now and then."""
    height = clearance + CUBE_HALF * (np.cos(tilt) + np.sin(tilt))
    assert held(contacts, height, [np.cos(tilt), 0.0, np.sin(tilt)], STILL) == hold


def test_holds_are_ordered_as_goals_ask_for_them():
    assert Hold.NONE < Hold.TABLE < Hold.GRIP
    assert [int(hold) for hold in Hold] == [0, 1, 2]  # as they are stored and compared with a bool


def test_corner_speed_by_hand():
    assert corner_speed(np.array([0.3, 0.0, 0.4, 0.0, 0.0, 0.0])) == pytest.approx(0.5)
    # A turn about a space diagonal's normal: a corner is half of the diagonal, 17.3 mm, away from the axis.
    assert corner_speed(np.array([0.0, 0.0, 0.0, 0.0, 6.0, 8.0])) == pytest.approx(10 * np.sqrt(3) * 0.01)


def test_no_corner_is_faster_than_corner_speed():
    corners = CUBE_HALF * np.array(list(product((-1, 1), repeat=3)))
    rng = np.random.default_rng(0)
    slack = []
    for velocity in rng.normal(0, 1, (500, 6)) * [0.1, 0.1, 0.1, 10, 10, 10]:
        fastest = np.linalg.norm(velocity[:3] + np.cross(velocity[3:], corners), axis=1).max()
        assert fastest <= corner_speed(velocity) + 1e-12
        slack.append(corner_speed(velocity) / fastest)
    assert np.median(slack) < 1.5  # a bound that is any good


# Contact lists by hand

CUBE, FLOOR, FIXED, MOVING, PALM, BASE = range(6)
MODEL = SimpleNamespace(cube_geom=CUBE, floor_geom=FLOOR, jaw_pads=(FIXED, MOVING), mj=SimpleNamespace(ngeom=6))


def listed(*contacts):
    """cube_contacts of (geom, geom, distance, normal from the first to the second); arm_overlap must say the same."""
    frame = np.zeros((len(contacts), 9))
    frame[:, :3] = np.array([contact[3] for contact in contacts]).reshape(-1, 3)
    geom = np.array([contact[:2] for contact in contacts], int).reshape(-1, 2)
    distances = np.array([contact[2] for contact in contacts], float)
    data = SimpleNamespace(contact=SimpleNamespace(geom=geom, dist=distances, frame=frame))
    found = CubeContacts(*(column.item() for column in cube_contacts(MODEL, [data])))
    assert arm_overlap(MODEL, data) == found.overlap
    return found


def test_no_contact_is_no_touch():
    assert listed() == FREE


def test_contacts_of_others_do_not_concern_the_cube():
    assert listed((FLOOR, PALM, -0.01, (0, 0, 1)), (BASE, MOVING, -0.01, (1, 0, 0))) == FREE


@pytest.mark.parametrize("other", [FIXED, MOVING, PALM, BASE])
def test_any_part_of_the_arm_touches_and_none_alone_pinches(other):
    assert listed((CUBE, other, -0.002, (1, 0, 0))) == (True, False, False, 0.002, 0.0)
    assert listed((other, CUBE, -0.002, (1, 0, 0))) == (True, False, False, 0.002, 0.0)


def test_overlaps_are_the_deepest_of_arm_and_of_table():
    down = (0, 0, -1)
    contacts = listed(
        *((CUBE, FLOOR, -depth, down) for depth in (0.001, 0.003, 0.002)),
        *((CUBE, PALM, -depth, down) for depth in (0.004, 0.006, 0.005)),
    )
    assert contacts == (True, False, True, 0.006, 0.003)


def test_a_contact_that_does_not_overlap_yet_is_a_touch_without_depth():
    assert listed((CUBE, PALM, 0.0, (1, 0, 0)), (CUBE, FLOOR, 0.0, (0, 0, 1))) == (True, False, True, 0.0, 0.0)


@pytest.mark.parametrize(
    ("degrees", "pinched"), [(180, True), (150, True), (121, True), (119, False), (90, False), (0, False)]
)
def test_a_pinch_is_two_pads_from_opposite_sides(degrees, pinched):
    x, y = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    for fixed in ((FIXED, CUBE, 0.0, (1, 0, 0)), (CUBE, FIXED, 0.0, (-1, 0, 0))):  # in whatever order MuJoCo lists them
        for moving in ((MOVING, CUBE, 0.0, (x, y, 0)), (CUBE, MOVING, 0.0, (-x, -y, 0))):
            assert listed(fixed, moving).pinched == listed(moving, fixed).pinched == pinched


def test_a_pad_presses_where_its_contacts_press_on_average():
    def pads(*moving):
        right = (FIXED, CUBE, 0.0, (1, 0, 0))
        return listed(right, *((MOVING, CUBE, 0.0, normal) for normal in moving), right).pinched

    assert pads((-1, 0, 0), (-1, 0, 0), (0, 0, 1))
    assert not pads((-1, 0, 0), (0, 0, 1), (0, 0, 1))


@pytest.mark.parametrize("part", [FIXED, MOVING, PALM])
@pytest.mark.parametrize(("overlap", "pinched"), [(MAX_OVERLAP, True), (DEEP, False)])
def test_two_pads_do_not_pinch_a_cube_that_the_arm_is_sunk_into(part, overlap, pinched):
    pads = [(FIXED, CUBE, 0.0, (1, 0, 0)), (MOVING, CUBE, 0.0, (-1, 0, 0))]
    assert listed(*pads, (part, CUBE, -overlap, (-1 if part == MOVING else 1, 0, 0))).pinched == pinched


def test_a_pad_and_the_other_jaws_back_are_no_pinch():
    assert not listed((FIXED, CUBE, 0.0, (1, 0, 0)), (PALM, CUBE, 0.0, (-1, 0, 0))).pinched


# Contacts of real states


def found(sim):
    contacts = sim.cube_contacts()
    return contacts.touched, contacts.pinched, contacts.on_table


def test_a_cube_in_the_air_touches_nothing(simulation, scenes):
    scenes.put(simulation, scenes.HOME, scenes.OPEN, (0.2, 0.2, 0.3))
    contacts = simulation.cube_contacts()
    assert contacts == FREE
    assert simulation.cube_hold() == Hold.NONE


def test_a_cube_on_the_table_touches_the_table_alone(simulation):
    assert len(simulation.data.contact.geom) > 0
    assert found(simulation) == (False, False, True)
    assert simulation.cube_hold() == Hold.TABLE


@pytest.mark.parametrize(
    ("gripper", "shift", "expected"),
    [
        ("OPEN", 0.003, (False, False, False)),
        ("OPEN", -0.0002, (True, False, False)),  # the fixed pad
        ("AROUND_CUBE", 0.0005, (True, False, False)),  # the moving pad
        ("CLOSED", 0.0, (True, True, False)),
    ],
    ids=["free", "fixed pad alone", "moving pad alone", "pinched"],
)
def test_a_pinch_takes_both_pads(simulation, scenes, gripper, shift, expected):
    angle = scenes.AROUND_CUBE - 0.005 if gripper == "CLOSED" else getattr(scenes, gripper)
    scenes.put_between_pads(simulation, gripper=angle, shift=shift)
    assert found(simulation) == expected
    expected_hold = Hold.GRIP if expected[1] else Hold.NONE
    assert simulation.cube_hold() == expected_hold


def test_pinched_on_the_table_is_both(simulation, scenes):
    scenes.put_on_table_between_pads(simulation, scenes.GRASP_ON_TABLE, scenes.AROUND_CUBE - 0.005)
    assert found(simulation) == (True, True, True)
    assert simulation.cube_hold() == Hold.TABLE


@pytest.mark.parametrize(("speed", "hold"), [(0.4, Hold.GRIP), (0.6, Hold.NONE), (2.0, Hold.NONE)])
def test_a_pinched_cube_that_is_flung_is_not_held(simulation, scenes, speed, hold):
    scenes.put_between_pads(simulation, gripper=scenes.AROUND_CUBE - 0.005)
    simulation.cube_velocity[0] = speed
    assert simulation.cube_contacts().pinched
    assert simulation.cube_hold() == hold


def test_on_top_of_the_shut_fingers_both_pads_touch_and_do_not_pinch(simulation, scenes):
    scenes.put_on_top_of_fingers(simulation)
    for _ in range(25):
        simulation.step(np.zeros(6))
    pairs = simulation.data.contact.geom
    pads = {int(other) for pair in pairs if simulation.model.cube_geom in pair for other in pair}
    assert pads == {simulation.model.cube_geom, *simulation.model.jaw_pads}
    assert np.abs(simulation.cube_velocity).max() < 1e-3
    assert found(simulation) == (True, False, False)
    assert simulation.cube_hold() == Hold.NONE


def test_the_back_of_a_jaw_touches_and_does_not_pinch(simulation, scenes):
    scenes.put_leaning_on_shut_jaw(simulation, scenes.GRASP_ON_TABLE)
    for _ in range(25):
        simulation.step(np.zeros(6))
    assert found(simulation) == (True, False, True)
    assert np.abs(simulation.cube_velocity).max() < 0.01
    assert simulation.cube_hold() == Hold.NONE  # it lies as still as can be, but on an edge


@pytest.mark.parametrize("part", ["palm", "fixed_finger", "jaw_finger", "wrist_box", "lower_arm_box", "base_box"])
def test_every_part_of_the_arm_is_noticed(simulation, scenes, part):
    scenes.put_away(simulation, scenes.HOME, scenes.OPEN)
    place = simulation.data.geom(part).xpos.copy()
    scenes.put(simulation, scenes.HOME, scenes.OPEN, place)
    contacts = simulation.cube_contacts()
    assert contacts.touched
    assert contacts.overlap > MAX_OVERLAP
    assert simulation.cube_hold() == Hold.NONE


@pytest.mark.parametrize("depth", [0.0, 0.0004, 0.0009, 0.0011, 0.003])
def test_overlap_is_how_deep_the_fixed_pad_is_in_the_cube(simulation, scenes, depth):
    scenes.put_between_pads(simulation, gripper=scenes.OPEN, shift=-depth)
    contacts = simulation.cube_contacts()
    assert contacts.overlap == pytest.approx(depth, abs=1e-9)
    assert contacts.table_overlap == 0
    assert arm_overlap(simulation.model, simulation.data) == contacts.overlap


@pytest.mark.parametrize(("depth", "hold"), [(0.0004, Hold.TABLE), (0.0009, Hold.TABLE), (0.0011, Hold.NONE)])
def test_table_overlap_is_how_deep_the_cube_is_in_the_table(simulation, scenes, depth, hold):
    scenes.put(simulation, scenes.HOME, scenes.OPEN, (0.3, 0.1, CUBE_HALF - depth))
    contacts = simulation.cube_contacts()
    assert contacts.table_overlap == pytest.approx(depth, abs=1e-9)
    assert contacts.overlap == arm_overlap(simulation.model, simulation.data) == 0
    assert simulation.cube_hold() == hold


@pytest.mark.parametrize("depth", [0.0011, 0.002, 0.004])
def test_a_finger_sunk_into_a_pinched_cube_holds_nothing(simulation, scenes, depth):
    scenes.put_between_pads(simulation, gripper=scenes.AROUND_CUBE - depth / 0.08)  # the jaw is 8 cm long
    contacts = simulation.cube_contacts()
    assert contacts.touched
    assert not contacts.pinched
    assert contacts.overlap == pytest.approx(depth, rel=0.1)
    assert simulation.cube_hold() == Hold.NONE


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (1, 1, 0)])
@pytest.mark.parametrize(("degrees", "hold"), [(7, Hold.TABLE), (9, Hold.NONE), (45, Hold.NONE)])
@pytest.mark.parametrize("side", [0, 90, 180])
def test_a_cube_stands_on_whichever_face_but_not_on_an_edge(simulation, scenes, axis, degrees, hold, side):
    """Whichever face is down, the tilt is that of the flattest one."""
    axis = np.array(axis) / np.linalg.norm(axis)
    around = (1, 0, 0) if axis[0] == 1 else (0, 1, 0)
    turn = scenes.turned(axis, np.radians(degrees))
    quat = np.empty(4)
    mujoco.mju_mulQuat(quat, turn, scenes.turned(around, np.radians(side)))
    scenes.put(simulation, scenes.HOME, scenes.OPEN, (0.3, 0.1, 1.0), quat)
    lowest = CUBE_HALF * np.abs(simulation.cube_axes[2]).sum()
    scenes.put(simulation, scenes.HOME, scenes.OPEN, (0.3, 0.1, lowest - 1e-6), quat)
    assert found(simulation) == (False, False, True)
    assert simulation.cube_hold() == hold


@pytest.mark.parametrize(
    ("velocity", "hold"),
    [
        ((0.14, 0, 0, 0, 0, 0), Hold.TABLE),
        ((0, 0.16, 0, 0, 0, 0), Hold.NONE),
        ((0, 0, 0, 0, 0, 8.0), Hold.TABLE),
        ((0, 0, 0, 0, 0, 9.0), Hold.NONE),
        ((0.1, 0, 0, 0, 5.0, 0), Hold.NONE),
    ],
    ids=["slow", "sliding", "turning slowly", "spinning", "tumbling"],
)
def test_a_cube_on_the_table_lies_still_or_is_not_held(simulation, scenes, velocity, hold):
    scenes.put(simulation, scenes.HOME, scenes.OPEN, (0.3, 0.1, CUBE_HALF), velocity=velocity)
    assert simulation.cube_hold() == hold
