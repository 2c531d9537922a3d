"""An encoder as the folder that others expect: `model.safetensors`, `config.json` and `README.md`, its model card.

The weights are a file of `save_encoder`, unchanged; the configuration repeats what that file says of itself. A folder
needs nothing else; one on the Hugging Face hub needs `huggingface_hub`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiossl_lite._version import __version__
from audiossl_lite.common.commands import printable
from audiossl_lite.common.parameters import user_path
from audiossl_lite.data.store_format import checksum, write_whole
from audiossl_lite.pretrained.shipped import describe_encoder, load_encoder, shipped_encoders
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError

WEIGHTS, CONFIG, CARD = FILES = ("model.safetensors", "config.json", "README.md")
HEADER = """---
library_name: audiossl_lite
pipeline_tag: feature-extraction
tags: [audio, self-supervised]
"""
USE = """
## How to load it

```python
from audiossl_lite.pretrained import from_pretrained

embedding = from_pretrained("FOLDER").embed(waveform)  # (B, S) at 16 kHz -> (B, D)
```
"""


def save_pretrained(name_or_file: str | Path, folder: str | Path) -> Path:
    """Write a shipped encoder, or a file of `save_encoder`, as a folder; returns the folder.

    The model card is the `.md` file beside the weights, or made from what the file says of its origin. Errors as
    `load_encoder`, before anything is written.
    """
    source = shipped_encoders().get(str(name_or_file), user_path(name_or_file))
    described, folder = describe_encoder(source), user_path(folder)
    load_encoder(source)
    card = source.with_suffix(".md")
    body = card.read_text("utf-8") if card.is_file() else _card(source.stem, described)
    licence = "license: other\n" if "licence" in described["about"] else ""  # the card names it
    config = {"library": f"audiossl_lite {__version__}"} | described
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, source.read_bytes())
    write_whole(folder / CONFIG, f"{json.dumps(config, indent=1)}\n".encode())
    write_whole(folder / CARD, f"{HEADER}{licence}---\n{body.rstrip()}\n{USE}".encode())
    return folder


def _card(name: str, described: dict[str, Any]) -> str:
    golden = ", ".join(f"{value:.4g}" for value in described["golden"][:4])
    lines = [
        f"- **{_as_text(key)}.** {_as_text(value)}" for key, value in described["about"].items()
    ]
    network = f"`{described['encoder']['maker']}` fed by `{described['frontend']['class']}`"
    return "\n".join(
        [
            f"# {_as_text(name)}\n",
            f"{network}.\n",
            *lines,
            f"- **Golden vector.** It begins {golden}.",
        ]
    )


def _as_text(value: Any) -> str:
    """A value of a file as text in Markdown, which is then no markup."""
    return re.sub(r"([\\`\[\]<>&])", r"\\\1", printable(str(value)))


def from_pretrained(
    folder_or_repo: str | Path, *, revision: str | None = None
) -> PretrainedEncoder:
    """The encoder in a folder of `save_pretrained`, or in a repository `owner/name` of the hub at a `revision`.

    Raises FileNotFoundError naming the file that is missing, or WeightsError when weights or configuration are damaged
    or do not say the same.
    """
    folder = user_path(folder_or_repo)
    name = folder.name
    if not folder.is_dir():
        folder = _download(str(folder_or_repo), revision)
    weights, config = folder / WEIGHTS, folder / CONFIG
    described = describe_encoder(weights)
    if not config.is_file():
        raise FileNotFoundError(f"no configuration at {config}; save the folder again")
    try:
        said = json.loads(config.read_bytes())
        differing = [key for key in described if said[key] != described[key]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{config} is no configuration of an encoder: {error!r}") from error
    if differing:
        raise WeightsError(
            f"{config} differs from {WEIGHTS} in {', '.join(differing)}; save the folder again"
        )
    return replace(load_encoder(weights), name=name, identity=checksum(weights))


def _download(repo: str, revision: str | None) -> Path:
    """The files of a repository in the hub's own cache; FileNotFoundError where the hub's package is missing."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(
            f"no folder at {repo}; to fetch it from the hub, install huggingface_hub"
        ) from error
    return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
