"""What an encoder does with what people feed it: padding, batches, silence, very short and long clips, half precision.

Each check takes an encoder and sounds of two seconds, `(n, S)`, and says whether it passed (None: a figure that nobody
can judge) and what was measured. Wrong numbers are published because nobody looks at these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchaudio.functional
from torch import Tensor

from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.frontends import SAMPLE_RATE_HZ
from audiossl_lite.pretrained.shipped import golden_sound
from audiossl_lite.pretrained.weights import PretrainedEncoder

Verdict = tuple[bool | None, str]
SAME = 1e-3  # of an embedding's length: more is no rounding
HALF_COSINE = 0.99
LEAST_RANK = 2.0
CLASSES_OF = {527: "AudioSet", 521: "YAMNet", 200: "FSD50K", 50: "ESC-50", 35: "Speech Commands"}


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: `passed` is None where there is only a figure."""

    name: str
    passed: bool | None
    detail: str


def check_encoder(model: PretrainedEncoder) -> list[Finding]:
    """Every check on an encoder, in the order of `CHECKS`; one that raises has failed, and says with what."""
    sounds = synthetic_clips("event", clips_per_class=1, duration_s=2.0).waveforms
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(Finding(name, *check(model, sounds)))
        except Exception as error:  # anyone's code
            lines = str(error).splitlines() or [""]
            findings.append(Finding(name, False, f"{type(error).__name__}: {lines[0][:120]}"))
    return findings


def difference(out: Tensor, reference: Tensor) -> float:
    """The largest distance of a row from its reference, in lengths of the reference; infinite where not finite."""
    if out.shape != reference.shape:
        raise ValueError(
            f"the output has shape {tuple(out.shape)}, expected {tuple(reference.shape)}"
        )
    out, reference = out.double(), reference.double()
    distance = ((out - reference).norm(dim=1) / reference.norm(dim=1).clamp_min(1e-12)).max()
    return float(distance) if torch.isfinite(distance) else math.inf


def cosine(out: Tensor, reference: Tensor) -> float:
    """The smallest cosine between rows and their references; NaN counts as -1."""
    cosines = torch.cosine_similarity(out.double(), reference.double(), dim=1)
    return float(cosines.nan_to_num(-1.0).min())


def _same(out: Tensor, reference: Tensor, limit: float = SAME) -> Verdict:
    distance = difference(out, reference)
    return distance <= limit, f"differs by {distance:.1e} (limit {limit:.0e})"


def _finite(out: Tensor) -> Verdict:
    bad = int((~torch.isfinite(out)).sum())
    return not bad, f"{bad} of {out.numel()} values are not finite" if bad else "finite"


