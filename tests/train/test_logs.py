import csv
import errno

import pytest

from separator.train.logs import RunLog


def test_rows_are_removed_completely_or_not_at_all(tmp_path, monkeypatch):
    """If the run is killed or the disk is full while rows are removed, the file still has all of them."""
    path = tmp_path / "train.csv"
    path.write_text("step,loss\r\n1,3\r\n2,2\r\n3,1\r\n")
    before, real = path.read_bytes(), csv.writer

    class Full:
        def __init__(self, file):
            self.writer = real(file)

        def writerows(self, rows):
            self.writer.writerow(rows[0])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(csv, "writer", Full)
    with pytest.raises(OSError, match="No space left"):
        RunLog(tmp_path, 2)
    assert path.read_bytes() == before
    monkeypatch.undo()
    RunLog(tmp_path, 2).close()
    assert path.read_text().split() == ["step,loss", "1,3", "2,2"]
    assert [item.name for item in tmp_path.iterdir() if item.name != "tensorboard"] == ["train.csv"]


def test_a_file_begins_with_its_header(tmp_path):
    """This is also true if a full disk cut the first header off."""
    (tmp_path / "train.csv").write_text("step,lo")
    log = RunLog(tmp_path, 0)
    log.add("train", 1, {"loss": 0.5})
    log.close()
    assert (tmp_path / "train.csv").read_text().split() == ["step,loss", "1,0.5"]
