import gzip
import struct

import numpy as np
import pytest
import torch

from separator.errors import ConfigError, DataError
from separator.study.tasks import Adding, Copying, Digits


def draw(task, size=8, seed=0, **options):
    return task.batch(size, torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("task", [Adding(30), Copying(12), Digits()])
def test_the_seed_determines_the_batch(task):
    for one, same, other in zip(draw(task), draw(task), draw(task, seed=1), strict=True):
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_adding_marks_any_two_numbers():
    sequence, target = draw(Adding(31), 1000)
    numbers, marks = sequence.unbind(1)
    assert sequence.shape == (1000, 2, 31)
    assert (marks.sum(1) == 2).all() and ((marks == 0) | (marks == 1)).all()
    # Each pair is equally likely. Both numbers lie in the first half in 15 * 14 of 31 * 30 cases.
    assert abs(float((marks[:, :15].sum(1) == 2).float().mean()) - 15 * 14 / (31 * 30)) < 0.05
    assert (marks.sum(0) > 0).all()
    torch.testing.assert_close((numbers * marks).sum(1), target)
    # A constant output of 1 scores chance.
    assert abs(Adding(31).score(torch.ones(20_000, 1, 31), draw(Adding(31), 20_000)[1]) - Adding.chance) < 0.01


@pytest.mark.parametrize("lasting_sign", [False, True])
def test_copying_asks_for_the_symbols_after_the_gap(lasting_sign):
    task = Copying(12, lasting_sign)
    sequence, target = draw(task, 3)
    symbols = sequence.argmax(1)
    assert sequence.shape == (3, 10, 32) and (sequence.sum(1) == 1).all()
    assert ((symbols[:, :10] >= 1) & (symbols[:, :10] <= 8)).all()
    assert (symbols[:, 10:21] == 0).all() and (symbols[:, 21] == 9).all()
    assert (symbols[:, 22:] == (9 if lasting_sign else 0)).all()
    assert (target[:, :22] == 0).all()
    # Each symbol is due `reach` - 1 frames after its input.
    for frame in range(10):
        assert torch.equal(target[:, frame + task.reach - 1], symbols[:, frame])
    perfect = torch.nn.functional.one_hot(target, 10).float().mT
    assert task.score(perfect, target) == 1.0


def test_digits_keep_some_for_the_score():
    task = Digits()
    images, labels = draw(task, 10_000, training=False)
    assert images.shape == (359, 1, 64) and labels.bincount().min() > 20
    assert images.min() >= 0 and images.max() == 1
    kept = {tuple(image.flatten().tolist()) for image in images}
    seen = {tuple(image.flatten().tolist()) for image in draw(task, 5000)[0]}
    assert len(seen & kept) <= 1  # two digits may be equal
    assert draw(task)[0].shape == (8, 1, 64)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def test_digits_from_idx_files(tmp_path):
    images = np.arange(2 * 9 * 4).reshape(-1, 3, 3) % 256
    for name, count, pack in (("train", 6, bytes), ("t10k", 2, gzip.compress)):
        suffix = ".gz" if pack is gzip.compress else ""
        (tmp_path / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images[:count])))
        (tmp_path / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(np.arange(count))))
    task = Digits(str(tmp_path))
    sequence, labels = draw(task, 5, training=False)
    assert task.reach == 9 and labels.tolist() == [0, 1]
    np.testing.assert_allclose(sequence[:, 0], images[:2].reshape(2, 9) / 255, atol=1e-7)


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", idx(np.zeros(5))[:-1]])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="not an IDX file of unsigned bytes"):
        Digits(str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte and train-images-idx3-ubyte.gz not found"):
        Digits(str(tmp_path))


def test_images_without_labels_are_refused(tmp_path):
    for name in ("train", "t10k"):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 2, 2))))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(2)))
    with pytest.raises(DataError, match="3 images with 2 labels"):
        Digits(str(tmp_path))


def test_impossible_lengths_are_refused():
    with pytest.raises(ConfigError, match=r"task.gap must be a whole number of at least 1"):
        Copying(0)
    with pytest.raises(ConfigError, match=r"task.length must be a whole number of at least 2"):
        Adding(1)
