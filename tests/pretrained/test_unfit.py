"""Weights that do not fit: every loader refuses them in one line that names the file, before memory is taken."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder, BYOLAEncoder, byola_tiny
from audiossl_lite.encoders.decoders import GlobalDecoder
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.pretrained import (
    WeightsError,
    load_any,
    load_atst,
    load_audiomae,
    load_byol_a,
    load_encoder,
    load_masked_autoencoder,
    published,
)
from audiossl_lite.pretrained.shipped import save_encoder

SIZES = {"n_frames": 32, "n_mels": 128}
NETWORKS = {
    load_atst: lambda: ATSTEncoder(384, 1, 6).state_dict(),
    load_byol_a: lambda: BYOLAEncoder(512, channels=4).state_dict(),
    load_audiomae: lambda: AudioMAEEncoder(192, 1, 3, **SIZES).state_dict(),
    load_masked_autoencoder: lambda: (
        AudioMAEEncoder(192, 1, 3, **SIZES).state_dict()
        | GlobalDecoder(192, 16, 1, 16, **SIZES).state_dict()
    ),
}
LOADERS = pytest.mark.parametrize("load", NETWORKS, ids=lambda load: load.__name__)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """The published families at sizes that are made in milliseconds; sizes that a file states stay as they are."""
    monkeypatch.setattr(published, "atst_small", lambda: ATSTEncoder(384, 1, 6))
    monkeypatch.setattr(published, "byola_cnn", lambda dim: BYOLAEncoder(dim, channels=4))


def changed(state: dict, value) -> dict:
    """The state with another value for one of its weights of two axes; `value` gets the old one."""
    name = next(k for k, v in state.items() if v.dim() == 2 and v.shape[0] != v.shape[1])
    return state | {name: value(state[name])}


def with_value(number: float):
    def put(weight):
        weight = weight.clone()
        weight.view(-1)[5] = number
        return weight

    return lambda state: changed(state, put)


CONTENTS = {
    "missing": lambda state: dict(list(state.items())[:-1]),
    "extra": lambda state: state | {"blocks_.9.weight": torch.zeros(2)},
    "reshaped": lambda state: changed(state, lambda w: w.T.clone()),
    "whole numbers": lambda state: changed(state, lambda w: w.to(torch.int64)),
    "complex": lambda state: changed(state, lambda w: w.to(torch.complex64)),
    "sparse": lambda state: changed(state, lambda w: w.to_sparse()),
    "numpy": lambda state: {key: value.numpy() for key, value in state.items()},
    "one numpy array": lambda state: changed(state, lambda w: w.numpy()),
    "numbers": lambda state: changed(state, lambda w: 3.0),
    "lists": lambda state: {key: [1.0, 2.0] for key in state},
    "scalars": lambda state: {key: torch.tensor(1.0) for key in state},
    "empty tensors": lambda state: {key: torch.zeros(0) for key in state},
    "numbered keys": lambda state: dict(enumerate(state.values())),
    "mixed keys": lambda state: state | {3: torch.zeros(2)},
    "another family": lambda state: {f"features.{n}.weight": torch.zeros(2, 2) for n in range(9)},
    "nothing": lambda state: {},
    "a list": lambda state: list(state.values()),
    "a nested list": lambda state: {"model": [1], "teacher": [1], "state_dict": [1]},
    "NaN": with_value(float("nan")),
    "infinite": with_value(-float("inf")),
    "1e38": with_value(1e38),
    "8-bit floats": lambda state: changed(state, lambda w: w.to(torch.float8_e4m3fn)),
    "one number, repeated": lambda state: changed(state, lambda w: torch.zeros(1).expand(w.shape)),
}  # fmt: skip
BYTES = {
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "empty": (b"", "cannot be read"),
    "text": (b"hello", "cannot be read"),
}  # fmt: skip


@LOADERS
@pytest.mark.parametrize("case", CONTENTS)
def test_unfit_content_is_refused_in_one_line(load, case, tmp_path):
    torch.save(CONTENTS[case](NETWORKS[load]()), tmp_path / "unfit.pth")
    with pytest.raises(WeightsError, match=r"unfit\.pth") as refusal:
        load(tmp_path / "unfit.pth")
    assert "\n" not in str(refusal.value)


@LOADERS
def test_the_same_content_whole_is_taken(load, tmp_path):
    torch.save(NETWORKS[load](), tmp_path / "fit.pth")
    load(tmp_path / "fit.pth")


@LOADERS
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("case", BYTES)
def test_files_of_something_else_are_refused(load, suffix, case, tmp_path):
    content, message = BYTES[case]
    path = (tmp_path / "other").with_suffix(suffix)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"other\{suffix}.*{message}"):
        load(path)


@LOADERS
def test_a_truncated_file_is_refused(load, tmp_path):
    torch.save(NETWORKS[load](), tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    for share in (0.01, 0.5, 0.999):
        (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(WeightsError, match=r"cut\.pth is damaged \(cut off"):
            load(tmp_path / "cut.pth")


@LOADERS
def test_a_missing_file_is_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load(tmp_path / "nowhere.pth")


def test_a_negative_variance_is_refused_by_name(tmp_path):
    state = NETWORKS[load_byol_a]()
    (name, *_) = [key for key in state if key.endswith("running_var")]
    state[name][0] = -1e-3
    torch.save(state, tmp_path / "negative.pth")
    with pytest.raises(WeightsError, match=rf"{name} holds a negative variance, -0\.001"):
        load_byol_a(tmp_path / "negative.pth")


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, 1e9, "six", None])
def test_an_impossible_training_length_is_refused(seconds, tmp_path):
    state = {f"model.teacher.encoder.{k}": v for k, v in NETWORKS[load_atst]().items()}
    content = {"pytorch-lightning_version": "2", "state_dict": state}
    torch.save(content | {"hyper_parameters": {"train_len": seconds}}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=r"x\.ckpt gives .* as its training length"):
        load_atst(tmp_path / "x.ckpt")


def test_sizes_that_a_file_claims_take_no_memory(tmp_path):
    """Two hundred thousand squared is 160 GB of one layer."""
    state = NETWORKS[load_byol_a]() | {"fc.0.weight": torch.zeros(200_000, 1)}
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"wide\.pth does not fit"):
        load_byol_a(tmp_path / "wide.pth")
    state = NETWORKS[load_masked_autoencoder]() | {"mask_token": torch.zeros(1, 1, 200_000)}
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"wide\.pth does not fit"):
        load_masked_autoencoder(tmp_path / "wide.pth")


# Files of this project


@pytest.fixture
def own(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    save_encoder(path, byola_tiny().eval(), BYOLAFrontend(-4.0, 3.0), maker="byola_tiny")
    return path


def described_as(path, *, state=None, **changes) -> None:
    """Write the file again with another description or other weights, and a checksum that fits, or none."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for key in ("sha256", *(key for key, value in changes.items() if value is None)):
        del metadata[key]
    metadata |= {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in changes.items()
        if value is not None
    }
    safetensors.torch.save_file(state or safetensors.torch.load_file(path), path, metadata=metadata)


