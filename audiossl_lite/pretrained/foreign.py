"""Anyone's encoder, named as `package.module:attribute`, with the face of ours.

The attribute embeds waveforms, or makes what embeds them: an object with `.embed`, a module or a function of
`(waveform (B, S))` or `(waveform, lengths (B,))` that returns `(B, D)`, or a class or function without arguments that
gives one of these.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.common.parameters import nearest
from audiossl_lite.data.store_format import checksum
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError, check_rows

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_foreign(name: str) -> bool:
    """Whether a name is one of the form `package.module:attribute`."""
    return NAME.fullmatch(name) is not None


def load_foreign(name: str) -> PretrainedEncoder:
    """The encoder that `package.module:attribute` names; this imports the module, which runs it.

    Raises WeightsError when the module or the attribute is missing, or embeds nothing.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise WeightsError(f"{name}: {module_name} cannot be imported: {error}") from error
    except Exception as error:  # anyone's code
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"{name}: {module_name} fails when it is imported: {reason}") from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = nearest(part, [n for n in dir(found) if n[0] != "_"] or [part])
            raise WeightsError(f"{name}: there is no {part!r} in it; did you mean {near!r}?")
        found = getattr(found, part)
    if isinstance(found, type) or (not isinstance(found, nn.Module) and _needs_nothing(found)):
        try:
            found = found()
        except Exception as error:  # anyone's code
            reason = f"{type(error).__name__}: {error}"
            raise WeightsError(f"{name} cannot be made without arguments: {reason}") from error
    embed = getattr(found, "embed", found)
    if not callable(embed):
        raise WeightsError(f"{name} is a {type(found).__name__}, neither callable nor with .embed")
    source = getattr(module, "__file__", None)
    return adapt(
        embed,
        found if isinstance(found, nn.Module) else getattr(found, "encoder", None),
        name=name,
        identity=checksum(Path(source)) if source else "",
    )


def _needs_nothing(function: Callable) -> bool:
    parameters = inspect.signature(function).parameters.values() if callable(function) else ()
    return callable(function) and not any(
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )


def adapt(
    embed: Callable[..., Tensor], module: Any = None, *, name: str = "", identity: str = ""
) -> PretrainedEncoder:
    """`embed(waveform (B, S))`, or with `lengths (B,)`, as an encoder of this library.

    Without an argument `lengths` it is called on clips of one length at a time, never on padding. `module`: the
    network behind it, where it is known.
    """
    takes_lengths = "lengths" in inspect.signature(getattr(embed, "forward", embed)).parameters
    return PretrainedEncoder(
        module if isinstance(module, nn.Module) else nn.Identity(),
        nn.Identity(),
        (lambda wave, lengths: embed(wave, lengths=lengths))
        if takes_lengths
        else by_length(embed, name),
        takes_lengths=takes_lengths,
        name=name,
        identity=identity,
    )


def by_length(
    embed: Callable[[Tensor], Tensor], name: str = ""
) -> Callable[[Tensor, Tensor], Tensor]:
    """`embed` for a batch of clips of different `lengths (B,)`: those of one length together, cut to it.

    `name`: of the encoder, for errors.
    """

    def embed_each(waveform: Tensor, lengths: Tensor) -> Tensor:
        parts, order = [], []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().flatten()
            out = embed(waveform[rows.to(waveform.device), :length])
            parts.append(check_rows(out, len(rows), name))
            order.append(rows)
        return torch.cat(parts)[torch.cat(order).argsort().to(parts[0].device)]

    return embed_each
