"""Run the examples in the docstrings of the public interface."""

import doctest
import importlib
import inspect

import pytest
import torch

import separator

# Module -> public objects in it whose docstring must have an example.
EXAMPLES = {
    "separator.objectives": ["si_snr", "snr", "pit", "reorder", "mixture_consistency", "si_snr_improvement"],
    "separator.models.conv_tasnet": ["ConvTasNet", "ConvTasNet.stream"],
    "separator.models.tcn": ["TCN"],
    "separator.models.temporal": ["make_temporal"],
    "separator.zoo.checkpoint": ["save"],
    "separator.zoo.registry": ["load"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(verbose=False)
    found = {test.name.removeprefix(f"{name}."): test for test in doctest.DocTestFinder().find(module)}
    for item in EXAMPLES[name]:
        assert found[item].examples, f"{name}.{item} has no example"
    report = []
    for test in found.values():
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    assert not list(tmp_path.iterdir()), "an example left files behind"


def test_public_functions_have_an_example():
    """`Separator`, which needs a recording, and the classes of results and errors have none."""
    listed = {item for items in EXAMPLES.values() for item in items}
    functions = [name for name in separator.__all__ if inspect.isfunction(getattr(separator, name))]
    assert set(functions) <= listed and "ConvTasNet" in listed
