"""Which room of the package may never know of which: arrows point one way, and nothing that separates trains."""

import ast
from pathlib import Path

import pytest

import separator

PACKAGE = Path(separator.__file__).parent
# Who may not import whom, directly or through others, also not where a name is first used.
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
    """Modules of the package that a file imports, anywhere in it."""
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
def test_a_room_never_knows_of_another(importer, other):
    assert other in ROOMS and other not in reachable(importer)


def test_only_entrances_are_above_the_commands():
    """What a user starts may be known to another entrance alone."""
    for entrance in ("cli", "web", "demo", "export", "study", "average", "publish"):
        assert {name for name, needs in ROOMS.items() if entrance in needs} <= {"demo"}


@pytest.mark.parametrize("graph", [IMPORTS, ROOMS], ids=["modules", "rooms"])
def test_no_circle(graph):
    # A package's own file shows what is in it.
    graph = {name: {other for other in needs if not name.startswith(f"{other}.")} for name, needs in graph.items()}
    done = set()
    while len(done) < len(graph):
        ready = {name for name, needs in graph.items() if needs <= done} - done
        assert ready, f"these import each other: {sorted(set(graph) - done)}"
        done |= ready


def test_no_file_is_more_than_one_idea():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path
