"""What else than its options decides a run's bits, and that a change of it is told."""

import importlib
import sys

import torch

from sac import SAC, SACConfig
from training.resume.versions import code_hash, current_versions, version_notes

AGENT = SAC(2, 1, SACConfig(hidden=(4,)), torch.device("cpu"), 0)


def test_packages_code_and_processor_are_named():
    versions = current_versions(AGENT, "reach")
    assert {"torch", "mujoco", "numpy", "code", "cpu", "updates", "threads", "device"} == versions.keys()
    assert all(isinstance(version, str) for version in versions.values())
    assert versions["threads"] == str(torch.get_num_threads())


def test_the_codes_hash_follows_the_code(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("1")
    (tmp_path / "sac").mkdir()
    (tmp_path / "sac" / "losses.py").write_text("q = 1")
    monkeypatch.setattr("training.resume.versions.ROOT", tmp_path)
    before = code_hash()
    assert code_hash() == before
    (tmp_path / "sac" / "losses.py").write_text("q = 2")
    assert code_hash() != before


def test_an_environment_of_somebodys_own_is_hashed_with_what_it_imports_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("their_base", "their_task", "their_notes"):
        (tmp_path / f"{name}.py").write_text("import their_base" if name == "their_task" else "")
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("their_task")
    versions = current_versions(AGENT, "their_task:Env")
    (tmp_path / "their_notes.py").write_text("nobody imports this")
    assert current_versions(AGENT, "their_task:Env") == versions
    (tmp_path / "their_base.py").write_text("reward = 2")
    (note,) = version_notes(versions, current_versions(AGENT, "their_task:Env"))
    assert note.startswith(f"saved with their_task {versions['their_task']}, running ")


def test_what_is_another_is_told():
    running = current_versions(AGENT, "reach")
    assert version_notes(running, running) == []
    assert version_notes({}, running) == []
    assert version_notes(running | {"torch": "1.0", "threads": "64"}, running) == [
        f"saved with torch 1.0, running {running['torch']}: the continued run may not be bit-exact",
        f"saved with threads 64, running {running['threads']}: the continued run may not be bit-exact",
    ]
