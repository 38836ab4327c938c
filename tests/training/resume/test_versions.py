"""What else than its options decides a run's bits, and that a change of it is told."""

import torch

from sac import SAC, SACConfig
from training.resume.versions import code_hash, current_versions, version_notes

AGENT = SAC(2, 1, SACConfig(hidden=(4,)), None, torch.device("cpu"), 0)


def test_packages_code_and_processor_are_named():
    versions = current_versions(AGENT)
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


def test_what_is_another_is_told():
    running = current_versions(AGENT)
    assert version_notes(running, running) == []
    assert version_notes({}, running) == []
    assert version_notes(running | {"torch": "1.0", "threads": "64"}, running) == [
        f"saved with torch 1.0, running {running['torch']}: the continued run may not be bit-exact",
        f"saved with threads 64, running {running['threads']}: the continued run may not be bit-exact",
    ]