def eval_mode(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """No part of the network is in training mode (dropout, batch statistics)."""
    parts = list(model.encoder.modules())
    training = [type(part).__name__ for part in parts if part.training]
    if type(model.encoder) is torch.nn.Identity:
        return None, "no module to look at"
    if training:
        return (
            False,
            f"{len(training)} of {len(parts)} parts are in training mode ({training[0]}); call .eval()",
        )
    return True, f"{len(parts)} parts"


def same_twice(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """The same clips give the same numbers again."""
    return _same(model.embed(sounds), model.embed(sounds), 1e-6)


def alone_and_in_a_batch(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A clip gives in a batch what it gives alone."""
    alone = torch.cat([model.embed(sounds[i : i + 1]) for i in range(4)])
    return _same(model.embed(sounds)[:4], alone)


def beside_a_loud_clip(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A quiet clip gives the same beside full-scale noise: nothing is normalised over the batch."""
    quiet = 0.01 * sounds[:1]
    return _same(model.embed(torch.cat([quiet, _noise(sounds.shape[1])]))[:1], model.embed(quiet))


def order_of_the_batch(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """Clips in another order give the same rows in that order."""
    return _same(model.embed(sounds.flip(0)).flip(0), model.embed(sounds))


def padded(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A clip with zeros after its end, and its length, gives what it gives alone."""
    n = sounds.shape[1] // 3
    waves = sounds[:4].clone()
    waves[::2, n:] = 0.0
    alone = torch.cat([model.embed(wave[None, :n]) for wave in waves[::2]])
    if model.takes_lengths:
        lengths = torch.tensor([n, waves.shape[1]] * 2)
        return _same(model.embed(waves, lengths)[::2], alone)
    close = cosine(model.embed(waves)[::2], alone)
    return (
        None,
        f"takes no lengths; with silence after the clip the cosine is {close:.3f}: never pad for it",
    )


def silence(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A second of zeros."""
    return _finite(model.embed(torch.zeros(1, SAMPLE_RATE_HZ)))


def ten_milliseconds(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A clip of 160 samples."""
    return _finite(model.embed(sounds[:1, 8_000:8_160]))


def a_minute(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """60 s; and whether the end of it is heard at all."""
    minute = sounds.flatten()[: 60 * SAMPLE_RATE_HZ].clone()[None]
    minute = minute.repeat(1, -(-60 * SAMPLE_RATE_HZ // minute.shape[1]))[:, : 60 * SAMPLE_RATE_HZ]
    out = model.embed(minute)
    minute[:, -10 * SAMPLE_RATE_HZ :] = _noise(10 * SAMPLE_RATE_HZ)
    heard = difference(model.embed(minute), out) > SAME
    passed, detail = _finite(out)
    return (
        passed,
        f"{detail}; other last ten seconds {'are heard' if heard else 'are NOT heard: cut long clips'}",
    )


def full_scale_noise(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """Uniform noise between -1 and 1."""
    return _finite(model.embed(_noise(sounds.shape[1])))


def stereo(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """`(B, 2, S)` is refused in words, or gives what the mean of the channels gives."""
    both = torch.stack([sounds[:2], sounds[2:4]], dim=1)
    try:
        out = model.embed(both)
    except ValueError as error:
        return True, f"refused: {str(error).splitlines()[0][:90]}"
    return _same(out, model.embed(both.mean(1)))


def another_rate(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A clip that was kept at 44.1 kHz and resampled; beside it, what forgetting to resample does."""
    stored = torchaudio.functional.resample(sounds[:4], SAMPLE_RATE_HZ, 44_100)
    back = torchaudio.functional.resample(stored, 44_100, SAMPLE_RATE_HZ)[:, : sounds.shape[1]]
    reference = model.embed(sounds[:4])
    close, forgotten = cosine(model.embed(back), reference), cosine(model.embed(stored), reference)
    return (
        close > 0.95,
        f"cosine {close:.3f} when resampled, {forgotten:.3f} when that is forgotten",
    )


def not_a_number(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """A clip with NaN is refused, or spoils its own row and no other."""
    waves = sounds[:3].clone()
    waves[1, 100] = math.nan
    try:
        out = model.embed(waves)
    except ValueError as error:
        return True, f"refused: {str(error).splitlines()[0][:90]}"
    if torch.isfinite(out[1]).all():
        return False, "the embedding of a clip with NaN looks like any other"
    return _same(out[::2], model.embed(sounds[:3:2]))


def float16(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """The same under autocast in float16, loud noise included."""
    return _half(model, sounds, torch.float16)


def bfloat16(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """The same under autocast in bfloat16."""
    return _half(model, sounds, torch.bfloat16)


def _half(model: PretrainedEncoder, sounds: Tensor, kind: torch.dtype) -> Verdict:
    waves = torch.cat([sounds[:4], _noise(sounds.shape[1])])
    with torch.autocast(waves.device.type, dtype=kind):
        out = model.embed(waves)
    reference = model.embed(waves)
    passed, detail = _finite(out)
    moved = f"differs by {difference(out, reference):.1e} from float32"
    return passed and cosine(out, reference) > HALF_COSINE, f"{detail}; {moved}"


def what_it_is(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """An embedding, or the probabilities or logits of a classifier, as far as values tell."""
    out = model.embed(sounds).double()
    if out.dim() != 2 or len(out) != len(sounds):
        return False, f"shape {tuple(out.shape)}, expected ({len(sounds)}, D)"
    size = f"{out.shape[1]} numbers"
    no_zeros = (
        out == 0.0
    ).double().mean() < 0.01  # a ReLU leaves many, a sigmoid or softmax hardly any
    if out.min() >= 0.0 and out.max() <= 1.0 and no_zeros:
        one = bool(((out.sum(1) - 1.0).abs() < 1e-3).all())
        return False, f"{size} between 0 and 1{', rows sum to 1' if one else ''}: probabilities"
    if bool((out.logsumexp(1).abs() < 1e-3).all()):
        return False, f"{size} whose exponentials sum to 1: log-probabilities"
    if out.shape[1] in CLASSES_OF:
        return None, f"{size}, as many as classes of {CLASSES_OF[out.shape[1]]}: logits?"
    lengths = out.norm(dim=1)
    kind = ", of length 1" if bool(((lengths - 1.0).abs() < 1e-3).all()) else ""
    zeros = f", {100 * (out == 0).double().mean():.0f} % of them 0" if out.min() >= 0.0 else ""
    return True, f"an embedding{kind}: {size}{zeros}, length {lengths.mean():.3g}"


def rank(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """How many directions the embeddings of different sounds use: the exponential of the entropy of singular values."""
    out = model.embed(sounds).double()
    values = torch.linalg.svdvals(out - out.mean(0))
    share = values / values.sum().clamp_min(1e-30)
    effective = float(torch.special.entr(share).sum().exp())
    return effective >= LEAST_RANK, f"{effective:.1f} of at most {min(len(out) - 1, out.shape[1])}"


def spread(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """How far apart different sounds are, beside the embedding's length, and numbers that are always the same."""
    out = model.embed(sounds).double()
    deviation = out.std(0)
    share = float((out - out.mean(0)).norm() / out.norm().clamp_min(1e-30))
    constant = int((deviation <= 1e-6 * deviation.max()).sum())
    return (
        share > SAME,
        f"{100 * share:.0f} % of their length; {constant} of {len(deviation)} numbers never change",
    )


def golden(model: PretrainedEncoder, sounds: Tensor) -> Verdict:
    """What a fixed sound gave when the file was written."""
    if not model.about.get("golden"):
        return None, "none recorded"
    return _same(model.embed(*golden_sound()), torch.tensor([model.about["golden"]]))


def _noise(samples: int) -> Tensor:
    return 2.0 * torch.rand(1, samples, generator=torch.Generator().manual_seed(0)) - 1.0


CHECKS: dict[str, Callable[[PretrainedEncoder, Tensor], Verdict]] = {
    "eval mode": eval_mode,
    "same call twice": same_twice,
    "alone and in a batch": alone_and_in_a_batch,
    "beside a loud clip": beside_a_loud_clip,
    "order of the batch": order_of_the_batch,
    "padded": padded,
    "silence": silence,
    "10 ms": ten_milliseconds,
    "60 s": a_minute,
    "full-scale noise": full_scale_noise,
    "stereo": stereo,
    "another rate": another_rate,
    "NaN": not_a_number,
    "float16": float16,
    "bfloat16": bfloat16,
    "what it is": what_it_is,
    "rank": rank,
    "spread": spread,
    "golden vector": golden,
}
