"""The compiled update is the eager one but for rounding, and eager where there is no compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sac import SAC, CompilerUnavailable, SACConfig

ROOT = Path(__file__).parents[2]
OBS, ACTION = 5, 3
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


def agent(seed: int = 0) -> SAC:
    config = SACConfig(hidden=(16, 16))
    return SAC(OBS, ACTION, config, torch.device("cpu"), seed)


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


def test_without_a_compiler_it_says_so_and_the_agent_is_as_it_was(monkeypatch, random_batch):
    def broken(*args, **kwargs):
        def fails(*args):
            raise RuntimeError("no C++ compiler\nand a long story")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    learner, plain = agent(), agent()
    with pytest.raises(CompilerUnavailable, match=r"^no C\+\+ compiler; install a C\+\+ compiler or, where"):
        learner.compile(32)
    for each in (learner, plain):
        each.update(random_batch(0))
    assert torch.equal(learner.log_alpha, plain.log_alpha)
    assert not learner.compiled


def compiled_anew(cache: Path) -> str:
    """Returns what a process of its own says that compiles with what lies in the directory `cache`."""
    code = (
        "import torch; from sac import SAC, SACConfig, CompilerUnavailable\n"
        f"learner = SAC({OBS}, {ACTION}, SACConfig(hidden=(16, 16)), torch.device('cpu'), 0)\n"
        "try: learner.compile(32); print('compiled')\n"
        "except CompilerUnavailable as error: print(error)\n"
    )
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True).stdout


def test_a_cache_that_cannot_be_written_is_named():
    said = compiled_anew(Path("/dev/null/cache"))
    assert (
        "Not a directory: '/dev/null/cache'; install a C++ compiler or, where there is one, delete /dev/null/" in said
    )


@pytest.mark.slow
@needs_compiler
def test_a_damaged_cache_is_named_and_without_it_the_update_is_compiled_again(tmp_path):
    assert compiled_anew(tmp_path / "cache") == "compiled\n"
    libraries = list((tmp_path / "cache").rglob("*.so"))
    for library in libraries:
        os.truncate(library, 100)
    assert libraries
    said = compiled_anew(tmp_path / "cache")
    assert " error: " in said
    assert f"delete {tmp_path / 'cache'} (TORCHINDUCTOR_CACHE_DIR)" in said
    assert said.count("\n") == 1
    shutil.rmtree(tmp_path / "cache")
    assert compiled_anew(tmp_path / "cache") == "compiled\n"