def maker(name: str, **options) -> dict:
    return {"maker": name, "options": options, "chunk_frames": 0}


DESCRIPTIONS = {
    "another maker": {"encoder": maker("os.system")},
    "another option": {"encoder": maker("byola_tiny", size=3)},
    "depth": {"encoder": maker("ATSTEncoder", dim=64, depth=10**9, heads=2)},
    "width": {"encoder": maker("BYOLAEncoder", dim=10**12)},
    "wide and square": {"encoder": maker("BYOLAEncoder", dim=60_000)},
    "negative": {"encoder": maker("BYOLAEncoder", dim=-5)},
    "no heads": {"encoder": maker("ATSTEncoder", dim=64, depth=1, heads=0)},
    "text": {"encoder": maker("BYOLAEncoder", dim="64")},
    "a list": {"encoder": [1, 2]},
    "listed options": {"encoder": {"maker": "byola_tiny", "options": [1]}},
    "a listed maker": {"encoder": {"maker": ["byola_tiny"], "options": {}}},
    "chunks": {"encoder": maker("byola_tiny") | {"chunk_frames": 10**9}},
    "chunks of text": {"encoder": maker("byola_tiny") | {"chunk_frames": "all"}},
    "bands": {"frontend": {"class": "AudioMAEFrontend", "constants": {"n_mels": 10**9}}},
    "NaN": {"frontend": {"class": "BYOLAFrontend", "constants": {"mean": float("nan"), "std": 3.0}}},
    "no spread": {"frontend": {"class": "BYOLAFrontend", "constants": {"mean": 0.0, "std": 0.0}}},
    "text as a constant": {"frontend": {"class": "BYOLAFrontend", "constants": {"mean": "x"}}},
    "another frontend": {"frontend": {"class": "Identity", "constants": {}}},
    "depth of JSON": {"encoder": "[" * 100_000},
    "a part of a frame": {"encoder": maker("byola_tiny") | {"chunk_frames": 2.5}},
    "a part of a band": {"frontend": {"class": "AudioMAEFrontend", "constants": {"n_mels": 64.5}}},
    "a listed origin": {"about": [1]},
    "a named golden vector": {"golden": {"a": 1.0}},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*has no checksum")
@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description_out_of_range_is_refused(own, case):
    described_as(own, **DESCRIPTIONS[case])
    with pytest.raises(WeightsError, match=r"own\.safetensors") as refusal:
        load_encoder(own)
    assert "\n" not in str(refusal.value)


def test_a_file_without_a_checksum_and_a_golden_vector_is_read_with_a_warning(own):
    before = load_encoder(own).encoder.state_dict()
    described_as(own, golden=None)
    with pytest.warns(UserWarning, match=r"own\.safetensors has no checksum"):
        loaded = load_encoder(own)
    after = loaded.encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert loaded.about["golden"] == []


@pytest.mark.filterwarnings("ignore:.*has no checksum")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_spoiled_weights_of_our_own_are_refused_by_name(own, value):
    state = safetensors.torch.load_file(own)
    state["fc.0.weight"].view(-1)[7] = value
    described_as(own, state=state)
    with pytest.raises(WeightsError, match=r"own\.safetensors .*fc\.0\.weight holds values from"):
        load_encoder(own)


@pytest.mark.filterwarnings("ignore:.*has no checksum")
@pytest.mark.parametrize("shape", [(), (1,), (7, 1), (2, 2), (1, 1, 1)])
def test_a_scale_that_fits_no_matrix_is_named(tmp_path, shape):
    path = tmp_path / "own.safetensors"
    options = {"maker": "byola_tiny", "bits": 8}
    save_encoder(path, byola_tiny().eval(), BYOLAFrontend(-4.0, 3.0), **options)
    state = safetensors.torch.load_file(path) | {"fc.0.weight:scale": torch.ones(shape)}
    described_as(path, state=state)
    with pytest.raises(WeightsError, match=r"own\.safetensors .*unexpected fc\.0\.weight:scale"):
        load_encoder(path)


@pytest.mark.filterwarnings("ignore:.*has no checksum")
def test_a_type_of_number_that_torch_lacks_is_refused(own):
    content = own.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]["sha256"]
    end = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
    header["more"] = {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [end, end + 4]}
    head = json.dumps(header).encode()
    own.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + size :] + bytes(4))
    with pytest.raises(WeightsError, match=r"own\.safetensors") as refusal:
        load_any(own)
    assert "\n" not in str(refusal.value)


def test_numbers_of_numpy_are_no_way_around(tmp_path):
    """A pickled array of objects could hold anything: it is never rebuilt."""
    torch.save({"cls_token": np.array([object()])}, tmp_path / "objects.pth")
    with pytest.raises(WeightsError, match=r"objects\.pth"):
        load_audiomae(tmp_path / "objects.pth")
