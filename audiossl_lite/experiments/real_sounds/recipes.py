"""What stage 5 trains: each method of the book put together on sounds that lie in the memory of the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.data.corpus import held_out
from audiossl_lite.data.joined import Corpus, waveforms_of
from audiossl_lite.data.resident import Joined, spectrograms_of
from audiossl_lite.experiments.build import Parts, chosen, make_frontend, trained_frames
from audiossl_lite.experiments.build_mae import starting_parts
from audiossl_lite.experiments.build_uamix import tuning_parts
from audiossl_lite.experiments.networks import random_start
from audiossl_lite.experiments.settings.audiomae import Masked
from audiossl_lite.experiments.settings.presets import override, preset
from audiossl_lite.experiments.settings.uamix import START
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained.shipped import describe_encoder, load_encoder
from audiossl_lite.training import Compute, train

# BYOL-A's network trained by InfoNCE on two segments: the recipe of the CNN that ships with the project.
CNN = {
    "method": "contrastive",
    "segments": "two",
    "hidden_dim": 1024,
    "final_learning_rate": 1e-5,
}
# Each method: experiment of the presets, what it changes there, and what a CPU at toy size changes.
_TOY = {"precision": "32-true", "batch_size": 16, "log_every": 2, "save_every": 3}
_TOY_BYOL = _TOY | {"hidden_dim": 64, "memory_size": 16, "segment_s": 0.5}
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "atst": ("atst", {}, _TOY_BYOL | {"encoder": "atst_tiny"}),
    "byola": ("byola", {}, _TOY_BYOL | {"encoder": "byola_tiny"}),
    "cnn": ("byola", CNN, _TOY_BYOL | {"encoder": "byola_tiny"}),
    "audiomae": (
        "audiomae", {}, _TOY | {"encoder": "audiomae_tiny", "n_frames": 48, "decoder_dim": 64, "decoder_depth": 1},
    ),
    "eat": ("eat", {}, _TOY | {"encoder": "audiomae_tiny", "top_blocks": 6, "n_frames": 48, "decoder_dim": 64}),
    "uamix": (
        "uamix", {}, _TOY | {"head_batch_size": 16, "hidden_dim": 64, "predictor_dim": 64, "queue_size": 64},
    ),
}  # fmt: skip
TITLES = {
    "atst": "ATST",
    "byola": "BYOL-A",
    "cnn": "CNN, InfoNCE",
    "audiomae": "AudioMAE",
    "eat": "EAT",
    "uamix": "uaMix-MAE",
}
MIXING_TITLES = {"none": "No Mixing", "mixup": "MixUp + LS", "tf_cutmix": "TF-CutMix"}
LONGEST_FRAMES = 1008  # of a filter bank: 10 s in whole patches


@dataclass
class Recipe:
    """A method ready to be trained; settings that its time decides (`steps`, sizes) are in `config` and may change.

    `source` gives the clips, `parts(config)` the method at its start, its views and what the loop reads. `starts`:
    encoders by name that training is compared with. `maker`, `options`: see `save_encoder`.
    """

    title: str
    maker: str
    config: Any
    source: Joined
    frontend: nn.Module
    parts: Callable[[Any], Parts]
    starts: Callable[[Any], dict[str, nn.Module]]
    chunk_frames: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Any, Path], None] | None = None  # what is trained first, in a folder


def settings_of(options: dict[str, Any], device: torch.device, *, toy: bool) -> Any:
    """The settings of a stage: the preset of its method at `options["scale"]` with the options that name a setting.

    By default `gpu`. A precision that nobody chose for a CPU is not taken there.
    """
    experiment, changes, small = METHODS[options["method"]]
    config = preset(experiment, options.get("scale", "gpu"), changes | (small if toy else {}))
    known = {f.name for f in dataclasses.fields(config)}
    config = override(config, {k: v for k, v in options.items() if k in known and k != "method"})
    if device.type == "cuda" or "auto" in (config.precision, options.get("precision")):
        return config
    return replace(config, precision="32-true")


def make_recipe(
    options: dict[str, Any], corpus: Corpus, out: Path, device: torch.device, *, toy: bool
) -> Recipe:
    """The recipe of a stage on the clips that training may hear.

    Raises KeyError for an unknown method and FileNotFoundError when the encoder that tuning starts from is not there.
    """
    if options["method"] not in METHODS:
        raise KeyError(f"unknown method {options['method']!r}; known: {', '.join(METHODS)}")
    config = settings_of(options, device, toy=toy)
    make = _tuned if options["method"] == "uamix" else _pretrained
    heard = (~held_out(list(corpus.sounds))).nonzero().flatten()
    return make(options, config, corpus, heard, Path(out), device)


def with_steps(config: Any, steps: int) -> Any:
    """The same settings for a run of that many steps, a tenth of them warm-up; step 1 of tuning gets an eighth."""
    steps = max(steps, 8)
    if hasattr(config, "head_steps"):
        head_steps = max(steps // 8, 2)
        return replace(config, head_steps=head_steps, steps=steps - head_steps)
    warmup = steps // 10 if config.warmup_steps else 0
    return replace(config, steps=steps, warmup_steps=warmup)


def way_to_compile(record: dict[str, Any] | None, seconds: float) -> str:
    """What to compile for the most steps within `seconds`, by the record of a timed step; "none" without one.

    A program must earn back the time in which it is compiled, even where that is twice as long as it was.
    """
    rows = [r for r in (record or {"values": []})["values"] if r.get("step_s") and "compile" in r]
    rows = [r for r in rows if not r["name"].endswith(", plain") and r["batch"] == rows[0]["batch"]]
    best = max(rows, key=lambda r: (seconds - 2 * r["first_s"]) / r["step_s"], default=None)
    return best["compile"] if best else "none"


def _sample(waveforms: Joined) -> tuple[Tensor, Tensor]:
    """At most 256 clips on the CPU with their lengths: what a frontend is fitted on."""
    index = torch.arange(0, len(waveforms), -(-len(waveforms) // 256))
    clips, lengths = waveforms.batch(index, "cpu")
    return clips[:, : int(lengths.max())], lengths


def _pretrained(options, config, corpus, heard, out, device) -> Recipe:
    """A method that starts from nothing, on waveforms or, where its views are cut from those, on spectrograms."""
    seed, title, masked = options["seed"], TITLES[options["method"]], isinstance(config, Masked)
    shortest_s = config.n_frames / 100 if masked else config.segment_s
    source = waveforms_of(corpus, device, heard, at_least_s=shortest_s)
    if masked:
        frontend = AudioMAEFrontend(LONGEST_FRAMES, n_mels=config.n_mels).fit(*_sample(source))
    else:
        frontend = make_frontend(config.frontend, *_sample(source))
    frontend = frontend.to(device)
    if masked or config.crop_from == "spectrogram":
        source = spectrograms_of(source, frontend)
    return Recipe(
        title=title,
        maker=config.encoder,
        config=config,
        source=source,
        frontend=frontend,
        parts=lambda c: starting_parts(c, frontend, seed),
        starts=lambda c: {f"{title}, untrained": starting_parts(c, frontend, seed).encoder},
        chunk_frames=trained_frames(config, frontend),
        options=chosen(config, "n_frames", "n_mels") if masked else {},
    )


def _tuned(options, config, corpus, heard, out, device) -> Recipe:
    """uaMix-MAE from the encoder of another stage of the run."""
    seed, start = options["seed"], options.get("start", "learnt_audiomae")
    path = encoder_path(out, start)
    loaded, made = load_encoder(path), describe_encoder(path)["encoder"]
    frontend = loaded.frontend.to(device)
    config = replace(config, n_frames=made["chunk_frames"])
    waveforms = waveforms_of(corpus, device, heard, at_least_s=config.n_frames / 100)
    source = spectrograms_of(waveforms, frontend)
    head: dict[str, Any] = {}  # the state of step 1, once it is trained

    def parts(c: Any, step: int = 2) -> Parts:
        taken = head if step == 2 and head else None
        return tuning_parts(loaded.encoder, c, frontend, step=step, seed=seed, head=taken)

    def train_step_1(c: Any, folder: Path) -> None:
        first = parts(c, step=1)
        train(
            first.method, first.views, source, first.config, device=device.type,
            output_dir=folder / "head", description="step 1", compute=Compute(prefetch=0),
        )  # fmt: skip
        head.update({k: v.detach().cpu().clone() for k, v in first.method.head_state().items()})

    return Recipe(
        title=f"uaMix-MAE: {MIXING_TITLES.get(config.mixing, f'T-CutMix, rule {config.rule}')}",
        maker=made["maker"],
        config=config,
        source=source,
        frontend=frontend,
        parts=parts,
        starts=lambda c: {"untrained encoder": random_start(path, seed), START: loaded.encoder},
        chunk_frames=made["chunk_frames"],
        options=made["options"],
        before=train_step_1,
    )


def encoder_path(out: Path, stage: str) -> Path:
    """Where a stage of the run in `out` leaves its encoder."""
    return Path(out) / "stages" / stage / "encoder.safetensors"
