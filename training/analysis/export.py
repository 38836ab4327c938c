"""Writes a policy for other programs, as ONNX, TorchScript or NumPy's npz, after trying it beside the network."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import checkpoints
import her
from env import GoalEnv, close_envs
from env.protocol import GOAL_KEYS
from env.so101.model import JOINTS
from env.so101.simulation import CONTROL_STEP, MAX_TARGET_CHANGE
from env.tasks.base import ArmTask
from errors import UserError, check_writable
from sac import SAC, Policy
from sac.normalizer import CLIP
from training.setup import evaluation_environments, evaluation_goal, make_agent, trained_with

TRIED, TOLERANCE = 1_000, 1e-5
"""Observations that a policy is tried on, and the largest difference between two actions, which lie in [-1, 1]: what
float32 makes of sums in another order is a tenth of it."""
ONNX_OPSET = 17


def export(name: str, files: dict[str, Path]) -> float:
    """Writes the policy that find_policy finds for `name` to `files`, by "onnx", "torchscript", "npz".

    Each is tried beside the network first, on observations of an episode after the other, and put into place whole.
    Returns the largest difference of two actions. Raises UserError.
    """
    if unknown := files.keys() - WRITERS.keys():
        raise UserError(f"{', '.join(sorted(unknown))}: no such format; there are {', '.join(WRITERS)}")
    for form, path in files.items():
        if os.path.lexists(path) or list(files.values()).count(path) > 1:
            raise UserError(f"--{form} {path}: is there already; remove it, or name another file")
        check_writable(f"--{form}", path)
    source, _ = checkpoints.find_policy(name)
    manifest = checkpoints.read_manifest(source)
    training = trained_with(manifest, source)
    goal = evaluation_goal(training.env, "own")
    envs, spec = evaluation_environments(training, 1, goal)
    try:
        agent = make_agent(training, spec, torch.device("cpu"), seed=0)
        state, _ = checkpoints.load(source, only=["agent"])
        agent.load_networks(state["agent"], only=checkpoints.POLICY)
        observed = observations(envs[0], agent)
        card = describe(envs[0], manifest)
    finally:
        close_envs(envs)
    expected = agent.act_deterministic(her.policy_input(*observed.values()))
    worst = 0.0
    for form, path in files.items():
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            draft = Path(scratch) / path.name
            try:
                WRITERS[form](Policy.of(state["agent"]), card, draft)
                difference = np.abs(READERS[form](draft, observed) - expected).max()
            except ImportError as error:
                raise UserError(f"--{form}: needs {error.name}: pip install -e '.[export]' brings it") from error
            if not difference <= TOLERANCE:
                raise UserError(f"--{form} {path}: not written: its actions are {difference:.1e} off the network's")
            os.replace(draft, path)
        worst = max(worst, float(difference))
    return worst


def observations(env: GoalEnv, agent: SAC) -> dict[str, np.ndarray]:
    """Returns what an environment shows in TRIED steps under the policy: {"observation": (TRIED, O), …} float32."""
    seen: dict[str, list[np.ndarray]] = {key: [] for key in GOAL_KEYS}
    obs, ended, seed = {}, True, 0
    for _ in range(TRIED):
        if ended:
            obs, _ = env.reset(seed=seed)
            seed += 1
        for key in GOAL_KEYS:
            seen[key].append(np.float32(obs[key]))
        action = agent.act_deterministic(her.policy_input(*(np.float32(obs[key])[None] for key in GOAL_KEYS)))[0]
        obs, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
    return {key: np.stack(arrays) for key, arrays in seen.items()}


def describe(env: GoalEnv, manifest: checkpoints.Manifest) -> dict[str, Any]:
    """Returns the card that goes with a policy: what goes in, in which order and unit, and what comes out."""
    inputs = {"observation": {"size": env.obs_dim}}
    inputs |= {name: {"size": env.goal_dim} for name in GOAL_KEYS[1:]}
    outputs: dict[str, Any] = {"action": {"size": env.action_dim, "range": [-1.0, 1.0]}}
    card = {
        "env": manifest.config["env"],
        "env_steps": manifest.step,
        "success": manifest.success,
        "code": manifest.versions.get("code"),
        "inputs": inputs,
        "outputs": outputs,
    }
    if isinstance(env, ArmTask):
        inputs["observation"]["fields"] = [asdict(field) for field in env.observed]
        for name in GOAL_KEYS[1:]:
            inputs[name] |= {"unit": "m", "frame": "world: x away from the robot, z up, origin at its base"}
        outputs["action"] |= {
            "moves": f"the target of each servo by {MAX_TARGET_CHANGE} rad × a (s + (1 - s) |a|), s = "
            f"{env.config.action_slope}, within target_range_rad",
            "joints": list(JOINTS),
            "period_s": CONTROL_STEP,
            "target_range_rad": env.sim.model.control_range.tolist(),
        }
    return card


class _Network(nn.Module):
    """The policy as TorchScript holds it. Takes observation (N, O), achieved and desired goal (N, G)."""

    def __init__(self, policy: Policy):
        super().__init__()
        self.register_buffer("shift", torch.from_numpy(policy.shift))
        self.register_buffer("scale", torch.from_numpy(policy.scale))
        layers: list[nn.Module] = []
        for weight, bias in _cut(policy):
            layers += [nn.Linear(*weight.shape), nn.ReLU()]
            layers[-2].weight.data = torch.from_numpy(weight.T.copy())
            layers[-2].bias.data = torch.from_numpy(bias.copy())
        self.layers = nn.Sequential(*layers[:-1], nn.Tanh())

    def forward(self, observation: Tensor, achieved_goal: Tensor, desired_goal: Tensor) -> Tensor:
        inputs = torch.cat([observation, achieved_goal, desired_goal, desired_goal - achieved_goal], dim=-1)
        return self.layers(((inputs - self.shift) * self.scale).clamp(-CLIP, CLIP))


def _cut(policy: Policy) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the layers without what computes the standard deviation, which nobody needs to act."""
    *hidden, (weight, bias) = policy.layers
    return [*hidden, (weight[:, : policy.action_dim], bias[: policy.action_dim])]


