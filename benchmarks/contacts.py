"""Measures what the contact settings cost and what they buy, and prints the table of docs/physics.md.

    python benchmarks/contacts.py              # the chosen scene and the variants it was chosen from
    python benchmarks/contacts.py --chosen     # the chosen scene alone

A grasp in which the fingers sink into the cube is a false one: a policy learns to hold by overlap what friction could
not hold. So each variant goes through what a policy will do to the cube. The deepest overlap of arm and cube is kept of
each trial, in mm:

    pinch     the gripper, told to shut (-0.17 rad), closes on a cube between its pads, at home and slanted; 3 s of hold
    lift      a cube pinched on the floor is lifted 15 cm and swung by 0.56 rad, targets moving 0.02 rad a control step
    shake     2 s of the pinched cube, every arm joint's target jumping by 0.07 rad each control step
    press     the shut fingers on top of the cube, the arm driving it into the floor with all its torque, 1 s
    jam       a cube pinched on the floor, then driven into it likewise, 1 s
    snap      the gripper shuts from wide open (1 rad) on a cube that stands between the fingers
    slam      the shut gripper swings sideways into the cube as fast as the pan joint turns (1.9 m/s at the fingertips)

and besides:

    floor     the deepest overlap of anything with the floor in all of these, mm
    slip      how far the cube's centre moves in the gripper's frame, mm: in the hold of the pinch, in lift, in shake;
    askew     the worst in 2 s of holding the cubes of the next line, most of them by their edges
    grasped   cubes at 24 places and yaws between the open fingers that the shutting gripper takes, and lifts 10 cm
    drift     how far a cube left alone on the floor creeps in 3 s, mm
    µs        a control step with the cube at rest, and pinched

Times are the median of many 20 ms control steps, on one core.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

SCENE = Path(__file__).parents[1] / "env/so101/assets/scene.xml"
CONTROL_STEP = 0.02
MAX_TARGET_CHANGE = 0.07  # rad in a control step: no action moves a servo's target faster
PINCHED, SHUT = 0.045, -0.17  # the gripper around the cube, and told to shut
SPAWN = np.array([0.40, -0.10, 0.01])  # a cube on the floor, in the middle of the spawn area

# Arm poses (five joints): fingers level at home; fingers slanted 46 degrees down and the wrist rolled by 90, with the
# grasp point over the middle of the spawn area, 1 mm above the centre of a resting cube or just above its top; 15 cm
# up, slanted by 34 degrees, where a carried cube ends; and 31 cm up, to be shaken far from the floor.
HOME = np.zeros(5)
SLANTED_FLOOR = np.array([0.2632, 0.8885, -0.5476, 0.4620, -1.5221])
SLANTED_TOP = np.array([0.2632, 0.8332, -0.5750, 0.5446, -1.5221])
SLANTED_AIR = np.array([-0.2924, 0.3292, -0.5538, 0.8180, -1.5221])
HIGH = SLANTED_AIR - [0.0, 0.5, 0.0, 0.0, 0.0]


@dataclass(frozen=True)
class Variant:
    name: str
    option: dict = field(default_factory=dict)  # mjOption fields
    geom: dict = field(default_factory=dict)  # fields of every colliding geom
    grip: float | None = None  # the gripper's force limit, N m


def load(variant: Variant) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(SCENE))
    for name, value in variant.option.items():
        setattr(spec.option, name, value)
    for geom in spec.geoms:
        if geom.contype or geom.conaffinity:
            for name, value in variant.geom.items():
                setattr(geom, name, value)
    if variant.grip is not None:
        spec.actuator("gripper").forcerange = [-variant.grip, variant.grip]
    return spec.compile()


class Trial:
    """Runs one simulation, and remembers the deepest overlap of arm and cube, and of anything with the floor (m)."""

    def __init__(self, model: mujoco.MjModel, arm: np.ndarray, jaw: float):
        self.model, self.data = model, mujoco.MjData(model)
        self.depth = self.floor_depth = 0.0
        self.floor = model.geom("floor").id
        self.substeps = round(CONTROL_STEP / model.opt.timestep)
        mujoco.mj_resetDataKeyframe(model, self.data, model.key("home").id)
        self.data.qpos[:6] = self.data.ctrl[:] = [*arm, jaw]
        mujoco.mj_kinematics(model, self.data)

    def place_cube(self, pos=None, upright=False):
        """Puts the cube at pos (else at the grasp point), its sides parallel to the pads (or upright, turned so)."""
        site = self.data.site("grasp_point")
        axes = site.xmat.reshape(3, 3)
        if upright:
            x = np.array([axes[0, 0], axes[1, 0], 0.0]) / np.hypot(axes[0, 0], axes[1, 0])
            axes = np.column_stack([x, [-x[1], x[0], 0.0], [0.0, 0.0, 1.0]])
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, axes.flatten())
        self.data.joint("cube_joint").qpos[:] = [*(site.xpos if pos is None else pos), *quat]
        return self

    def run(self, seconds: float, arm, jaw: float = SHUT):
        """Holds the arm at five targets (or a function of the control step that gives them) and the jaw so long."""
        for i in range(round(seconds / CONTROL_STEP)):
            self.data.ctrl[:] = [*(arm(i) if callable(arm) else arm), jaw]
            for _ in range(self.substeps):
                mujoco.mj_step(self.model, self.data)
                depth, on_floor = -self.data.contact.dist, (self.data.contact.geom == self.floor).any(1)
                self.depth = max(self.depth, *depth[~on_floor], 0.0)
                self.floor_depth = max(self.floor_depth, *depth[on_floor], 0.0)
        if not np.isfinite(self.data.qpos).all() or self.data.warning.number.any():
            raise FloatingPointError("the simulation diverged")
        return self

    def cube_in_gripper(self) -> np.ndarray:
        gripper = self.data.body("gripper")
        return gripper.xmat.reshape(3, 3).T @ (self.data.body("cube").xpos - gripper.xpos)

    def microseconds(self, steps: int = 400) -> float:
        """Returns the median time of one control step from here on."""
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            mujoco.mj_step(self.model, self.data, self.substeps)
            times.append(time.perf_counter() - start)
        return 1e6 * float(np.median(times))


def towards(start: np.ndarray, end: np.ndarray, rate: float):
    """Returns targets that walk from start to end, no joint faster than rate (rad) a control step."""
    steps = np.abs(end - start).max() / rate
    return lambda i: start + (end - start) * min((i + 1) / steps, 1.0)


def pinch(model: mujoco.MjModel, arm: np.ndarray) -> Trial:
    return Trial(model, arm, PINCHED).place_cube().run(1.0, arm)


def on_floor(model: mujoco.MjModel, arm: np.ndarray, jaw: float) -> Trial:
    """Puts the cube on the floor below the grasp point of SLANTED_FLOOR, turned like the fingers."""
    trial = Trial(model, SLANTED_FLOOR, jaw).place_cube(SPAWN, upright=True)
    trial.data.qpos[:5] = arm
    return trial


def grasp(model: mujoco.MjModel, offset: float, yaw: float) -> float | None:
    """Shuts the open gripper on a cube so far towards the jaw and so turned, lifts it and holds it for 2 s.

    Returns its slip (m), None if lost.

    The fingers often take a turned cube by its edges and keep it so: the arm has no joint left to turn with it.
    """
    trial = on_floor(model, SLANTED_FLOOR, 0.6)
    cube, closing = trial.data.joint("cube_joint").qpos, trial.data.site("grasp_point").xmat[[0, 3]]
    cube[:2] += offset * closing
    turn = np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
    mujoco.mju_mulQuat(cube[3:], turn, cube[3:].copy())
    raised = SLANTED_FLOOR - np.array([0.0, 0.4, 0.0, 0.0, 0.0])
    start = trial.run(0.7, SLANTED_FLOOR).run(0.6, towards(SLANTED_FLOOR, raised, 0.03)).cube_in_gripper()
    slip = np.linalg.norm(trial.run(2.0, raised).cube_in_gripper() - start)
    held = np.linalg.norm(trial.cube_in_gripper() - model.site("grasp_point").pos) < 0.01
    return slip if held else None


def measure(model: mujoco.MjModel) -> dict[str, str]:
    """Returns every trial on one scene, a row of the table."""
    rest = Trial(model, HOME, PINCHED).run(0.5, HOME, PINCHED)
    start = rest.data.body("cube").xpos.copy()
    drift = np.linalg.norm(rest.run(3.0, HOME, PINCHED).data.body("cube").xpos - start)

    home, hold = pinch(model, HOME), pinch(model, HIGH)
    start = hold.cube_in_gripper()
    hold_slip = np.linalg.norm(hold.run(3.0, HIGH).cube_in_gripper() - start)

    lift = on_floor(model, SLANTED_FLOOR, PINCHED).run(0.4, SLANTED_FLOOR)
    start = lift.cube_in_gripper()
    lift.run(1.5, towards(SLANTED_FLOOR, SLANTED_AIR, 0.02))
    lift_slip = np.linalg.norm(lift.cube_in_gripper() - start)

    rng, target = np.random.default_rng(0), HIGH.copy()

    def jump(_):
        target[:] = np.clip(target + rng.choice([-MAX_TARGET_CHANGE, MAX_TARGET_CHANGE], 5), HIGH - 0.3, HIGH + 0.3)
        return target

    shake = pinch(model, HIGH)
    start = shake.cube_in_gripper()
    shake_slip = np.linalg.norm(shake.run(2.0, jump).cube_in_gripper() - start)

    down = SLANTED_TOP + np.array([0.0, 1.0, 0.5, 0.5, 0.0])
    press = on_floor(model, SLANTED_TOP, SHUT).run(1.0, down)
    jam = on_floor(model, SLANTED_FLOOR, PINCHED).run(0.4, SLANTED_FLOOR).run(1.0, down)

    snap = on_floor(model, SLANTED_FLOOR, 1.0).run(1.0, SLANTED_FLOOR)
    swing = np.array([0.4, 0.0, 0.0, 0.0, 0.0])
    before, after = SLANTED_FLOOR - swing, SLANTED_FLOOR + swing
    slam = on_floor(model, before, SHUT).run(0.3, towards(before, after, MAX_TARGET_CHANGE))

    places = [(offset, yaw) for offset in (0.005, 0.009) for yaw in np.radians(np.arange(-45.0, 45.0, 7.5))]
    slips = [slip for place in places if (slip := grasp(model, *place)) is not None]

    floor = max(trial.floor_depth for trial in (home, hold, lift, shake, press, jam, snap, slam))
    return {
        "pinch": f"{1e3 * max(home.depth, hold.depth):.2f}",
        "lift": f"{1e3 * lift.depth:.2f}",
        "shake": f"{1e3 * shake.depth:.2f}",
        "press": f"{1e3 * press.depth:.2f}",
        "jam": f"{1e3 * jam.depth:.2f}",
        "snap": f"{1e3 * snap.depth:.2f}",
        "slam": f"{1e3 * slam.depth:.2f}",
        "floor": f"{1e3 * floor:.2f}",
        "slip: hold": f"{1e3 * hold_slip:.2f}",
        "slip: askew": f"{1e3 * max(slips, default=np.nan):.2f}",
        "slip: lift": f"{1e3 * lift_slip:.2f}",
        "slip: shake": f"{1e3 * shake_slip:.1f}",
        "grasped": f"{len(slips)}/{len(places)}",
        "drift": f"{1e3 * drift:.3f}",
        "µs: rest": f"{rest.microseconds():.0f}",
        "µs: pinched": f"{hold.microseconds():.0f}",
    }


def solimp(first: float, last: float) -> dict:
    return {"solimp": [first, last, 0.001, 0.5, 2]}


def timestep(dt: float) -> Variant:
    """Returns another timestep, with the stiffest contact that it can integrate."""
    return Variant(f"timestep {1e3 * dt:g} ms", option={"timestep": dt}, geom={"solref": [2 * dt, 1]})


CHOSEN = Variant("chosen")
VARIANTS = [
    Variant("MuJoCo's default contact", geom={"solref": [0.02, 1], **solimp(0.9, 0.95)}),
    Variant("solimp 0.9 0.99", geom=solimp(0.9, 0.99)),
    Variant("solimp 0.95 0.99", geom=solimp(0.95, 0.99)),
    Variant("solimp 0.98 0.999", geom=solimp(0.98, 0.999)),
    Variant("solimp 0.99 0.99", geom=solimp(0.99, 0.99)),
    Variant("solimp 0.99 0.9999", geom=solimp(0.99, 0.9999)),
    Variant("solimp 0.995 0.999", geom=solimp(0.995, 0.999)),
    Variant("solimp 0.999 0.9999", geom=solimp(0.999, 0.9999)),
    Variant("solref 6 ms", geom={"solref": [0.006, 1]}),
    Variant("solref 8 ms", geom={"solref": [0.008, 1]}),
    timestep(0.001),
    timestep(0.0005),
    Variant("pyramidal cones", option={"cone": mujoco.mjtCone.mjCONE_PYRAMIDAL}),
    Variant("impratio 1", option={"impratio": 1}),
    Variant("impratio 10", option={"impratio": 10}),
    Variant("impratio 100", option={"impratio": 100}),
    Variant("impratio 1000", option={"impratio": 1000}),
    Variant("condim 3", geom={"condim": 3}),
    Variant("condim 6", geom={"condim": 6}),
    Variant("noslip, 3 iterations", option={"noslip_iterations": 3}),
    Variant("friction 0.7 everywhere", geom={"friction": [0.7, 0.005, 0.0001]}),
    Variant("friction 0.5 everywhere", geom={"friction": [0.5, 0.005, 0.0001]}),
    Variant("margin 0.5 mm", geom={"margin": 0.0005}),
    Variant("implicitfast", option={"integrator": mujoco.mjtIntegrator.mjINT_IMPLICITFAST}),
    Variant("solver CG", option={"solver": mujoco.mjtSolver.mjSOL_CG}),
    Variant("solver PGS", option={"solver": mujoco.mjtSolver.mjSOL_PGS}),
    Variant("5 iterations", option={"iterations": 5}),
    Variant("gripper 0.5 N·m", grip=0.5),
    Variant("gripper 1 N·m", grip=1.0),
    Variant("gripper 2 N·m", grip=2.0),
    Variant("gripper 3.35 N·m", grip=3.35),
]
if hasattr(mujoco.mjtEnableBit, "mjENBL_SPECULATIVE"):  # MuJoCo 4.0
    VARIANTS.append(Variant("speculative contacts", option={"enableflags": mujoco.mjtEnableBit.mjENBL_SPECULATIVE}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chosen", action="store_true", help="measure the chosen scene alone")
    variants = [CHOSEN] if parser.parse_args().chosen else [CHOSEN, *VARIANTS]
    for i, variant in enumerate(variants):
        try:
            row = measure(load(variant))
        except FloatingPointError as error:
            print(f"| {variant.name} | {error} |", flush=True)
            continue
        if i == 0:
            print(f"| setting | {' | '.join(row)} |\n|---|{'--:|' * len(row)}")
        print(f"| {variant.name} | {' | '.join(row.values())} |", flush=True)


if __name__ == "__main__":
    main()
