"""Our encoders in EVAR, X-ARES and MAEB: each protocol as it is written, and by the suite's own code where it is there.

EVAR's rules: `BaseAudioRepr` in `evar/ar_base.py`, called as in its `lineareval.py` (nttcslab/eval-audio-repr).
X-ARES's: `audio_encoder_checker.py` and `attr_from_py_path` in `utils.py` (xares 0.1.3). MAEB's: `EncoderProtocol` in
`models/models_protocols.py` and the batches of `_create_dataloaders.py` (mteb 2.26).
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audiossl_lite import load_any
from audiossl_lite.data.audio import resample
from audiossl_lite.pretrained.adapters import evar, hear
from audiossl_lite.pretrained.adapters.maeb import MAEBEncoder
from audiossl_lite.pretrained.adapters.xares import FrameModel

NAMES = ["cnn_events", "mfcc", "tests.pretrained.toys:make_toy"]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_evar_gets_an_embedding_a_clip(name):
    cfg = {
        "audio_repr": "ar_audiossl_lite.AR_AudiosslLite",
        "weight_file": name,
        "sample_rate": 16_000,
    }
    representation = evar.AR_AudiosslLite(cfg).to("cpu")
    loader = [(noise(3, 8_000), torch.zeros(3)), (noise(2, 8_000, seed=1), torch.zeros(2))]
    assert representation.precompute("cpu", loader) is None
    wrapped = torch.nn.DataParallel(representation).eval()
    with torch.no_grad():
        vectors = torch.vstack([wrapped(audio).detach().cpu() for audio, _ in loader])
    expected = torch.cat([load_any(name).embed(audio) for audio, _ in loader])
    torch.testing.assert_close(vectors, expected)
    frames = representation.encode_frames(loader[0][0])  # (B, D, T)
    torch.testing.assert_close(frames.mean(2), expected[:3])


def test_evar_at_another_rate_is_refused():
    with pytest.raises(ValueError, match="sample_rate is 32000; set it to 16000"):
        evar.AR_AudiosslLite({"weight_file": "mfcc", "sample_rate": 32_000})


@pytest.fixture
def encoder_file(tmp_path, monkeypatch):
    """A file as the adapter's documentation has it, in the folder that the command is called from."""
    documented = importlib.import_module(FrameModel.__module__).__doc__
    lines = [
        line.removeprefix("    ") for line in documented.splitlines() if line.startswith("    ")
    ]
    (tmp_path / "my_lite_encoder.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_lite_encoder.py"


def test_xares_gets_frames(encoder_file):
    module = importlib.import_module(encoder_file.removesuffix(".py"))
    (name,) = [name for name in dir(module) if name.endswith("Encoder")]
    encoder = getattr(module, name)()
    assert isinstance(encoder, torch.nn.Module) and type(encoder).__name__.endswith("Encoder")
    audio = noise(2, 50_000)
    frames = encoder(audio)
    assert frames.shape == (2, 63, encoder.output_dim)
    assert 50_000 / encoder.sampling_rate * 1000 / 63 == pytest.approx(
        encoder.hop_size_in_ms, rel=0.02
    )
    expected, _ = hear.get_timestamp_embeddings(audio, hear.load_model("cnn_events"))
    torch.testing.assert_close(frames, expected)
    torch.testing.assert_close(encoder(audio[0]), frames[:1])


def test_a_larger_hop_gives_every_so_manieth_frame():
    class SlowEncoder(FrameModel):
        name_or_file, hop_size_in_ms = "mfcc", 200.0

    audio = noise(2, 32_000)
    every, _ = hear.get_timestamp_embeddings(audio, hear.load_model("mfcc"))
    torch.testing.assert_close(SlowEncoder()(audio), every[:, ::4])


def test_xares_own_check_passes(encoder_file):
    checker = pytest.importorskip("xares.audio_encoder_checker")
    from xares.utils import attr_from_py_path

    assert checker.check_audio_encoder(attr_from_py_path(encoder_file, endswith="Encoder")())


def clip(n: int, rate_hz: int = 16_000, channels: int = 1, seed: int = 0) -> dict[str, object]:
    wave = noise(channels, n, seed=seed).numpy()
    return {"array": wave if channels > 1 else wave[0], "sampling_rate": rate_hz}


@pytest.mark.parametrize("name", NAMES)
def test_maeb_gets_one_row_a_clip_whatever_its_length_and_rate(name):
    clips = [
        clip(9_000),
        clip(16_000, seed=1),
        clip(44_100, 44_100, channels=2, seed=2),
        clip(7_001, 22_254),
    ]
    rows = [{"audio": c, "label": i} for i, c in enumerate(clips)]
    loader = DataLoader(
        rows, batch_size=3, collate_fn=lambda part: {"audio": [row["audio"] for row in part]}
    )
    encoder = MAEBEncoder(name, None, device="cpu")
    task = {"task_metadata": SimpleNamespace(name="X"), "hf_split": "test", "hf_subset": "default"}
    vectors = encoder.encode(loader, **task, prompt_type=None, batch_size=3)
    waves = [torch.from_numpy(np.atleast_2d(c["array"]).mean(0)) for c in clips]
    model = load_any(name)
    expected = [model.embed(resample(w, c["sampling_rate"])[None]) for w, c in zip(waves, clips)]
    assert vectors.dtype == np.float32 and vectors.shape == (4, encoder.scene_embedding_size)
    torch.testing.assert_close(torch.from_numpy(vectors), torch.cat(expected), atol=2e-4, rtol=1e-3)


def test_maeb_similarity_is_the_cosine():
    encoder, a, b = MAEBEncoder("mfcc", device="cpu"), noise(3, 8).numpy(), noise(3, 8, seed=1)
    expected = np.array(
        [[np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y) for y in b.numpy()] for x in a]
    )
    np.testing.assert_allclose(encoder.similarity(a, b).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b), expected.diagonal(), atol=1e-6)


def test_maeb_scores_its_own_small_task():
    mteb = pytest.importorskip("mteb")
    datasets = pytest.importorskip("datasets")
    from mteb.mocks.mock_tasks.classification import MockAudioClassification
    from mteb.models.models_protocols import EncoderProtocol

    class PlainAudioClassification(MockAudioClassification):
        """Its clips as plain columns, since `datasets` writes audio by a codec that is not installed everywhere."""

        def load_data(self, **_):
            clips = [clip(8_000, seed=seed) for seed in range(6)]
            rows = {"audio": clips, "label": [1, 2] * 3}
            part = datasets.Dataset.from_dict(rows)
            self.dataset = datasets.DatasetDict({"train": part, "test": part})
            self.data_loaded = True

    encoder = MAEBEncoder("cnn_events", device="cpu")
    assert isinstance(encoder, EncoderProtocol)
    result = mteb.evaluate(encoder, PlainAudioClassification(), cache=None)
    assert result.model_name == "audiossl_lite/cnn_events"
    assert 0.0 <= result.task_results[0].get_score() <= 1.0
