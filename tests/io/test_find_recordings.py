import json
from pathlib import Path

import pytest

from separator.errors import AudioError, ConfigError
from separator.io import find_recordings
from separator.io.find_recordings import Item


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.wav", "in/a.MP3", "in/deep/er/c.m4a", "in/notes.txt", "in/.git/d.wav", "in/stems/e/s1.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


def found(*names, **settings):
    return {str(item.path): item.track for item in find_recordings.find(names, **settings)}


def test_a_folder_is_searched_at_any_depth(tree):
    whole = {"in/a.MP3": "a", "in/b.wav": "b", "in/deep/er/c.m4a": "deep/er/c", "in/stems/e/s1.wav": "stems/e/s1"}
    assert found("in") == whole
    del whole["in/stems/e/s1.wav"]
    assert found("in", out=Path("in/stems")) == whole
    assert list(found("in")) == sorted(found("in"))


def test_stems_in_the_folder_of_the_recordings_are_refused(tree):
    with pytest.raises(ConfigError, match=r"in: the stems would be written among the recordings, .* such as in/stems"):
        found("in", out=Path("in"))
    assert "in/b.wav" in found("in", out=Path("in/stems")) and "in/b.wav" in found("in", out=Path())


def test_a_file_that_is_named_may_have_any_name(tree):
    assert found("in/notes.txt", "missing.wav") == {"in/notes.txt": "notes", "missing.wav": "missing"}


def test_patterns(tree):
    assert found("in/*") == {"in/a.MP3": "a", "in/b.wav": "b", "in/notes.txt": "notes"}
    assert found("in/**/*.m4a") == {"in/deep/er/c.m4a": "deep/er/c"}
    assert found(str(tree / "in/*.wav")) == {str(tree / "in/b.wav"): "b"}
    Path("in/[x].wav").touch()
    assert found("in/[x].wav") == {"in/[x].wav": "[x]"}


def test_each_recording_is_found_once(tree):
    assert list(found("in/b.wav", "in", "./in/b.wav", out=Path("in/stems"))) == [
        "in/b.wav", "in/a.MP3", "in/deep/er/c.m4a",
    ]  # fmt: skip


def test_recordings_with_the_same_name_get_unique_tracks(tree):
    Path("in/b.flac").touch()
    assert found("in/b.wav", "in/b.flac") == {"in/b.wav": "b.wav", "in/b.flac": "b.flac"}
    Path("b.wav").touch()
    with pytest.raises(ConfigError, match=r"in/b\.wav and b\.wav: their stems would have the same names"):
        find_recordings.find(["in/b.wav", "b.wav"])


def test_lists(tree):
    Path("in/list.txt").write_text("b.wav\ndeep/er/c.m4a\n\n")
    assert find_recordings.find([], [Path("in/list.txt")]) == [
        Item(Path("in/b.wav"), "b"),
        Item(Path("in/deep/er/c.m4a"), "c"),
    ]
    Path("list.csv").write_text("path,track\nin/b.wav,calls/1\nin/a.MP3,\n")
    assert find_recordings.find([], [Path("list.csv")]) == [
        Item(Path("in/b.wav"), "calls/1"),
        Item(Path("in/a.MP3"), "a"),
    ]
    rows = [{"path": "in/b.wav", "track": "x"}, "in/a.MP3"]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert find_recordings.find([], [Path("list.jsonl")]) == [Item(Path("in/b.wav"), "x"), Item(Path("in/a.MP3"), "a")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", None, "No such file"),
        ("list.txt", "\n", "the list is empty"),
        ("list.csv", "file\na.wav\n", "a row without a path"),
        ("list.csv", "path,track\na,b.wav,x\n", "the row of a has more fields than the header; put quotes"),
        ("list.jsonl", '"a.wav"\n{broken', "line 2 is not valid JSON"),
        ("list.txt", "# nothing but a comment\n", "the list is empty"),
        ("list.txt", b"\xff\xfe\x00", "cannot be read as a list"),
    ],
)
def test_bad_lists(tree, name, content, message):
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        find_recordings.find([], [Path(name)])


