"""The compiled update is the eager one but for rounding, and eager where there is no compiler."""

import shutil

import numpy as np
import pytest
import torch

from sac import SAC, CompilerUnavailable, SACConfig

OBS, ACTION = 5, 3
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


def agent(seed: int = 0) -> SAC:
    config = SACConfig(hidden=(16, 16), lr_decay_after=3)
    return SAC(OBS, ACTION, config, (-50.0, 0.0), torch.device("cpu"), seed)


def leaves(tree, path=""):
    if isinstance(tree, dict):
        return {name: leaf for key, value in tree.items() for name, leaf in leaves(value, f"{path}/{key}").items()}
    return {path: np.asarray(tree)}


@pytest.fixture(scope="module")
def compiled():
    """Provides an agent that has compiled, and its state before."""
    learner = agent()
    before = learner.state_dict()
    learner.compile(32)
    return learner, before


@needs_compiler
def test_compiling_changes_nothing_of_the_agent(compiled):
    learner, before = compiled
    learner.load_state_dict(before)
    after = leaves(learner.state_dict())
    for name, value in leaves(before).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


@needs_compiler
def test_compiled_updates_are_the_eager_ones_but_for_rounding(compiled, random_batch):
    learner, before = compiled
    learner.load_state_dict(before)
    eager = agent()
    for seed in range(6):
        ours, theirs = learner.update(random_batch(seed)), eager.update(random_batch(seed))
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)
    ours, theirs = leaves(learner.state_dict()), leaves(eager.state_dict())
    for name, value in ours.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)


@needs_compiler
def test_halves_side_by_side_and_in_turn_come_to_the_same_bits(compiled, random_batch):
    learner, before = compiled
    states, helper = [], learner._helper
    assert helper is not None
    assert learner.compiled
    for each in (helper, None, helper):
        learner._helper = each
        learner.load_state_dict(before)
        for seed in range(20):
            learner.update(random_batch(seed))
        states.append(leaves(learner.state_dict()))
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
        np.testing.assert_array_equal(value, states[2][name], err_msg=name)


def test_without_a_compiler_it_says_so_and_the_agent_is_as_it_was(monkeypatch, random_batch):
    def broken(*args, **kwargs):
        def fails(*args):
            raise RuntimeError("no C++ compiler\nand a long story")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    learner, plain = agent(), agent()
    with pytest.raises(CompilerUnavailable, match=r"^no C\+\+ compiler$"):
        learner.compile(32)
    for each in (learner, plain):
        each.update(random_batch(0))
    assert torch.equal(learner.log_alpha, plain.log_alpha)
    assert learner._helper is None
    assert not learner.compiled
