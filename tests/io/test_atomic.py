import os

import pytest

from separator.io import locks
from separator.io.atomic import AtomicFiles, make_folder, remove_unfinished, write_together


def text(content):
    return lambda path: path.write_text(content)


def test_all_files_are_written_and_no_others(tmp_path):
    write_together({tmp_path / "a" / "b" / "one.txt": text("1"), tmp_path / "two.txt": text("2")})
    assert (tmp_path / "a" / "b" / "one.txt").read_text() == "1" and (tmp_path / "two.txt").read_text() == "2"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_if_one_file_fails_nothing_changes(tmp_path, error):
    def interrupted(path):
        path.write_text("half")
        raise error

    (tmp_path / "one.txt").write_text("before")
    with pytest.raises(error):
        write_together({tmp_path / "one.txt": text("after"), tmp_path / "new" / "deep" / "two.txt": interrupted})
    assert (tmp_path / "one.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]


def test_a_folder_that_cannot_be_created_leaves_no_folders(tmp_path):
    impossible = tmp_path / "new" / "deep" / ("x" * 300)
    for attempt in (lambda: make_folder(impossible), lambda: write_together({impossible / "one.txt": text("1")})):
        with pytest.raises(OSError, match="File name too long"):
            attempt()
        assert list(tmp_path.iterdir()) == []


def test_a_folder_with_the_name_of_a_file_is_found_before_any_rename(tmp_path):
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


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    """Reading the umask would mean changing it, for all threads."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    write_together({tmp_path / "one.txt": text("1")})
    (tmp_path / "plain.txt").write_text("from any program")
    assert (tmp_path / "one.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_replacing_is_all_or_nothing_up_to_the_last_rename(tmp_path, monkeypatch, has_links, exists):
    paths = [tmp_path / name for name in ("one.txt", "two.txt", "three.txt")]
    for path in paths[: 2 if exists else 0]:
        path.write_text(f"before {path.name}")
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(95, "not supported")))
    with AtomicFiles(paths) as files:
        for temporary in files.temporary.values():
            temporary.write_text("after")
        paths[2].mkdir()  # as another process might do at this moment
        with pytest.raises(IsADirectoryError):
            files.commit()
    paths[2].rmdir()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {path.name: f"before {path.name}" for path in paths[: 2 if exists else 0]}


def test_replaced_files_leave_no_backups(tmp_path):
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for content in ("before", "after"):
        write_together({path: text(content) for path in paths})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one.txt": "after", "two.txt": "after"}


def test_existing_files_may_be_kept(tmp_path):
    (tmp_path / "one.txt").write_text("before")
    with AtomicFiles([tmp_path / "one.txt", tmp_path / "two.txt"], overwrite=False, keep=True) as files:
        for temporary in files.temporary.values():
            temporary.write_text("after")
        files.commit()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one.txt": "before", "two.txt": "after"}


@pytest.mark.parametrize("letter", ["b", "\N{LATIN SMALL LETTER O WITH DIAERESIS}"])
@pytest.mark.parametrize("longest", [143, 255])
def test_a_temporary_name_is_no_longer_than_the_final_name(tmp_path, letter, longest):
    """The maximum length of a name is 143 bytes in encrypted home folders, and 255 bytes in other file systems."""
    stem = letter * ((longest - len("_1.wav")) // len(letter.encode()))
    first, second = tmp_path / f"{stem}_1.wav", tmp_path / f"{stem}_2.wav"
    with AtomicFiles([first, second]) as files:
        temporary = list(files.temporary.values())
        assert all(len(os.fsencode(path.name)) <= longest and path.name.startswith(".") for path in temporary)
        remove_unfinished(first)
        assert [path.exists() for path in temporary] == [False, True]
        temporary[0].touch()
        files.commit()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_temporary_names_of_similar_short_names_differ(tmp_path):
    with AtomicFiles([tmp_path / "a.wav", tmp_path / "a.b.wav"]) as files:
        assert [path.name.rpartition(".")[0].rpartition(".")[0] for path in files.temporary.values()] == [".a", ".a.b"]


def test_without_file_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "AVAILABLE", False)
    write_together({tmp_path / "one.txt": text("1"), tmp_path / "two.txt": text("2")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt", "two.txt"]
