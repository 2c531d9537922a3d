"""Encoders that somebody trained: the authors' checkpoints, files of this project, and those that ship with it."""

from audiossl_lite.pretrained.audiomae import load_audiomae, load_masked_autoencoder
from audiossl_lite.pretrained.embedding import embed_folder
from audiossl_lite.pretrained.few_shot import embed_beside_baselines, score_embedded, shared_rows
from audiossl_lite.pretrained.hub import from_pretrained, save_pretrained
from audiossl_lite.pretrained.published import load_atst, load_byol_a
from audiossl_lite.pretrained.recognise import load_any
from audiossl_lite.pretrained.shipped import load_encoder, load_shipped
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError

__all__ = [
    "PretrainedEncoder",
    "WeightsError",
    "embed_beside_baselines",
    "embed_folder",
    "from_pretrained",
    "load_any",
    "load_atst",
    "load_audiomae",
    "load_byol_a",
    "load_encoder",
    "load_masked_autoencoder",
    "load_shipped",
    "save_pretrained",
    "score_embedded",
    "shared_rows",
]
