import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from peers import AsteroidConvTasNet, SpeechBrainOwn, SpeechBrainRecipe, perturbed, write_speechbrain

import separator
from separator.errors import CheckpointError
from separator.zoo.foreign import asteroid, torchaudio


def assert_same(ours, theirs, times=(1600, 1607, 1613)):
    for time in times:
        mixture = torch.randn(2, time, generator=torch.Generator().manual_seed(time))
        with torch.no_grad():
            expected = theirs(mixture)
            torch.testing.assert_close(ours(mixture), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


ASTEROID = {
    "as on the hub": {},
    "without skip outputs": {"skip_chan": 0},
    "skip outputs None": {"skip_chan": None},
    "its cLN normalizes each frame": {"norm_type": "cLN"},
    "its cgLN is the paper's cLN": {"norm_type": "cgLN"},
    "causal": {"causal": True, "norm_type": "cgLN"},
    "causal with an even kernel": {"causal": True, "norm_type": "cLN", "conv_kernel_size": 2},
    "one source": {"n_src": 1, "mask_act": "sigmoid"},
    "three sources with softmax": {"n_src": 3, "mask_act": "softmax"},
    "positive coefficients": {"encoder_activation": "relu", "mask_act": "sigmoid"},
    "odd windows": {"kernel_size": 21, "stride": 10},
    "windows that overlap by three quarters": {"kernel_size": 20, "stride": 5},
    "as many filters as samples in a window": {"n_filters": 16, "in_chan": 16, "out_chan": 16},
    "as many channels as taps": {"hid_chan": 3, "bn_chan": 3},
}


@pytest.mark.parametrize("arguments", ASTEROID.values(), ids=ASTEROID)
def test_output_equals_asteroid(arguments, tmp_path):
    torch.manual_seed(0)
    theirs = perturbed(AsteroidConvTasNet(**arguments))
    torch.save(theirs.file(), tmp_path / "pytorch_model.bin")
    ours = separator.load(tmp_path / "pytorch_model.bin")
    assert ours.sample_rate == 8000
    assert_same(ours, theirs)


def test_missing_arguments_have_asteroids_defaults(tmp_path):
    theirs = perturbed(
        AsteroidConvTasNet(n_filters=512, in_chan=512, out_chan=512, bn_chan=128, hid_chan=512, n_blocks=8)
    )
    content = theirs.file()
    del content["infos"]
    content["model_args"] = {"n_src": 2, "n_repeats": 2, "skip_chan": 10, "mask_act": "relu"}
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=False)  # torch's format until 1.5
    assert_same(separator.load(tmp_path / "model.pth"), theirs, times=[1607])


def test_a_recording_shorter_than_a_window_is_separated(tmp_path):
    theirs = perturbed(AsteroidConvTasNet())
    ours = asteroid.convert(theirs.file(), "here")
    assert ours(torch.randn(1, 5)).shape == (1, 2, 5)


