"""One function for every encoder: `load_any` takes a name or a file, and tells by its content what a file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from audiossl_lite._version import __version__
from audiossl_lite.common.parameters import nearest, user_path
from audiossl_lite.data.store_format import checksum
from audiossl_lite.evaluation.baselines import MFCCFrontend, Statistics
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.pretrained.adapters.from_hear import PREFIX, from_hear
from audiossl_lite.pretrained.audiomae import load_audiomae
from audiossl_lite.pretrained.foreign import is_foreign, load_foreign
from audiossl_lite.pretrained.hub import from_pretrained
from audiossl_lite.pretrained.published import load_atst, load_byol_a
from audiossl_lite.pretrained.shipped import is_ours, load_encoder, shipped_encoders
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError, read_weights

HUB = "hf:"
BASELINES = {"log-mel": lambda: BYOLAFrontend(0.0, 1.0), "mfcc": MFCCFrontend}


@dataclass(frozen=True)
class Layout:
    """A published kind of file: `load(path, content=...)`, and the keys and shapes that tell it (None: any size)."""

    name: str
    load: Callable[..., PretrainedEncoder]
    telling: Mapping[str, tuple[int | None, ...]]


LAYOUTS = (
    Layout("ATST", load_atst, {
        "patch_embed.patch_embed.weight": (None, 256),
        "pos_embed": (1, 251, None),
        "mask_embed": (1, 1, None),
    }),
    Layout("AudioMAE", load_audiomae, {
        "patch_embed.proj.weight": (None, 1, 16, 16),
        "pos_embed": (1, 513, None),
    }),
    Layout("BYOL-A", load_byol_a, {
        "features.0.weight": (64, 1, 3, 3),
        "features.8.weight": (64, 64, 3, 3),
        "fc.0.weight": (None, 512),
    }),
)  # fmt: skip
# Families whose files look like these or are often tried: the end of a key that only they have.
OTHERS = {
    "norm_frame.weight": "ATST-Frame",
    "v.patch_embed.proj.weight": "AST or SSAST",
    "post_extract_proj.weight": "BEATs",
    "encoder_mask_emb": "MAE-AST",
    "modality_encoders.IMAGE.proj.weight": "EAT",
}


def load_any(name_or_file: str | Path) -> PretrainedEncoder:
    """An encoder in eval mode, whatever it is called or lies in; `.embed(waveform, lengths) -> (B, D)`.

    A shipped encoder by name; `log-mel` or `mfcc`, statistics without learning; a file of this project, a folder of
    `save_pretrained`, or `hf:owner/name` for one on the hub; a file of ATST, AudioMAE (pretrained, fine-tuned or under
    timm's names) or BYOL-A v1, told by its keys and shapes; or `package.module:attribute` for anyone's (see
    `pretrained.foreign`), `hear:package.module` for one under the HEAR protocol. Code in a file never runs. Raises
    WeightsError naming the keys that are wrong or the other family that a file belongs to, FileNotFoundError, and
    KeyError with the nearest name.
    """
    text, path = str(name_or_file), user_path(name_or_file)
    shipped = shipped_encoders()
    if text in BASELINES:
        return _baseline(text)
    if text in shipped:
        path = shipped[text]
    elif path.is_dir():
        return from_pretrained(path)
    elif text.startswith(HUB):
        return from_pretrained(text.removeprefix(HUB))
    elif text.startswith(PREFIX):
        return from_hear(*text.removeprefix(PREFIX).split(":", 1))
    elif is_foreign(text) and not path.exists():
        return load_foreign(text)
    elif not path.is_file():
        known = (*shipped, *BASELINES)
        if path.suffix or len(path.parts) > 1:
            raise FileNotFoundError(
                f"no weight file at {path}; by name there are {', '.join(known)}"
            )
        raise KeyError(
            f"unknown encoder {text!r}; did you mean {nearest(text, known)!r}? By name there are "
            f"{', '.join(known)}; else give a file, or package.module:attribute"
        )
    return replace(_from_file(path), name=path.stem, identity=checksum(path))


def _baseline(name: str) -> PretrainedEncoder:
    encoder, frontend = Statistics().eval(), BASELINES[name]().eval()
    return PretrainedEncoder(
        encoder,
        frontend,
        lambda waveform, lengths: encoder(*spectrograms(frontend, waveform, lengths)),
        name=name,
        identity=__version__,
    )


def _from_file(path: Path) -> PretrainedEncoder:
    if is_ours(path):
        return load_encoder(path)
    content = read_weights(path)
    return recognise(content, path).load(path, content=content)


def recognise(content: dict[str, Any], path: str | Path) -> Layout:
    """The layout that most keys of a file speak for; WeightsError when none does, or when it is another family's."""
    shapes = {key: tuple(value.shape) for key, value in _tensors(content).items()}
    for end, family in OTHERS.items():
        if any(key == end or key.endswith(f".{end}") for key in shapes):
            known = ", ".join(layout.name for layout in LAYOUTS)
            raise WeightsError(f"{path} is of {family} (it has {end}); files of {known} are read")
    if shapes.get("fc.0.weight") == (2048, 1024):
        raise WeightsError(f"{path} is of BYOL-A v2 (fc.0.weight is 1024 wide); version 1 is read")
    votes = {
        layout.name: sum(_fits(shapes.get(key), shape) for key, shape in layout.telling.items())
        for layout in LAYOUTS
    }
    best = max(LAYOUTS, key=lambda layout: votes[layout.name])
    if not votes[best.name] or list(votes.values()).count(votes[best.name]) > 1:
        wanted = "; ".join(f"{layout.name}: {', '.join(layout.telling)}" for layout in LAYOUTS)
        raise WeightsError(
            f"{path} is of no layout that is read (telling keys, with their shapes, are {wanted}); "
            f"its keys are {sorted(shapes or map(str, content))[:8]}"
        )
    return best


def _tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """All weights of a file, out of what the published layouts wrap them in."""
    inner = next(
        (content[key] for key in ("teacher", "model", "state_dict") if isinstance(content.get(key), dict)),
        content,
    )  # fmt: skip
    tensors = {}
    for key, value in inner.items():
        if isinstance(value, Tensor):
            for prefix in ("module.", "backbone.", "model.teacher.encoder."):
                key = str(key).removeprefix(prefix)
            tensors[key] = value
    return tensors


def _fits(shape: tuple[int, ...] | None, wanted: tuple[int | None, ...]) -> bool:
    return (
        shape is not None
        and len(shape) == len(wanted)
        and all(w in (None, s) for s, w in zip(shape, wanted))
    )
