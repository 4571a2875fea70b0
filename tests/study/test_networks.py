import csv
import sys

import matplotlib.image
import pytest
import torch

from separator import figures
from separator.study.networks import StackNetwork, TCNNetwork, fit, main, measure, merge, resolve_sizes, scores_by_x
from separator.study.tasks import Copying

SMALL = ["network.channels=8", "network.num_blocks=2", "steps=3", "score_examples=20", "task.gap=3"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The command line, run in this process and in `tmp_path`."""

    def study(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["separator.study", *arguments])
        main()

    return study


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_makes_a_table_and_a_plot(tmp_path, study):
    settings = [*SMALL, f"out={tmp_path}", "x=task.gap", "line=kind"]
    study("-m", *settings[:-3], "network.temporal=depthwise,talk", *settings[-3:])
    first = rows(tmp_path)
    assert [row["network.temporal"] for row in first] == ["depthwise", "talk"]
    assert all(row["receptive_field"] == "7" and row["reach"] == "14" for row in first)
    assert "| depthwise | depthwise | 7 |" in (tmp_path / "table.md").read_text()
    assert matplotlib.image.imread(tmp_path / "plot.png").shape[0] > 300
    # The same settings replace their row.
    study(*settings, "network.temporal=talk")
    assert [row["score"] for row in rows(tmp_path)] == [row["score"] for row in first]
    study(*settings, "network=tcn", "network.kernel_size=null", "network.receptive_field=25")
    assert rows(tmp_path)[-1]["kind"] == "TCN" and len(rows(tmp_path)) == 3
    assert rows(tmp_path)[-1]["network.kernel_size"] == "5"
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "table.md", "plot.png", "multirun.yaml"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["network.temporal=tallk"], "unknown temporal 'tallk'"),
        (["+network.heads=3"], "there is no setting 'network.heads'"),
        (["+stepps=3"], "there is no setting 'stepps'; the settings are"),
        (["x=task.gapp"], "x=task.gapp is not a setting of this study"),
        (["network.receptive_field=127"], "got kernel_size=3, num_blocks=2, num_repeats=1"),
        (["network.kernel_size=null"], "got kernel_size=None, num_blocks=2, num_repeats=1"),
        (["network.kernel_size=null", "network.receptive_field=128"], "no kernel_size gives a receptive field of 128"),
        (["steps=0"], "steps must be a whole number of at least 1, got 0"),
        (["score_examples=0"], "score_examples must be a whole number of at least 1"),
        (["lr=abc"], "lr must be a number above 0, got 'abc'"),
        (["seed=-1"], "seed must be a whole number of at least 0, got -1"),
        (["x=kind"], "x=kind is 'depthwise' in a row, but a plot's axis needs numbers"),
        (["network.num_blocks=0"], "num_blocks must be a whole number of at least 1, got 0"),
        (["task.gap=1.5"], "task.gap must be a whole number of at least 1, got 1.5"),
        (["task=reverse"], "there is no task 'reverse'; choose from adding, copy, digits"),
        (["network.temporal=talk", "network.kernel_size=1"], "reaches 0"),
    ],
)
def test_wrong_settings_give_an_error(tmp_path, arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["separator.study", *SMALL, f"out={tmp_path / 'out'}", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code.startswith("error: ") and message in ended.value.code  # Python prints it and exits with 1
    assert not (tmp_path / "out").exists()


def test_results_of_one_task_stay_together(tmp_path, study):
    study(*SMALL, f"out={tmp_path}")
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(SystemExit, match="holds results of Copying; choose another folder for Adding"):
        study("task=adding", "steps=1", f"out={tmp_path}")
    assert (tmp_path / "results.csv").read_bytes() == before


def test_the_receptive_field_may_be_the_axis(tmp_path, study):
    study("-m", *SMALL, "network.kernel_size=2,3", f"out={tmp_path}", "x=receptive_field")
    assert (tmp_path / "table.md").read_text().startswith("|  | receptive_field=4 | receptive_field=7 |\n")
    assert figures._limits(rows(tmp_path), "receptive_field") == ({14.0}, "what the task needs")


def test_digits_are_read_from_the_given_folder(tmp_path, study):
    with pytest.raises(SystemExit, match=f"{tmp_path}: train-images-idx3-ubyte and"):
        study("task=digits", f"data.root={tmp_path}", "steps=1", f"out={tmp_path / 'out'}")


def test_recall_ends_with_the_receptive_field():
    """A small version of the study: symbols are recalled within the receptive field, and not beyond it."""
    accuracy = {}
    for gap in (8, 24):
        torch.manual_seed(0)
        task = Copying(gap)
        net = StackNetwork(task.num_inputs, task.num_outputs, channels=24, num_blocks=4)
        assert net.receptive_field == 31
        fit(net, task, dict(steps=250, seed=0, batch_size=32, lr=0.01))
        accuracy[gap] = measure(net, task, 200)
    assert accuracy[8] > 0.9
    assert accuracy[24] < 0.25


def test_networks_are_causal_and_see_their_receptive_field():
    for net in (StackNetwork(3, 2, 8, 3, 2, 2), TCNNetwork(3, 2, 8, 3, 2)):
        torch.manual_seed(0)
        net = net.double()
        sequence = torch.randn(1, 3, 60, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(sequence)[0, :, 40].square().sum(), sequence)
        seen = gradient[0].abs().sum(0).nonzero().flatten()
        assert int(seen.max()) == 40 and 41 - int(seen.min()) <= net.receptive_field
        assert 41 - int(seen.min()) >= net.receptive_field - 4  # a ReLU may hide the outermost frames


@pytest.mark.parametrize(
    ("sizes", "found"),
    [((None, 6, 1), (3, 6, 1)), ((None, 3, 9), (3, 3, 9)), ((7, None, 3), (7, 3, 3)), ((3, 1, None), (3, 1, 63))],
)
def test_the_missing_size_gives_the_receptive_field(sizes, found):
    assert resolve_sizes(127, *sizes) == found
    kernel_size, num_blocks, num_repeats = sizes
    net = StackNetwork(3, 2, 8, kernel_size, num_blocks, num_repeats, receptive_field=127)
    assert net.receptive_field == 127


def test_the_receptive_field_of_a_tcn_can_be_given():
    assert TCNNetwork(3, 2, 8, None, 3, receptive_field=127).receptive_field == 127


def test_a_table_with_a_column_for_each_value():
    rows = [
        {"gap": "9", "kind": "a", "score": "1.0000"},
        {"gap": "10", "kind": "a", "score": "0.5000"},
        *({"gap": "9", "kind": "b", "score": score} for score in ("0.3000", "0.1000", "0.2500")),
        {"kind": "c", "score": "0.7"},
    ]
    assert scores_by_x(rows, "gap", "kind", "accuracy") == (
        "| kind | gap=9 | gap=10 |\n| --- | --- | --- |\n| a | 1.0000 | 0.5000 |\n| b | 0.1000 / 0.2500 / 0.3000 |  |\n"
    )


def test_a_row_replaces_the_row_with_the_same_settings():
    before = [{"steps": "1", "score": "0.5"}, {"steps": "2", "score": "0.6"}]
    assert merge(before, {"steps": "1", "score": "0.7"}) == [before[1], {"steps": "1", "score": "0.7"}]
    assert len(merge(before, {"steps": "3", "score": "0.7"})) == 3