@pytest.mark.parametrize(("task", "sources"), [("enh_single", ("speech",)), (None, ("source1",))])
def test_a_single_source_gets_a_name(task, sources):
    file = perturbed(AsteroidConvTasNet(n_src=1)).file(infos={"task": task} if task else {})
    assert asteroid.convert(file, "here").sources == sources


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fb_name": "STFTFB"}, "fb_name='STFTFB'.*ConvTasNet has 'free'"),
        ({"norm_type": "BN"}, "norm_type='BN'.*'gLN', 'cLN', 'cgLN'"),
        ({"norm_type": ["gLN"]}, "norm_type"),
        ({"mask_act": "tanh"}, "mask_act='tanh'"),
        ({"encoder_activation": "gelu"}, "encoder_activation='gelu'"),
        ({"out_chan": 48}, "out_chan=48"),
        ({"in_chan": 48}, "in_chan=48"),
        ({"n_fitlers": 24}, "unknown argument 'n_fitlers'.*did you mean 'n_filters'"),
        ({"conv_kernel_size": 4}, "no network can be built.*odd kernel_size"),
        ({"n_blocks": 10**9}, "no network can be built.*weights"),
        ({"n_src": 10**9}, "num_sources=1000000000 is more than 1000"),
        ({"sample_rate": 10**400}, "is more than 1000000"),
        ({"causal": None}, "causal=None.*False, True"),
        ({"in_chan": torch.zeros(3)}, "in_chan=a Tensor"),
        ({"mask_act": ["relu"] * 10**6}, "mask_act=a list is"),
        ({"hid_chan": 10**9}, r"\[12, 8, 1\], expected \[1000000000, 8\]"),
        ({"n_blocks": "3"}, "no network can be built|no network"),
        ({"sample_rate": None}, "no network can be built.*sample_rate"),
        ({"n_repeats": 1}, "ConvTasNet does not have"),
        ({"skip_chan": 0}, "expected|does not have"),
    ],
)
def test_unsupported_features_of_asteroid_are_named(changes, message):
    file = perturbed(AsteroidConvTasNet()).file()
    file["model_args"] = file["model_args"] | changes
    with pytest.raises(CheckpointError, match=message):
        asteroid.convert(file, "here")


def test_other_models_of_asteroid_are_named():
    with pytest.raises(CheckpointError, match=r"here: a DPRNNTasNet from asteroid; .* only ConvTasNet"):
        asteroid.convert(perturbed(AsteroidConvTasNet()).file(model_name="DPRNNTasNet"), "here")


def changed(weights, remove=None, **values):
    weights = {name: value for name, value in weights.items() if name != remove}
    return weights | {name.replace("__", "."): value for name, value in values.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remove": "masker.mask_net.1.bias"}, "masker.mask_net.1.bias is missing"),
        ({"masker__extra": torch.zeros(3)}, "'masker.extra', which separator's ConvTasNet does not have"),
        ({"masker__mask_net__1__bias": torch.zeros(3)}, r"mask_net.1.bias has shape \[3\], expected \[48\]"),
        ({"masker__mask_net__1__bias": torch.full([48], torch.nan)}, "not finite"),
        ({"masker__mask_net__1__bias": "text"}, "damaged"),
        ({"masker__mask_net__1__bias": torch.full([48], 1e300, dtype=torch.float64)}, "not finite in float32"),
        ({"masker__mask_net__1__bias": torch.zeros(48).to_sparse()}, "sparse"),
        ({"masker__mask_net__1__bias": torch.zeros(48, dtype=torch.complex64)}, "complex64"),
        ({"masker__mask_net__1__bias": torch.zeros(48, device="meta")}, "stored as"),
    ],
)
def test_weights_must_match_the_network_exactly(changes, message):
    file = perturbed(AsteroidConvTasNet()).file()
    with pytest.raises(CheckpointError, match=message):
        asteroid.convert(file | {"state_dict": changed(file["state_dict"], **changes)}, "here")


def torchaudios(**sizes):
    models = pytest.importorskip("torchaudio.models", exc_type=(ImportError, OSError))
    arguments = dict(enc_kernel_size=16, enc_num_feats=24, msk_num_feats=8, msk_num_hidden_feats=12)
    return perturbed(models.ConvTasNet(**(arguments | dict(msk_num_stacks=2, msk_activate="relu") | sizes)))


@pytest.mark.parametrize("sizes", [{}, {"num_sources": 3}, {"enc_num_feats": 16}, {"msk_num_layers": 3}])
@pytest.mark.parametrize("mask", ["relu", "sigmoid"])
def test_output_equals_torchaudio(sizes, mask):
    theirs = torchaudios(msk_activate=mask, **sizes)
    ours = torchaudio.convert(theirs.state_dict(), "here", 16000, sizes.get("msk_num_layers", 8), mask)
    assert ours.sample_rate == 16000
    assert_same(ours, lambda mixture: theirs(mixture[:, None]))


