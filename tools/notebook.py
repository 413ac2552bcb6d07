"""Runs the notebook of the examples and stores it with its outputs, or checks that those stored are of this notebook.

python -m tools.notebook            run it, store it
python -m tools.notebook --check    run it, and compare what kind of output each cell has with what is stored

What goes to stderr (progress bars), times and names of machines are not stored. Needs nbclient and ipykernel.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "examples/notebook/dino_st.ipynb"


def run(path: Path = NOTEBOOK) -> Any:
    """The notebook after a run of all its cells, in its own directory; raises where a cell does."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # else a progress bar between two prints makes two outputs of one, by chance
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def kinds(notebook: Any) -> list[list[str]]:
    """What kinds of output each cell of code has."""
    return [[output.output_type for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]


def main() -> int:
    """The exit status."""
    import nbformat

    notebook = run()
    if "--check" not in sys.argv[1:]:
        nbformat.write(notebook, NOTEBOOK)
        return 0
    stored, found = kinds(nbformat.read(NOTEBOOK, as_version=4)), kinds(notebook)
    if stored != found:
        print(f"stored outputs: {stored}\nof this run:    {found}\nStore them anew with `python -m tools.notebook`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