def test_a_folder_or_pattern_without_recordings_is_an_error(tree):
    Path("empty").mkdir()
    with pytest.raises(AudioError, match="empty: contains no recordings"):
        find_recordings.find(["empty"])
    with pytest.raises(AudioError, match=r"in/\*\.xyz: no file matches this pattern"):
        find_recordings.find(["in/*.xyz"])


def test_lists_with_quotes_and_comments(tree):
    expected = [Item(Path("in/b.wav"), "b"), Item(Path("in/a.MP3"), "a")]
    Path("in/list.txt").write_text("# calls of May\r\n\"b.wav\"\r\n  # and one more\r\n'a.MP3'\r\n")
    assert find_recordings.find([], [Path("in/list.txt")]) == expected
    Path("in/list.tsv").write_text('# exported\npath\ttrack\nb.wav\tx, y\n"a.MP3"\t\n')
    assert find_recordings.find([], [Path("in/list.tsv")]) == [
        Item(Path("in/b.wav"), "x, y"),
        Item(Path("in/a.MP3"), "a"),
    ]
    for name in ("in/#1.wav", "in/'q'"):
        Path(name).touch()
    Path("in/list.txt").write_text("#1.wav\n'q'\n")
    assert [str(item.path) for item in find_recordings.find([], [Path("in/list.txt")])] == ["in/#1.wav", "in/'q'"]


def test_folders_in_lists(tree):
    Path("list.txt").write_text("in/deep\n")
    assert find_recordings.find([], [Path("list.txt")]) == [Item(Path("in/deep/er/c.m4a"), "er/c")]
    Path("list.csv").write_text("path,track\nin,may\n")
    tracks = {item.track for item in find_recordings.find([], [Path("list.csv")], out=Path("in/stems"))}
    assert tracks == {"may/a", "may/b", "may/deep/er/c"}
    Path("empty").mkdir()
    Path("list.txt").write_text("empty\n")
    with pytest.raises(AudioError, match="empty: contains no recordings"):
        find_recordings.find([], [Path("list.txt")])


def test_a_list_may_name_a_recording_under_several_tracks(tree):
    Path("list.csv").write_text("path,track\nin/b.wav,x\nin/b.wav,y\nin/b.wav,x\nin/b.wav,\n")
    both = [Item(Path("in/b.wav"), "x"), Item(Path("in/b.wav"), "y")]
    assert find_recordings.find([], [Path("list.csv")]) == both
    assert find_recordings.find(["in/b.wav"], [Path("list.csv")]) == both


def test_links_to_folders_are_followed_and_cycles_end(tree):
    Path("elsewhere/deep").mkdir(parents=True)
    Path("elsewhere/deep/e.wav").touch()
    Path("in/a_link").symlink_to("../elsewhere")
    Path("in/link_to_existing").symlink_to("deep")
    Path("in/deep/cycle").symlink_to("..")
    Path("elsewhere/back").symlink_to("../in")
    Path("elsewhere/broken").symlink_to("nowhere")
    Path("in/linked.wav").symlink_to("../elsewhere/deep/e.wav")
    tracks = set(found("in", out=Path("in/stems")).values())
    assert tracks == {"a", "b", "deep/er/c", "a_link/deep/e", "linked"}
    assert set(found("elsewhere", out=Path("in/stems")).values()) == {
        *("deep/e", "back/a", "back/b", "back/deep/er/c", "back/linked")
    }


def test_a_folder_that_is_itself_a_link(tree):
    Path("all").symlink_to("in")
    assert set(found("all", out=Path("in/stems")).values()) == {"a", "b", "deep/er/c"}


def test_recordings_may_be_in_the_folder_of_the_stems(tree):
    assert "in/b.wav" in found("in", out=Path()) and "in/deep/er/c.m4a" in found("in/deep", out=Path("in"))