def test_unsupported_features_of_torchaudio_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="6 blocks are not a multiple of num_blocks=4"):
        torchaudio.convert(torchaudios(msk_num_layers=3).state_dict(), "here", 8000, 4, "relu")
    with pytest.raises(CheckpointError, match="15 samples; an odd length"):
        torchaudio.convert(torchaudios(enc_kernel_size=15).state_dict(), "here", 8000, 8, "relu")
    with pytest.raises(CheckpointError, match="not a state dict of torchaudio's"):
        torchaudio.convert({"mask_generator.input_norm.weight": torch.zeros(3)}, "here", 8000, 8, "relu")


def test_a_state_dict_of_torchaudio_lacks_settings(tmp_path):
    torch.save(torchaudios().state_dict(), tmp_path / "conv_tasnet.pt")
    with pytest.raises(
        CheckpointError, match=r"does not contain its masks.*separator\.zoo\.foreign\.torchaudio\.convert"
    ):
        separator.load(tmp_path / "conv_tasnet.pt")


@pytest.mark.parametrize("kind", [SpeechBrainRecipe, SpeechBrainOwn])
@pytest.mark.parametrize("norm", ["gLN", "cLN"])
def test_output_equals_speechbrain(kind, norm, tmp_path):
    torch.manual_seed(0)
    theirs = perturbed(kind(sources=2, norm=norm))
    ours = separator.load(write_speechbrain(theirs, tmp_path, norm, rate=16000))
    assert ours.sample_rate == 16000 and ours.sources == ("speaker1", "speaker2")
    assert_same(ours, theirs)
    assert not (tmp_path / "ran").exists()  # code named in a tag is not run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "softmax"}, "mask_nonlinear='softmax'"),
        ({"causal": True}, "SpeechBrain's causal=True"),
        ({"norm": "bN"}, "norm_type='bN'"),
        ({"masknet": "dual_path.Dual_Path_Model"}, r"no .*MaskNet among its networks .*Dual_Path_Model"),
        ({"rate": "null"}, "no network can be built.*sample_rate"),
    ],
)
def test_unsupported_features_of_speechbrain_are_named(settings, message, tmp_path):
    folder = write_speechbrain(perturbed(SpeechBrainRecipe()), tmp_path, **settings)
    with pytest.raises(CheckpointError, match=message):
        separator.load(folder)


def test_a_folder_of_speechbrain_must_be_complete(tmp_path):
    folder = write_speechbrain(perturbed(SpeechBrainRecipe()), tmp_path)
    (folder / "hyperparams.yaml").write_text((folder / "hyperparams.yaml").read_text().replace("sample_rate", "rate"))
    with pytest.raises(CheckpointError, match="no sample_rate"):
        separator.load(folder)
    (folder / "hyperparams.yaml").write_text("a: [1")
    with pytest.raises(CheckpointError, match="cannot be read"):
        separator.load(folder)
    write_speechbrain(perturbed(SpeechBrainRecipe()), tmp_path)
    (folder / "decoder.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"without decoder\.ckpt"):
        separator.load(folder)


@pytest.mark.parametrize("causal", [False, True])
def test_a_converted_network_can_be_saved_and_used(causal, tmp_path):
    file = perturbed(AsteroidConvTasNet(n_filters=24, causal=causal, norm_type="cgLN" if causal else "gLN")).file()
    net = asteroid.convert(file, "here")
    separator.save(net, tmp_path / "net.safetensors")
    mixture = torch.randn(1, 4000)
    torch.testing.assert_close(separator.load(tmp_path / "net.safetensors")(mixture), net(mixture))
    stems = separator.Separator(tmp_path / "net.safetensors", precision="float32").separate(mixture[0], 8000)
    assert list(stems) == ["speaker1", "speaker2"] and stems["speaker1"].shape == (4000,)


def test_the_fast_form_equals_the_network():
    net = asteroid.convert(perturbed(AsteroidConvTasNet(encoder_activation="relu")).file(), "here")
    mixture = torch.randn(1, 4003)
    expected = net(mixture).detach()
    torch.testing.assert_close(net.fast()(mixture), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_frames_of_another_project_cannot_stream():
    net = asteroid.convert(perturbed(AsteroidConvTasNet(causal=True, norm_type="cgLN")).file(), "here")
    with pytest.raises(separator.SeparatorError, match="whole recordings"):
        net.stream()


class Runs:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path, by=Path.touch):
        self.path, self.by = path, by

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",)) if self.by is os.system else (self.by, (self.path,))


@pytest.mark.parametrize("by", [Path.touch, os.system, os.mkdir])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, by):
    victim = tmp_path / "ran"
    file = perturbed(AsteroidConvTasNet()).file(infos=Runs(victim, by))
    torch.save(file, tmp_path / "pytorch_model.bin")
    torch.save(file, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Runs(victim, by)))
    for name in ("pytorch_model.bin", "old.pth", "bare.pt"):
        with pytest.raises(CheckpointError, match=f"{name}: .*(to be run|not a separator checkpoint)"):
            separator.load(tmp_path / name)
    folder = write_speechbrain(perturbed(SpeechBrainRecipe()), tmp_path / "brain")
    torch.save({"weight": Runs(victim, by)}, folder / "masknet.ckpt")
    with pytest.raises(CheckpointError, match="to be run"):
        separator.load(folder)
    assert not victim.exists()


