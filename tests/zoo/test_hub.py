import hashlib
import http.server
import json
import re
import threading
from types import SimpleNamespace

import pytest
import torch
from peers import AsteroidConvTasNet, SpeechBrainRecipe, perturbed, write_speechbrain

import separator
from separator import cli
from separator.errors import CheckpointError, ConfigError
from separator.zoo import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hugging Face hub that a download needs: files with checksums, and ranges of files."""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_):
        pass

    def _answer(self, body):
        found = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/([\w.-]+)", self.path)
        files = self.server.repositories.get(found[1]) if found else None
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        if files is None:
            return self._refuse(401, "RepoNotFound")
        if files is GATED:
            return self._refuse(403, "GatedRepo")
        if found[2] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if found[3] not in files:
            return self._refuse(404, "EntryNotFound")
        content = files[found[3]]
        is_small = len(content) < 10_000  # not in LFS
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        checksum = git if is_small else hashlib.sha256(content).hexdigest()
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        part = self.server.sent(content)[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{checksum}"')
        if not is_small:
            self.send_header("X-Linked-Etag", f'"{checksum}"')
            self.send_header("X-Linked-Size", str(self.server.claimed or len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(part[: self.server.cut_after.pop(0) if self.server.cut_after else None])

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "no")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


GATED = object()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local hub, and an empty cache."""
    from huggingface_hub import constants, file_download

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.repositories, made.requests, made.claimed, made.cut_after = {}, [], None, []
    made.sent = lambda content: content
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{made.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE, False)
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def asteroid(server, tmp_path):
    """A model of asteroid, which the hub has as me/model."""
    theirs = perturbed(AsteroidConvTasNet())
    folder = tmp_path / "asteroid"
    folder.mkdir()
    torch.save(theirs.file(), folder / "pytorch_model.bin")
    server.repositories["me/model"] = files_of(folder) | {"README.md": b"a card"}
    return theirs


def downloaded(server):
    """Names of the downloaded files."""
    paths = [path for method, path, _ in server.requests if method == "GET" and "/resolve/" in path]
    return [path.rpartition("/")[2] for path in paths]


def assert_same(ours, theirs):
    mixture = torch.randn(1, 1600)
    with torch.no_grad():
        torch.testing.assert_close(ours(mixture), theirs(mixture), rtol=0, atol=1e-4)


def test_a_model_of_asteroid_is_downloaded_once(asteroid, server):
    assert_same(separator.load("hf:me/model"), asteroid)
    assert downloaded(server) == ["pytorch_model.bin"]
    assert_same(separator.load(f"hf:me/model@{COMMIT}"), asteroid)
    assert downloaded(server) == ["pytorch_model.bin"]


def test_a_model_of_speechbrain_is_downloaded(server, tmp_path):
    theirs = perturbed(SpeechBrainRecipe())
    server.repositories["me/brain"] = files_of(write_speechbrain(theirs, tmp_path / "brain"))
    assert_same(separator.load("hf:me/brain"), theirs)


@pytest.fixture
def ours(server, tiny_checkpoint):
    """A checkpoint of ours, which the hub has as me/ours."""
    facts = {"format": "separator", "format_version": 1, "architecture": "ConvTasNet", "arguments": {}}
    facts |= {"sample_rate": 8000, "sources": [], "training": {}}
    server.repositories["me/ours"] = {
        "config.json": json.dumps(facts).encode(),
        "model.safetensors": tiny_checkpoint.read_bytes(),
    }
    return tiny_checkpoint


def test_our_own_model_is_downloaded(ours):
    assert_same(separator.load("hf:me/ours"), separator.load(ours))


