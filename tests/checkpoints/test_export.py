"""The networks alone, as they are shipped."""

import shutil

import pytest

from checkpoints import NETWORKS, PRETRAINED, CheckpointError, export_policy, load, save, verify


def test_export_holds_the_networks_and_how_they_were_made_and_nothing_else(samples, tmp_path):
    source = samples.store(tmp_path / "run", success=0.75)
    export_policy(source, tmp_path / "pretrained" / "reach", "python train.py")
    restored, manifest = load(tmp_path / "pretrained" / "reach")
    networks = {name: samples.state()["agent"][name] for name in NETWORKS}
    samples.assert_same({"agent": networks, "progress": {"reward_scale": 0.5}}, restored)
    assert (manifest.step, manifest.success, manifest.fingerprint) == (10, 0.75, "f1e2d3")
    assert manifest.config == samples.ABOUT.config | {"command": "python train.py"}
    assert [path.name for path in (tmp_path / "pretrained").iterdir()] == ["reach"]
    assert sorted(path.name for path in (tmp_path / "pretrained" / "reach").iterdir()) == [
        "agent.safetensors",
        "manifest.json",
    ]


def test_export_beside_its_source_leaves_the_source_as_it_was(samples, tmp_path):
    source = samples.store(tmp_path)
    export_policy(source, tmp_path / "policy", "python train.py")
    samples.assert_same(samples.state(), load(source)[0])
    assert (tmp_path / "policy" / "manifest.json").is_file()


def test_export_needs_no_more_than_the_policys_part(samples, tmp_path):
    source = samples.store(tmp_path)
    shutil.rmtree(tmp_path / "segments")
    export_policy(source, tmp_path / "policy", "python train.py")
    verify(tmp_path / "policy")


def test_export_replaces_an_older_export(samples, tmp_path):
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        export_policy(samples.store(tmp_path / "run", seed=seed), tmp_path / "policy", "python train.py")
    actor = load(tmp_path / "policy")[0]["agent"]["actor_average"]
    samples.assert_same(samples.state(2)["agent"]["actor_average"], actor)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_checkpoint_of_code_without_such_networks_is_named(samples, tmp_path, part):
    state = samples.state()
    del state["agent"][part]
    source = save(tmp_path / "run", 10, state, samples.ABOUT)
    with pytest.raises(CheckpointError, match="holds no such networks: older code wrote it; train it again"):
        export_policy(source, tmp_path / "policy", "python train.py")
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(
    "kind", ["directory", "empty directory", "file", "checkpoint", "foreign manifest", "dead link"]
)
def test_export_leaves_alone_what_is_no_export(samples, tmp_path, kind):
    source, target = samples.store(tmp_path / "run"), tmp_path / "precious"
    match kind:
        case "file":
            target.write_text("thesis")
        case "checkpoint":
            samples.store(tmp_path).rename(target)
        case "dead link":
            target.symlink_to(tmp_path / "nowhere")
        case _:
            target.mkdir()
            if kind != "empty directory":
                (target / ("manifest.json" if kind == "foreign manifest" else "thesis.tex")).write_text("{}")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(CheckpointError, match="precious is there already and is no exported policy; name another"):
        export_policy(source, target, "python train.py")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("path", sorted(PRETRAINED.iterdir()), ids=lambda path: path.name)
def test_the_policies_that_come_along_verify(path):
    assert "command" in verify(path).config
