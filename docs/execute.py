"""Executes the tutorial, and keeps in it what its cells say.

python docs/execute.py [FOLDER]

It trains in FOLDER/runs/demo, or in a folder that is removed; a finished run there is only loaded.
"""

import hashlib
import pathlib
import sys
import tempfile

import nbclient
import nbformat

NOTEBOOK = pathlib.Path(__file__).resolve().parent / "tutorial.ipynb"
FIRST, LAST = 40, 20  # lines that a page has of a cell that says more
EXECUTED = "executed"  # in a cell's metadata: the hash of the source whose outputs it has


def digest(source: str) -> str:
  """Returns the hash by which a cell's outputs are known to be those of its source."""
  return hashlib.sha256(source.encode()).hexdigest()[:16]


def execute(folder: pathlib.Path) -> None:
  """Executes all cells in a folder, and writes them back with their outputs."""
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=None, resources={"metadata": {"path": str(folder)}}, record_timing=False
  ).execute()
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.metadata[EXECUTED] = digest(cell.source)
      cell.outputs = _joined(cell.outputs)

  nbformat.write(notebook, NOTEBOOK)


def _joined(outputs: list) -> list:
  """Returns outputs in which what was printed stands together, as plain text; long ones are cut.

  Warnings are left out: they name files of this machine. Lines of a terminal that are in colour
  come as pages of their own, which have their text beside them.
  """
  printed = []
  others = []
  for one in outputs:
    if one.output_type == "stream":
      printed += [one.text] if one.name == "stdout" else []
    elif one.output_type == "display_data":
      printed.append(one.data["text/plain"].rstrip("\n") + "\n")
    else:
      others.append(one)

  lines = "".join(printed).splitlines(keepends=True)
  if (left_out := len(lines) - FIRST - LAST) > 0:
    lines = [*lines[:FIRST], f"[… {left_out} lines are left out here …]\n", *lines[-LAST:]]
  stream = [nbformat.v4.new_output("stream", name="stdout", text="".join(lines))] if lines else []
  return stream + others


if __name__ == "__main__":
  if len(sys.argv) > 1:
    execute(pathlib.Path(sys.argv[1]))
  else:
    with tempfile.TemporaryDirectory() as made:
      execute(pathlib.Path(made))