def test_a_cached_model_needs_no_network(asteroid, server, monkeypatch):
    from huggingface_hub import constants

    separator.load("hf:me/model")
    count = len(server.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(separator.load("hf:me/model"), asteroid)
    assert len(server.requests) == count


def test_without_a_network_the_cache_is_used(asteroid, server, monkeypatch):
    from huggingface_hub import constants

    separator.load("hf:me/model")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert_same(separator.load("hf:me/model"), asteroid)
    with pytest.raises(CheckpointError, match=r"hf:me/other: not in the cache, and the hub cannot be reached .*online"):
        separator.load("hf:me/other")


def test_offline_an_uncached_model_gives_an_error(server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"not in the cache.*HF_HUB_OFFLINE is set"):
        separator.load("hf:me/model")
    assert not server.requests


def test_an_interrupted_download_is_resumed(asteroid, server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # a partial download is stored in pieces of this size
    server.cut_after = [5000, 3000]
    assert_same(separator.load("hf:me/model"), asteroid)
    parts = [part for method, path, part in server.requests if method == "GET" and path.endswith(".bin")]
    assert parts[-1] == "bytes=8000-"


def test_a_failed_download_leaves_no_partial_file(asteroid, server, tmp_path):
    server.cut_after = [100] * 20
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin could not be downloaded .*try again"):
        separator.load("hf:me/model")
    assert not list((tmp_path / "cache").rglob("snapshots/*/pytorch_model.bin"))
    server.cut_after = []
    assert_same(separator.load("hf:me/model"), asteroid)


def test_a_file_with_a_wrong_checksum_is_refused_and_removed_from_the_cache(asteroid, server, tmp_path):
    server.sent = lambda content: bytes(len(content))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin was damaged: its checksum .*again"):
        separator.load("hf:me/model")
    assert not list((tmp_path / "cache").rglob("pytorch_model.bin"))
    server.sent = lambda content: content
    assert_same(separator.load("hf:me/model"), asteroid)


def test_a_damaged_small_file_is_downloaded_again(ours, server):
    server.sent = lambda content: b" " * len(content)
    with pytest.raises(CheckpointError, match=r"config\.json was damaged"):
        separator.load("hf:me/ours")
    server.sent = lambda content: content
    separator.load("hf:me/ours")


def test_an_invalid_answer_is_not_a_missing_file(asteroid, server, monkeypatch):
    """A captive portal answers every request with its own page."""
    monkeypatch.setattr(Hub, "_answer", lambda self, body: self._page())

    def page(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    monkeypatch.setattr(Hub, "_page", page, raising=False)
    with pytest.raises(CheckpointError, match=r"could not be downloaded|cannot be reached"):
        separator.load("hf:me/model")


def test_a_file_damaged_in_the_cache_is_downloaded_again(asteroid, server, tmp_path):
    separator.load("hf:me/model")
    blob = next((tmp_path / "cache").rglob("pytorch_model.bin")).resolve()
    blob.write_bytes(blob.read_bytes()[:-4000] + bytes(4000))
    with pytest.raises(CheckpointError, match="was damaged"):
        separator.load("hf:me/model")
    assert_same(separator.load("hf:me/model"), asteroid)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"x"}, "another kind .'bert'"),
        ({"config.json": b'{"architectures": ["Demucs"]}'}, r"another kind .*Demucs"),
        ({"config.json": b'{"architectures": 5}'}, "another kind .'5'"),
        ({"config.json": b"{"}, "damaged"),
        ({"config.json": b"[" * 100000}, "damaged"),
        (
            {"hyperparams.yaml": b"a: !new:x.dual_path.Dual_Path_Model {b: 1}\n", "masknet.ckpt": b"x"},
            "Dual_Path_Model",
        ),
        ({"README.md": b"hello"}, "no model found; expected model.safetensors"),
        ({"pytorch_model.bin": b"version https://git-lfs"}, "not written by torch.save"),
        ({"config.json": b'{"format": "separator", "format_version": 9}'}, "update separator"),
    ],
)
def test_other_models_are_refused_before_their_weights_are_downloaded(files, message, server):
    server.repositories["me/other"] = files
    with pytest.raises(CheckpointError, match=message):
        separator.load("hf:me/other")
    if "README.md" not in files and len(files) > 1:
        assert not any(name.endswith((".bin", ".ckpt")) for name in downloaded(server))


def test_a_file_too_large_for_a_conv_tasnet_is_not_downloaded(asteroid, server):
    server.claimed = 2**31
    with pytest.raises(CheckpointError, match="has 2048 MB, too large for a Conv-TasNet"):
        separator.load("hf:me/model")
    assert downloaded(server) == []


