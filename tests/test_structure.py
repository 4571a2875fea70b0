"""Dependencies between the parts of the package: no circles, and no training code in what separates."""

import ast
from pathlib import Path

import pytest

import separator

PACKAGE = Path(separator.__file__).parent
# (importer, other): forbidden imports, direct or indirect, also inside functions.
NEVER = [
    ("objectives", "models"),
    ("io", "models"),
    ("models", "inference"),
    ("models", "zoo"),
    ("zoo", "inference"),
    ("zoo", "data"),
    ("streaming", "inference"),
    ("inference", "config"),
    ("inference", "data"),
    ("inference", "train"),
    ("data", "models"),
    ("data", "train"),
    ("train", "inference"),
    ("html", "inference"),
    ("cli", "data"),
    ("cli", "train"),
    ("web", "cli"),
    ("web", "train"),
]


def module(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in PACKAGE.rglob("*.py")}


def imported(path):
    """Modules of the package that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        else:
            continue
        yield from (name for name in names if name in MODULES and name != "separator")


IMPORTS = {name: set(imported(path)) for name, path in MODULES.items() if name != "separator"}


def room(name):
    return name.split(".")[1]


ROOMS = {room(name): set() for name in IMPORTS}
for importer, found in IMPORTS.items():
    ROOMS[room(importer)] |= {room(name) for name in found} - {room(importer)}


def reachable(start):
    found, todo = set(), [start]
    while todo:
        new = ROOMS[todo.pop()] - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize(("importer", "other"), NEVER)
def test_a_part_does_not_import_another(importer, other):
    assert other in ROOMS and other not in reachable(importer)


def test_commands_are_imported_only_by_other_commands():
    """Only the demo may import another command."""
    for entrance in ("cli", "web", "demo", "export", "study", "average", "publish"):
        assert {name for name, needs in ROOMS.items() if entrance in needs} <= {"demo"}


@pytest.mark.parametrize("graph", [IMPORTS, ROOMS], ids=["modules", "rooms"])
def test_there_is_no_circular_import(graph):
    # A package's __init__ may import its own modules.
    graph = {name: {other for other in needs if not name.startswith(f"{other}.")} for name, needs in graph.items()}
    done = set()
    while len(done) < len(graph):
        ready = {name for name, needs in graph.items() if needs <= done} - done
        assert ready, f"these modules import each other: {sorted(set(graph) - done)}"
        done |= ready


def test_files_are_short():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path
