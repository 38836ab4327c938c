"""Links in the documentation lead somewhere; those to a line of code, to what their text names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE_LINK = re.compile(r"\[`([^`]+)`\]\(([^)\s#]+)#L(\d+)\)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page):
    """Without blocks of code, in which nothing is a link or a heading."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def definitions(file):
    """[(name, line)] of what a file defines: classes, functions, and the constants and fields of both kinds of body."""
    found = []

    def visit(body, prefix):
        for node in body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            found.extend((f"{prefix}{name}", node.lineno) for name in names)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(file.read_text()).body, "")
    return found


def lines_meant(file, text):
    """The lines of `file` that a link with this text may point at: those that define a (dotted) name, or that begin
    with a longer piece of code."""
    if re.fullmatch(r"\w+(\.\w+)*", text):
        return [line for name, line in definitions(file) if name == text or name.endswith(f".{text}")]
    lines = enumerate(file.read_text().splitlines(), start=1)
    return [number for number, line in lines if line.strip().startswith(text)]


def wrong_code_links(page):
    """A sentence for each link of a page that points at another line than the one its text names."""
    for text, target, line in CODE_LINK.findall(text_of(page)):
        meant = lines_meant((page.parent / target).resolve(), text)
        if int(line) not in meant:
            where = ", ".join(f"L{number}" for number in meant) or "nowhere"
            yield f"{page.name}: `{text}` is not at {target}#L{line} but at {where}"


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    broken = []
    for target in LINK.findall(text_of(page)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(target)
        elif anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)", text_of(file), flags=re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_line_lead_to_what_their_text_names(page):
    assert "\n".join(wrong_code_links(page)) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_line_says_in_code_what_is_there(page):
    text = text_of(page)
    assert len(re.findall(r"\]\([^)\s]*#L", text)) == len(CODE_LINK.findall(text))


def test_internals_links_every_equation():
    linked = {text for text, _, _ in CODE_LINK.findall((ROOT / "docs" / "internals.md").read_text())}
    losses = ROOT / "sac" / "losses.py"
    assert {name for name, _ in definitions(losses)} <= linked


def test_a_line_that_moved_is_noticed(tmp_path):
    code, page = tmp_path / "code.py", tmp_path / "page.md"
    page.write_text(
        "[`half`](code.py#L4) [`Box.lid`](code.py#L2) [`lid`](code.py#L2) [`return x / 2`](code.py#L5) "
        "[`x / 2`](code.py#L5) [`gone`](code.py#L1)"
    )
    before = "class Box:\n    lid: int = 0\n\ndef half(x):\n    return x / 2\n"
    code.write_text(before)
    assert list(wrong_code_links(page)) == [
        "page.md: `x / 2` is not at code.py#L5 but at nowhere",
        "page.md: `gone` is not at code.py#L1 but at nowhere",
    ]
    code.write_text(f"import math\n{before}")
    definitions.cache_clear()
    assert len(list(wrong_code_links(page))) == 6
