"""docs/look_inside.ipynb runs from its first cell to its last, and shows what a run of it made."""

import json
from pathlib import Path

import pytest

import train

ROOT = Path(train.__file__).parent
NOTEBOOK = ROOT / "docs" / "look_inside.ipynb"


def test_it_shows_its_pictures_and_no_machine():
    content = NOTEBOOK.read_text()
    cells = json.loads(content)["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert not any(word in content for word in ("/home/", "/root/", "/tmp/", "Traceback"))
    assert len(content) < 500_000


@pytest.mark.slow
def test_it_runs():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": ROOT}}).execute()
