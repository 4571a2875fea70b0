"""Short blocks are replayed from a recording of their operations. The results must be exactly the same."""

import copy
import threading

import pytest
import torch
from causal import causal, pushed

from separator.errors import ConfigError
from separator.models import Replay, State
from separator.models.runtime.traced_step import MAX_FRAMES, MAX_RECORDINGS, RECORD_AFTER
from separator.models.temporal import TEMPORAL


def frozen(**arguments):
    return causal(**arguments).requires_grad_(False)


def blocks(step, mixture, size):
    state = State()
    with torch.inference_mode():
        return torch.cat([step(block, state) for block in mixture.split(size, dim=-1)], dim=-1)


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("norm", ["cumulative", "channel"])
def test_a_recording_gives_the_same_bits(temporal, norm):
    net = frozen(temporal=temporal, norm=norm)
    mixture = 0.3 * torch.randn(2, 40 * 6)
    for frames in (1, 2, 5):
        replay = Replay(net)
        several = mixture.repeat(1, frames)
        assert torch.equal(blocks(replay, several, 6 * frames), blocks(net, several, 6 * frames))
        assert len(replay._recordings) == 1  # the recording was used


def test_streams_that_share_recordings_do_not_touch_each_other():
    net = frozen()
    replay = Replay(net)
    first, second = 0.3 * torch.randn(1, 1200), 0.3 * torch.randn(1, 1200)
    expected = [blocks(net, mixture, 12) for mixture in (first, second)]
    for _ in range(2):  # during the recording, and afterwards
        states, given = (State(), State()), ([], [])
        with torch.inference_mode():
            for pair in zip(first.split(12, dim=-1), second.split(12, dim=-1), strict=True):
                for block, state, into in zip(pair, states, given, strict=True):
                    into.append(replay(block, state))
        for parts, wanted in zip(given, expected, strict=True):
            assert torch.equal(torch.cat(parts, dim=-1), wanted)


def test_threads_share_recordings():
    net = frozen()
    replay = Replay(net)
    mixtures = [0.3 * torch.randn(1, 2400) for _ in range(4)]
    expected = [blocks(net, mixture, 12) for mixture in mixtures]
    given = [None] * 4

    def work(number):
        given[number] = blocks(replay, mixtures[number], 12)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(parts, wanted) for parts, wanted in zip(given, expected, strict=True))
    assert len(replay._recordings) == 1


def test_each_shape_has_its_own_recording_up_to_a_limit():
    net = frozen()
    replay = Replay(net)
    for batch, frames in [(1, 1), (2, 1), *((1, frames) for frames in range(2, MAX_RECORDINGS + 6))]:
        mixture = 0.3 * torch.randn(batch, 6 * frames * (RECORD_AFTER + 3))
        assert torch.equal(blocks(replay, mixture, 6 * frames), blocks(net, mixture, 6 * frames))
    assert len(replay._recordings) == MAX_RECORDINGS


def test_long_and_rare_blocks_are_not_recorded():
    replay = Replay(frozen())
    blocks(replay, torch.randn(1, 6 * (MAX_FRAMES + 1) * 2 * RECORD_AFTER), 6 * (MAX_FRAMES + 1))
    blocks(replay, torch.randn(1, 6 * 3 * (RECORD_AFTER - 1)), 6 * 3)
    assert not replay._recordings


def test_a_network_with_gradients_streams_without_recordings():
    net = causal()
    mixture = 0.3 * torch.randn(1, 600)
    stream = net.stream()
    with torch.no_grad():
        torch.testing.assert_close(pushed(stream, mixture, [12]), net(mixture), atol=1e-5, rtol=0)
    assert not stream._step._recordings


def test_recording_starts_when_weights_are_frozen():
    net = causal()
    replay = Replay(net)
    mixture = 0.3 * torch.randn(1, 12 * 3 * RECORD_AFTER)
    blocks(replay, mixture, 12)
    assert not replay._recordings
    net.requires_grad_(False)
    blocks(replay, mixture, 12)
    assert len(replay._recordings) == 1


def test_dropout_follows_the_training_mode():
    net = frozen(temporal="light").train()
    replay = Replay(net)
    mixture = 0.3 * torch.randn(1, 12 * 4 * RECORD_AFTER)
    blocks(replay, mixture, 12)
    net.eval()
    assert torch.equal(blocks(replay, mixture, 12), blocks(net, mixture, 12))
    assert replay._recordings
    net.train()
    assert not torch.equal(blocks(replay, mixture, 12), blocks(replay, mixture, 12))


def test_an_outer_autocast_is_respected():
    net = frozen()
    replay = Replay(net)
    mixture = 0.3 * torch.randn(1, 12 * 4 * RECORD_AFTER)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(blocks(replay, mixture, 12), blocks(net, mixture, 12))
        assert torch.equal(blocks(replay, mixture, 12), blocks(net, mixture, 12))
    assert replay._recordings


def test_changed_weights_are_used():
    net, other = frozen(), causal()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    replay = Replay(net)
    mixture = 0.3 * torch.randn(1, 12 * 4 * RECORD_AFTER)
    before = blocks(replay, mixture, 12)
    for assign in (False, True):
        weights = {name: value.detach() * (1 + assign) for name, value in other.state_dict().items()}
        net.load_state_dict(weights, assign=assign)
        net.requires_grad_(False)
        after = blocks(replay, mixture, 12)
        assert torch.equal(after, blocks(net, mixture, 12)) and not torch.equal(after, before)
        before = after
    net.double()
    assert torch.equal(blocks(replay, mixture.double(), 12), blocks(net, mixture.double(), 12))


