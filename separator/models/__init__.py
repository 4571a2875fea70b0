"""The network and its parts. Feature maps are `[batch, frame, channel]`."""

from separator.models.conv_tasnet import ConvTasNet
from separator.models.runtime.cpu_network import FastConvTasNet
from separator.models.runtime.network_stream import NetworkStream, check_can_stream
from separator.models.runtime.traced_step import Replay
from separator.models.state import State
from separator.models.tcn import TCN

__all__ = ["TCN", "ConvTasNet", "FastConvTasNet", "NetworkStream", "Replay", "State", "check_can_stream"]