def test_names_that_do_not_exist(asteroid, server):
    server.repositories["me/gated"] = GATED
    for name, kind, message in (
        ("me/nothing", ConfigError, "not found on the hub, or private"),
        ("me/model@v9", ConfigError, "no such revision"),
        ("me/gated", CheckpointError, "this is a gated model"),
        ("nonsense", ConfigError, "expected hf:OWNER/NAME"),
        ("me/../model", ConfigError, "expected hf:OWNER/NAME"),
        ("me/..", ConfigError, "expected hf:OWNER/NAME"),
        ("me/model@", ConfigError, "expected hf:OWNER/NAME"),
        ("me/" + 99 * "x", ConfigError, "expected hf:OWNER/NAME"),
    ):
        with pytest.raises(kind, match=message):
            separator.load(f"hf:{name}")


def test_the_command_line_prints_the_error_in_one_line(server, tmp_path, capsys):
    assert cli.main([str(tmp_path / "mix.wav"), "-m", "hf:me/nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: hf:me/nothing: not found on the hub")


def bundle(tmp_path, monkeypatch, answer):
    """torchaudio's pipelines with another network instead of a download."""
    pipelines = pytest.importorskip("torchaudio.pipelines", exc_type=(ImportError, OSError))
    made = SimpleNamespace(get_model=answer, sample_rate=8000, _model_path="models/x.pt")
    monkeypatch.setattr(pipelines, "CONVTASNET_BASE_LIBRI2MIX", made)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


def test_output_equals_torchaudios_bundle(tmp_path, monkeypatch):
    models = pytest.importorskip("torchaudio.models", exc_type=(ImportError, OSError))
    theirs = perturbed(models.ConvTasNet(2, 16, 24, 3, 8, 12, 8, 2, "sigmoid"))
    bundle(tmp_path, monkeypatch, lambda: theirs)
    ours = separator.load("torchaudio:CONVTASNET_BASE_LIBRI2MIX")
    assert ours.sample_rate == 8000
    assert_same(ours, lambda mixture: theirs(mixture[:, None]))


def test_torchaudios_real_bundle_has_as_many_parameters_as_ours():
    pipelines = pytest.importorskip("torchaudio.pipelines", exc_type=(ImportError, OSError))
    made = pipelines.CONVTASNET_BASE_LIBRI2MIX
    theirs = made._model_factory_func()
    ours = hub.foreign.torchaudio.convert(theirs.state_dict(), "here", made.sample_rate, hub.BUNDLE_BLOCKS, "relu")
    assert sum(value.numel() for value in ours.parameters()) == sum(value.numel() for value in theirs.parameters())


def test_errors_of_torchaudio_are_explained(tmp_path, monkeypatch):
    from urllib.error import URLError

    def fails(error):
        def answer():
            raise error

        return answer

    for error, message in (
        (URLError("Name or service not known"), "cannot be downloaded .*Name or service"),
        (TimeoutError("timed out"), "cannot be downloaded .timed out"),
        (PermissionError(13, "Permission denied"), r"x\.pt cannot be written"),
        (RuntimeError("weights_only=False will likely succeed"), r"x\.pt is damaged; remove it and run the same"),
    ):
        bundle(tmp_path, monkeypatch, fails(error))
        if isinstance(error, RuntimeError):
            (tmp_path / "torchaudio" / "models").mkdir(parents=True)
            (tmp_path / "torchaudio" / "models" / "x.pt").write_bytes(b"x")
        with pytest.raises(CheckpointError, match=message):
            separator.load("torchaudio:CONVTASNET_BASE_LIBRI2MIX")
    (tmp_path / "torchaudio" / "models" / "x.pt").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="not in the cache"):
        separator.load("torchaudio:CONVTASNET_BASE_LIBRI2MIX")
    with pytest.raises(ConfigError, match=r"HDEMUCS.*choose one of 'CONVTASNET_BASE_LIBRI2MIX'"):
        separator.load("torchaudio:HDEMUCS_HIGH_MUSDB")


def test_without_torchaudio_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchaudio", None)
    with pytest.raises(ConfigError, match=r"pip install 'separator\[torchaudio\]'"):
        separator.load("torchaudio:CONVTASNET_BASE_LIBRI2MIX")