def test_a_copied_stream_is_independent():
    net = frozen()
    mixture = 0.3 * torch.randn(1, 12 * 6 * RECORD_AFTER)
    for begun in (5, 12 * 3 * RECORD_AFTER + 5):  # before and after the recording
        stream = net.stream()
        head = push_in_blocks(stream, mixture[:, :begun])
        fork = copy.deepcopy(stream)
        push_in_blocks(stream, torch.randn(1, 500))
        rest = push_in_blocks(fork, mixture[:, begun:])
        whole = torch.cat([head, rest, fork.flush()], dim=-1)
        torch.testing.assert_close(whole, net(mixture), atol=1e-5, rtol=0)


def push_in_blocks(stream, mixture):
    return torch.cat([stream.push(block) for block in mixture.split(12, dim=-1)], dim=-1)


def test_errors_of_a_step_are_not_swallowed():
    def step(mixture, state):
        if torch.jit.is_tracing() or state.tensors():
            raise ConfigError("no")
        state.keep(torch.nn.Identity(), mixture)
        return mixture

    replay, state = Replay(frozen(), step), State()
    replay(torch.zeros(1, 6), state)
    for _ in range(2 * RECORD_AFTER):
        with pytest.raises(ConfigError):
            replay(torch.zeros(1, 6), state)


def test_a_state_keeps_the_order_of_its_tensors():
    state, first, second = State(), torch.nn.Identity(), torch.nn.Identity()
    state.keep(first, torch.tensor(1), torch.tensor(2))
    state.keep(second, torch.tensor(3))
    other = state.copy()
    other.replace([torch.tensor(value) for value in (4, 5, 6)])
    assert [int(tensor) for tensor in state.tensors()] == [1, 2, 3]
    assert [int(tensor) for tensor in other.recall(first)] == [4, 5]
    assert [int(tensor) for tensor in other.recall(second)] == [6]


def replace_parameter(net):
    layer = net.stack.blocks[0].expand
    layer.weight = torch.nn.Parameter(1.5 * layer.weight, requires_grad=False)


def replace_scalar(net):
    net.prelu.weight = torch.nn.Parameter(net.prelu.weight + 0.3, requires_grad=False)


def replace_layer(net):
    net.bottleneck = torch.nn.Linear(*reversed(net.bottleneck.weight.shape)).requires_grad_(False)


def replace_inner_layer(net):
    net.stack.blocks[-1].expand = copy.deepcopy(net.stack.blocks[-1].expand)
    net.stack.blocks[-1].expand.weight.mul_(2)


def add_buffer(net):
    layer = net.stack.blocks[0].expand
    layer.register_buffer("scale", torch.tensor(2.0))
    forward = type(layer).forward
    layer.forward = lambda features: forward(layer, features) * layer.scale


@pytest.mark.parametrize(
    "change",
    [replace_parameter, replace_scalar, replace_layer, replace_inner_layer, add_buffer],
    ids=lambda one: one.__name__,
)
def test_replaced_weights_layers_and_buffers_are_used(change):
    net = frozen()
    replay = Replay(net)
    mixture = 0.3 * torch.randn(1, 12 * 4 * RECORD_AFTER)
    before = blocks(replay, mixture, 12)
    assert replay._recordings
    change(net)
    after = blocks(replay, mixture, 12)
    assert torch.equal(after, blocks(net, mixture, 12)) and not torch.equal(after, before)
    if change is add_buffer:
        net.stack.blocks[0].expand.scale = torch.tensor(3.0)
        assert torch.equal(blocks(replay, mixture, 12), blocks(net, mixture, 12))
    assert replay._recordings


def test_a_stream_does_not_wait_for_the_recording_of_another():
    from separator.models.runtime import traced_step as module

    net = frozen()
    replay, mixture = Replay(net), 0.3 * torch.randn(1, 12 * 4 * RECORD_AFTER)
    expected, found = blocks(net, mixture, 12), []
    with module._RECORDING:  # another stream records
        thread = threading.Thread(target=lambda: found.append(blocks(replay, mixture, 12)), daemon=True)
        thread.start()
        thread.join(30)
    assert found and torch.equal(found[0], expected) and not replay._recordings
    assert torch.equal(blocks(replay, mixture, 12), expected) and replay._recordings


@pytest.mark.parametrize("is_used", [False, True])
def test_copies_of_a_replay_use_the_copied_network(is_used):
    import pickle

    replay = Replay(frozen())
    mixture = 0.3 * torch.randn(1, 12 * 2 * RECORD_AFTER)
    expected = blocks(replay, mixture, 12) if is_used else blocks(replay._net, mixture, 12)
    for other in (copy.deepcopy(replay), pickle.loads(pickle.dumps(replay))):
        assert other._net is not replay._net
        with torch.no_grad():
            other._net.prelu.weight.add_(0.5)
        assert not torch.equal(blocks(other, mixture, 12), expected)
        assert torch.equal(blocks(replay, mixture, 12), expected)
