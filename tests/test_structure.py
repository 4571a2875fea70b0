"""Which part may import which: arrows point one way, and nothing that separates knows of training."""

import ast
from pathlib import Path

import separator

PACKAGE = Path(separator.__file__).parent

# fmt: off
ALLOWED = {
    "errors": set(),
    "devices": {"errors"},
    "locks": set(),
    "files": {"locks"},
    "report": set(),
    "objectives": set(),
    "schedules": {"errors"},
    "config": {"errors"},
    "audio": {"errors"},
    "chunks": {"errors"},
    "speakers": {"objectives"},
    "inputs": {"errors"},
    "uncounted": set(),
    "recording": {"audio", "errors"},
    "mp3_header": set(),
    "av_recording": {"audio", "errors", "mp3_header", "recording"},
    "readers": {"audio", "av_recording", "errors", "recording", "uncounted"},
    "parts": {"errors", "inputs", "readers"},
    "channel_likeness": set(),
    "models": {"errors", "objectives"},
    "checkpoint": {"errors", "files", "models"},
    "foreign": {"checkpoint", "errors", "models"},
    "hub": {"checkpoint", "errors", "foreign", "models"},
    "zoo": {"checkpoint", "errors", "foreign", "hub", "models"},
    "resampling": set(),
    "stream": {"audio", "devices", "errors", "models", "resampling"},
    "stem_paths": {"errors"},
    "wav": {"audio"},
    "stem_files": {"audio", "errors", "files", "wav"},
    "rumble": set(),
    "estimation": {"devices", "errors", "models", "objectives", "rumble"},
    "pipeline": {"channel_likeness", "chunks", "errors", "estimation", "speakers", "stream"},
    "file_result": {"recording"},
    "checks": {"devices", "errors", "models"},
    "separation": {
        "audio", "checks", "devices", "errors", "estimation", "file_result", "models", "pipeline", "readers",
        "recording", "stem_files", "stem_paths", "stream", "zoo",
    },
    "lanes": {"readers"},
    "player": {"lanes"},
    "page": {"player"},
    "separation_page": {"errors", "file_result", "files", "lanes", "page", "player", "separation"},
    "sources": {"audio", "errors"},
    "sinks": {"errors", "files", "wav"},
    "live": {"errors", "sinks", "sources", "stream"},
    "export": {"errors", "files", "models", "zoo"},
    "average": {"checkpoint", "errors", "models", "zoo"},
    "publish": {"checkpoint", "errors", "files", "models", "zoo"},
    "fleet": {"checks", "errors", "estimation", "files", "inputs", "separation", "stem_paths", "zoo"},
    "cli": {
        "audio", "errors", "file_result", "fleet", "inputs", "live", "parts", "separation", "separation_page",
        "signals", "sinks", "sources", "stem_files", "stem_paths", "zoo",
    },
    "logs": {"files", "report"},
    "data": {"audio", "errors", "files", "inputs", "locks", "recording"},
    "settings": {"errors"},
    "optimizers": {"devices"},
    "growth": {"errors", "models", "zoo"},
    "learner": {"data", "devices", "errors", "models", "objectives", "settings"},
    "processes": {"errors", "settings"},
    "run_folder": {"checkpoint", "config", "errors", "files", "locks", "models"},
    "train": {"config", "data", "errors", "growth", "learner", "logs", "models", "processes", "run_folder", "settings"},
    "study": {"config", "data", "errors", "files", "models", "report"},
    "bounds": set(),
    "measures": {"data", "errors", "objectives"},
    "summary": set(),
    "evaluation_page": {"data", "lanes", "page", "player", "report", "summary"},
    "evaluate": {
        "bounds", "checkpoint", "config", "data", "errors", "evaluation_page", "files", "measures", "objectives",
        "separation", "summary",
    },
    "signals": set(),
    "web": {
        "checks", "demo", "devices", "errors", "inputs", "lanes", "player", "readers", "separation", "separation_page",
        "signals", "sinks", "stem_files", "wav", "zoo",
    },
    "demo": {"cli", "data", "errors", "objectives", "report", "stem_files"},
}
# fmt: on


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Parts of the package that a file imports, anywhere in it; names of modules from `from separator import x`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "separator":
            names = [f"separator.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("separator."))


def test_imports_follow_the_table():
    found = {name: set() for name in ALLOWED}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py" or path.parent != PACKAGE:
            found[part(path)] |= set(imported(path)) - {part(path)}
    assert found == ALLOWED


def test_the_table_has_no_circle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {name for name, needs in ALLOWED.items() if needs <= done} - done
        assert ready, f"these import each other: {sorted(set(ALLOWED) - done)}"
        done |= ready


def test_no_file_is_more_than_one_idea():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path
