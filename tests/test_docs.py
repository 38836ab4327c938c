"""The documentation names what exists: its links lead somewhere, its code is in the files, its options are taken."""

import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

import pytest

from checkpoints import __main__ as checkpoints_cli
from env.oracle.__main__ import OracleConfig
from evaluate import EvaluateConfig
from training.analysis.compare import CompareConfig
from training.analysis.sweep.__main__ import SweepConfig
from training.config import TrainConfig, flatten

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
NOTEBOOK = ROOT / "docs" / "experiments.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE_LINK = re.compile(r"\[`([^`]+)`\]\(([^)\s#]+\.py)\)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z_-]*(?:\.[a-z][a-z-]*)?)")
FOREIGN = {
    *("logdir", "load_fast", "index-url", "user", "now", "init", "gpureset", "check"),
    *("standalone", "nproc-per-node", "max-restarts", "shutdown-timeout"),
    *("requeue", "signal"),
}
"""Options of other people's programs: TensorBoard, pip, systemctl, docker, rocm-smi, torchrun, SLURM."""


def text_of(page: Path) -> str:
    """Returns a page without its blocks of code, in which nothing is a link or a heading."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def definitions(file: Path) -> frozenset[str]:
    """Returns the dotted names that a file defines: classes, functions, and the constants and fields of both."""
    found = []

    def visit(body, prefix):
        for node in body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            found.extend(f"{prefix}{name}" for name in names)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(file.read_text()).body, "")
    return frozenset(found)


def holds(file: Path, text: str) -> bool:
    """Tells whether `file` defines a (dotted) name, is named so itself, or has a line that begins with that code."""
    if text == file.name:
        return True
    if re.fullmatch(r"\w+(\.\w+)*", text):
        return any(name == text or name.endswith(f".{text}") for name in definitions(file))
    return any(line.strip().startswith(text) for line in file.read_text().splitlines())


def slug(heading: str) -> str:
    """Returns the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def is_there(page: Path, target: str) -> bool:
    """Tells whether a relative link of `page` leads to a file of this repository, and to a heading of it."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.exists() or not file.is_relative_to(ROOT):
        return False
    headings = re.findall(r"^#+ (.*)", text_of(file), flags=re.MULTILINE) if file.suffix == ".md" else []
    return not anchor or anchor in map(slug, headings)


@cache
def known_options() -> frozenset[str]:
    """Returns every option of this project's commands, without the dashes before it."""
    train = flatten(asdict(TrainConfig("reach")))
    names = {*train, *(name.split(".")[0] for name in train)}  # --checkpoint.* means all of a group
    names |= {re.sub(r"(\w[\w-]*)$", r"no-\1", name) for name, value in train.items() if isinstance(value, bool)}
    for config in (EvaluateConfig, OracleConfig, CompareConfig, SweepConfig):
        names |= {field.name.replace("_", "-") for field in fields(config)}
    parsers = [
        *(ROOT / "benchmarks").glob("*.py"),
        ROOT / "tests" / "conftest.py",
    ]
    for file in parsers:
        names |= set(re.findall(r"add_?(?:argument|option)\(\s*\"--([\w-]+)\"", file.read_text()))
    for command in (checkpoints_cli._export, checkpoints_cli._prune):
        names |= {name.replace("_", "-") for name in inspect.signature(command).parameters}
    return frozenset(names | FOREIGN | {"help"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    relative = [target for target in LINK.findall(text_of(page)) if not re.match(r"\w+:", target)]
    assert [target for target in relative if not is_there(page, target)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_code_lead_to_the_file_that_holds_what_their_text_names(page):
    links = CODE_LINK.findall(text_of(page))
    assert [text for text, target in links if not holds((page.parent / target).resolve(), text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_counts_lines(page):
    assert re.findall(r"\.py#L\d+", page.read_text()) == []


def test_code_that_has_gone_is_noticed(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("class Box:\n    lid: int = 0\n\ndef half(x):\n    return x / 2\n")
    assert all(holds(file, text) for text in ("half", "Box.lid", "lid", "return x / 2", "code.py"))
    assert not any(holds(file, text) for text in ("x / 2", "gone", "half.lid", "return x / 3"))


def test_internals_links_every_equation():
    linked = {text for text, _ in CODE_LINK.findall((ROOT / "docs" / "internals.md").read_text())}
    assert definitions(ROOT / "sac" / "losses.py") <= linked


@pytest.mark.parametrize("page", [page for page in PAGES if page != NOTEBOOK], ids=lambda page: page.name)
def test_options_exist(page):
    """The lab notebook keeps its commands as they were typed; every other page is for today."""
    assert sorted(set(OPTION.findall(page.read_text())) - known_options()) == []


def test_the_readme_can_be_finished():
    assert len(README.read_text().split()) <= 1500


def test_the_readmes_environment_trains(tmp_path):
    """The class under "Your own environment", through the command that stands below it, in small."""
    (code,) = re.findall(r"^```python\n(import numpy.*?)^```", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^    python (train\.py --env point:Point.*)", README.read_text(), flags=re.MULTILINE)
    (tmp_path / "point.py").write_text(code)
    small = ["--steps", "300", "--warmup", "200", "--eval.episodes", "2", "--sac.hidden", "16", "--no-compile"]
    subprocess.run(
        [sys.executable, ROOT / "train.py", *command.split()[1:], *small],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
