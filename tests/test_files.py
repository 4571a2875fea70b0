import os

import pytest

from separator.files import make_folder, write_together


def text(content):
    return lambda path: path.write_text(content)


def test_all_are_written_and_nothing_else(tmp_path):
    write_together({tmp_path / "a" / "b" / "one.txt": text("1"), tmp_path / "two.txt": text("2")})
    assert (tmp_path / "a" / "b" / "one.txt").read_text() == "1" and (tmp_path / "two.txt").read_text() == "2"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_if_one_fails_all_is_as_before(tmp_path, error):
    def interrupted(path):
        path.write_text("half")
        raise error

    (tmp_path / "one.txt").write_text("before")
    with pytest.raises(error):
        write_together({tmp_path / "one.txt": text("after"), tmp_path / "new" / "deep" / "two.txt": interrupted})
    assert (tmp_path / "one.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]


def test_a_folder_that_cannot_be_made_leaves_none_behind(tmp_path):
    impossible = tmp_path / "new" / "deep" / ("x" * 300)
    for attempt in (lambda: make_folder(impossible), lambda: write_together({impossible / "one.txt": text("1")})):
        with pytest.raises(OSError, match="File name too long"):
            attempt()
        assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_found_before_anything_is_renamed(tmp_path):
    (tmp_path / "one.txt").write_text("before")
    (tmp_path / "two.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_together({tmp_path / "one.txt": text("after"), tmp_path / "two.txt": text("2")})
    assert (tmp_path / "one.txt").read_text() == "before"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_together({tmp_path / "one.txt": text("1")})
    finally:
        os.umask(before)
    assert (tmp_path / "one.txt").stat().st_mode & 0o777 == 0o640
