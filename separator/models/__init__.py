"""The network and its parts. Feature maps are `[batch, frame, channel]`."""

from separator.models.conv_tasnet import ConvTasNet
from separator.models.fast import FastConvTasNet
from separator.models.replay import Replay
from separator.models.state import State
from separator.models.stream import NetworkStream, check_can_stream
from separator.models.tcn import TCN

__all__ = ["TCN", "ConvTasNet", "FastConvTasNet", "NetworkStream", "Replay", "State", "check_can_stream"]