def _write_torchscript(policy: Policy, card: dict[str, Any], path: Path) -> None:
    sizes = [card["inputs"][key]["size"] for key in GOAL_KEYS]
    with warnings.catch_warnings():  # PyTorch would rather have something else, which C++ cannot load without it
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(_Network(policy).requires_grad_(False), tuple(torch.zeros(1, size) for size in sizes))
        torch.jit.save(traced, str(path), _extra_files={"card.json": json.dumps(card)})


def _read_torchscript(path: Path, observed: dict[str, np.ndarray]) -> np.ndarray:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path))(*map(torch.from_numpy, observed.values())).numpy()


def _write_npz(policy: Policy, card: dict[str, Any], path: Path) -> None:
    arrays = {"shift": policy.shift, "scale": policy.scale, "clip": np.float32(CLIP)}
    for i, (weight, bias) in enumerate(_cut(policy)):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    with open(path, "wb") as file:  # a name without .npz stays as it is
        np.savez(file, card=np.array(json.dumps(card)), **arrays)


def _read_npz(path: Path, observed: dict[str, np.ndarray]) -> np.ndarray:
    with np.load(path) as arrays:
        observation, achieved, desired = observed.values()
        x = np.concatenate([observation, achieved, desired, desired - achieved], axis=-1)
        x = np.clip((x - arrays["shift"]) * arrays["scale"], -arrays["clip"], arrays["clip"])
        last = sum(name.startswith("weight_") for name in arrays) - 1
        for i in range(last):
            x = np.maximum(x @ arrays[f"weight_{i}"] + arrays[f"bias_{i}"], 0)
        return np.tanh(x @ arrays[f"weight_{last}"] + arrays[f"bias_{last}"])


def _write_onnx(policy: Policy, card: dict[str, Any], path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {"shift": policy.shift, "scale": policy.scale, "low": np.float32(-CLIP), "high": np.float32(CLIP)}
    layers = _cut(policy)
    nodes = [
        helper.make_node("Sub", ["desired_goal", "achieved_goal"], ["way"]),
        helper.make_node("Concat", [*GOAL_KEYS, "way"], ["inputs"], axis=1),
        helper.make_node("Sub", ["inputs", "shift"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["x_0"]),
    ]
    for i, (weight, bias) in enumerate(layers):
        constants |= {f"weight_{i}": weight, f"bias_{i}": bias}
        last = i == len(layers) - 1
        nodes += [
            helper.make_node("Gemm", [f"x_{i}", f"weight_{i}", f"bias_{i}"], [f"sum_{i}"]),
            helper.make_node("Tanh" if last else "Relu", [f"sum_{i}"], ["action" if last else f"x_{i + 1}"]),
        ]

    def values(kind: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", about["size"]])
            for name, about in card[kind].items()
        ]

    initializers = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "policy", values("inputs"), values("outputs"), initializers)
    opset = [helper.make_opsetid("", ONNX_OPSET)]
    model = helper.make_model(graph, producer_name="sac-her", opset_imports=opset, ir_version=8)
    helper.set_model_props(model, {"card": json.dumps(card)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())  # onnx.save goes by the name's ending


def _read_onnx(path: Path, observed: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["action"], observed)[0]


WRITERS: dict[str, Callable[[Policy, dict[str, Any], Path], None]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "npz": _write_npz,
}
READERS: dict[str, Callable[[Path, dict[str, np.ndarray]], np.ndarray]] = {
    "onnx": _read_onnx,
    "torchscript": _read_torchscript,
    "npz": _read_npz,
}