def damaged_files(folder):
    """Yield names, and bytes that are not a model or not a complete one."""
    torch.save(perturbed(AsteroidConvTasNet()).file(), folder / "whole")
    whole = (folder / "whole").read_bytes()
    yield "cut", whole[: len(whole) // 2]
    yield "cut_at_the_end", whole[:-30]
    yield "flipped", whole[:3000] + bytes(255 - byte for byte in whole[3000:3400]) + whole[3400:]
    yield "empty", b""
    yield "text", b"<html>404</html>"
    yield "short_safetensors", b"\x10\0\0\0\0\0\0\0{"
    yield "huge_header", b"\xff\xff\xff\xff\xff\xff\xff\x7f{" + b" " * 100
    for name, content in {"list": [1, 2], "tensor": torch.zeros(3), "nothing": {}, "other": {"a": 1}}.items():
        torch.save(content, folder / "content")
        yield name, (folder / "content").read_bytes()


def test_damaged_files_are_refused_in_one_line(tmp_path):
    for name, content in damaged_files(tmp_path):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}.pth: ") as caught:
            separator.load(path)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value), name


def test_a_compressed_archive_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**7)
    with pytest.raises(CheckpointError, match="holds more than its size"):
        separator.load(tmp_path / "bomb.pth")


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    file = perturbed(AsteroidConvTasNet()).file()
    file["model_args"] = file["model_args"] | {"hid_chan": 10**9}
    weights = file["state_dict"]
    weights["masker.TCN.0.shared_block.0.weight"] = torch.zeros(1).expand(10**9, 8, 1)
    torch.save(file | {"state_dict": weights}, tmp_path / "views.pth")
    assert (tmp_path / "views.pth").stat().st_size < 10**6
    with pytest.raises(CheckpointError, match="larger than the file"):
        separator.load(tmp_path / "views.pth")


def test_a_too_large_file_is_not_opened(tmp_path):
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(CheckpointError, match="2048 MB, too large for a Conv-TasNet"):
        separator.load(tmp_path / "large.pth")


def test_no_memory_is_reserved_for_claimed_sizes(tiny_checkpoint, tmp_path):
    content = tiny_checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    arguments = json.loads(header["__metadata__"]["arguments"])
    for claim in ({"hidden_channels": 10**9}, {"num_blocks": 10**9}, {"num_blocks": "many"}, {"num_filters": 2**60}):
        header["__metadata__"]["arguments"] = json.dumps(arguments | claim)
        text = json.dumps(header).encode()
        (tmp_path / "claims.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        with pytest.raises(CheckpointError, match=r"do not match|no network can be built"):
            separator.load(tmp_path / "claims.safetensors")
