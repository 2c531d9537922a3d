"""A model under the HEAR protocol in our tables: `load_any("hear:package.module")`, or `"hear:package.module:FILE"`."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
import torchaudio.functional
from torch import Tensor, nn

from audiossl_lite.data.store_format import checksum
from audiossl_lite.frontends import SAMPLE_RATE_HZ
from audiossl_lite.pretrained.foreign import adapt
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError

PREFIX = "hear:"


def from_hear(module_name: str, model_file_path: str = "") -> PretrainedEncoder:
    """The scene embeddings of a module that has `load_model` and `get_scene_embeddings`.

    Sound at 16 kHz is resampled to the model's rate; clips of other lengths are embedded apart, since the protocol
    knows no padding. Importing the module and loading its file run their code. Raises WeightsError when the module
    is missing or lacks a function.
    """
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise WeightsError(f"{PREFIX}{module_name} cannot be imported: {error}") from error
    for function in ("load_model", "get_scene_embeddings"):
        if not callable(getattr(module, function, None)):
            raise WeightsError(f"{PREFIX}{module_name} has no {function}: it is no HEAR module")
    model = module.load_model(model_file_path) if model_file_path else module.load_model()

    def embed(waveform: Tensor) -> Tensor:
        at_its_rate = torchaudio.functional.resample(waveform, SAMPLE_RATE_HZ, model.sample_rate)
        return torch.as_tensor(module.get_scene_embeddings(at_its_rate, model))

    named = (getattr(module, "__file__", None), model_file_path)
    files = [file for file in named if file and Path(file).is_file()]
    return adapt(
        embed,
        model.eval() if isinstance(model, nn.Module) else None,
        name=module_name,
        identity=" ".join(checksum(Path(file)) for file in files),
    )
