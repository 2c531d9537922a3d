"""What is compared between a device and the CPU: encoders, losses, gradients, frontends, views, reference outputs.

The reference is the CPU in float32, or in float64 where the device is the CPU itself: the same code then says how far
float32 is off. Each function gives the rows of one check.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from audiossl_lite.encoders import (
    ATSTEncoder,
    AudioMAEEncoder,
    atst_small,
    audiomae_base,
    byola_cnn,
)
from audiossl_lite.experiments.gpu.compare import Check, Row, flat, made_up_weights, relative, row
from audiossl_lite.experiments.gpu.small_runs import METHODS, SEED, small_run
from audiossl_lite.experiments.records import ROOT
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from audiossl_lite.methods.support_queue import SupportQueue
from audiossl_lite.training.loop import step_generator
from audiossl_lite.views.augmentations import RandomGain
from audiossl_lite.views.mixtures import MIXINGS, TuningViews

FIXTURES = ROOT / "tests" / "fixtures"
OUTPUTS = {"fp32": 1e-4, "bf16": 2e-2}  # embeddings and losses
# Batch norm over few clips enlarges the rounding of bf16, and a max pool then chooses other cells. Where the CPU's own
# bf16 is further from its float32 than the tolerance, a card may be so, too, and a little more: at full size an
# untrained ViT-B has 0.16, and the gradient of uaMix-MAE 0.40 (both directions) and 0.56 (one).
GRADIENTS = {"fp32": 1e-3, "bf16": 0.25, "bf16, max pool": 0.4}
COSINES = {"fp32": 0.99, "bf16": 0.97, "bf16, max pool": 0.93}


AS_CPU, COSINE_AS_CPU = 1.25, 0.02


def checks_of_results(device: torch.device, toy: bool) -> list[Check]:
    """All checks of this module, in order of worth."""
    few = 0.3 if toy else 4.0
    return [
        *(Check(f"{n}: encoder", partial(encoder, n, device, toy), few) for n in ENCODERS),
        *(Check(f"{n}: step", partial(step, n, device, toy), few) for n in METHODS),
        Check("neighbours", partial(neighbours, device)),
        *(Check(f"{n}: frontend", partial(frontend, n, device)) for n in FRONTENDS),
        Check("views", partial(views, device, toy)),
        Check("reference outputs", partial(reference_outputs, device, toy), few),
    ]


def cast(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`x` on a device; floating-point values in `dtype`."""
    return x.to(device, dtype) if x.is_floating_point() else x.to(device)


def reference_type(device: torch.device) -> torch.dtype:
    """The precision of the reference, which is computed on the CPU."""
    return torch.float64 if device.type == "cpu" else torch.float32


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normal values from a seed of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Maker, and shape of the clips; the frames of the toy size.
ENCODERS = {
    "ATST-Small": (lambda toy: ATSTEncoder(384, 4 if toy else 12, 6), (4, 601, 64), 61),
    "AudioMAE ViT-B": (
        lambda toy: AudioMAEEncoder(768, 2 if toy else 12, 12, n_frames=1024),
        (2, 1024, 128),
        64,
    ),
    "BYOL-A": (lambda toy: byola_cnn(512 if toy else 2048), (4, 96, 64), 96),
}


@torch.no_grad()
def encoder(name: str, device: torch.device, toy: bool) -> Iterator[Row]:
    """Embeddings of clips of full and of unequal length, in float32 and bf16."""
    make, (n, frames, mels), toy_frames = ENCODERS[name]
    n, frames = (2, toy_frames) if toy else (n, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = make(toy).eval()
    for part in network.modules():
        if hasattr(
            part, "qkv"
        ):  # at its start attention is almost uniform: a wrong one would not show
            part.qkv.weight.mul_(4.0)
    spec = noise(n, frames, mels) + noise(n, 1, mels, seed=1)
    lengths = torch.linspace(frames, frames * 0.4, n).long()
    exact = copy.deepcopy(network).to(dtype=reference_type(device))
    cases = {"all frames": None, "lengths": lengths}
    expected = {
        case: exact(spec.to(reference_type(device)), valid) for case, valid in cases.items()
    }

    def errors_on(where: torch.device, precision: str) -> dict[str, float]:
        there, clips = copy.deepcopy(network).to(where), spec.to(where)
        with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
            return {case: relative(there(clips, v), expected[case]) for case, v in cases.items()}

    for precision, tolerance in OUTPUTS.items():
        errors = errors_on(device, precision)
        detail = ", ".join(f"{case} {error:.1e}" for case, error in errors.items())
        if precision == "bf16" and device.type != "cpu":
            cpu = max(errors_on(torch.device("cpu"), precision).values())
            tolerance, detail = max(tolerance, AS_CPU * cpu), f"{detail}; CPU {cpu:.1e}"
        yield row(f"{name}, {precision}", max(errors.values()), tolerance, detail)


def loss_and_gradient(
    method: nn.Module, batch: tuple[Tensor, ...], device: torch.device, dtype: torch.dtype,
    *, bf16: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The loss of a copy of `method` in train mode, and all its gradients in one vector, both on the CPU."""
    method = copy.deepcopy(method).to(device, dtype).train()
    batch = tuple(cast(x, device, dtype) for x in batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = method(*batch)["loss"]
    loss.backward()
    return loss.detach().cpu(), flat(p.grad for p in method.parameters() if p.grad is not None)


def step(name: str, device: torch.device, toy: bool) -> Iterator[Row]:
    """Loss and gradient of a method on the same views, in float32 and bf16."""
    run = small_run(name, toy)
    size = run.config.batch_size
    for number in range(2):  # the second batch is mixed with the first
        rows = torch.arange(number * size, (number + 1) * size)
        generator = step_generator(SEED, number)
        batch = run.views(run.data[rows], generator, run.lengths[rows], ids=rows)
    cpu = torch.device("cpu")
    loss, gradient = loss_and_gradient(run.method, batch, cpu, reference_type(device))

    def errors_on(where: torch.device, bf16: bool) -> tuple[float, float, float, float]:
        ours, vector = loss_and_gradient(run.method, batch, where, torch.float32, bf16=bf16)
        cosine = float(nn.functional.cosine_similarity(vector, gradient, dim=0))
        return float(ours), relative(ours, loss), relative(vector, gradient), cosine

    for precision, most in OUTPUTS.items():
        bf16 = precision == "bf16"
        kind = f"{precision}, max pool" if bf16 and name == "BYOL-A" else precision
        largest, least, said = GRADIENTS[kind], COSINES[kind], ""
        if bf16 and device.type != "cpu":
            _, off, error, cosine = errors_on(cpu, bf16)
            most, largest = max(most, AS_CPU * off), max(largest, AS_CPU * error)
            least, said = min(least, cosine - COSINE_AS_CPU), f"; CPU {error:.2g} ({cosine:.5f})"
        value, off, error, cosine = errors_on(device, bf16)
        yield row(f"{name}, {precision}: loss", off, most, f"{value:.5f}")
        entry = row(
            f"{name}, {precision}: gradient", error, largest,
            f"cosine {cosine:.5f}, at least {least:.3g}{said}",
        )  # fmt: skip
        yield entry | {"passed": entry["passed"] and cosine > least}


def neighbours(device: torch.device) -> Iterator[Row]:
    """The share of lookups that find another neighbour under bf16 autocast than on the CPU in full precision."""
    queue = SupportQueue(4096, 256, generator=torch.Generator().manual_seed(SEED))
    queries, ids = noise(512, 256), torch.arange(512)
    expected = queue.neighbours(queries, ids)
    queue = queue.to(device)
    for precision, tolerance in {"fp32": 0.002, "bf16": 0.01}.items():
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            out = queue.neighbours(queries.to(device), ids.to(device))
        other = (out.float().cpu() - expected).norm(dim=1) > 1e-3
        yield row(
            f"neighbours, {precision}",
            float(other.double().mean()),
            tolerance,
            "share that differs",
        )


FRONTENDS = {
    "ATST, official": ATSTFrontend,
    "ATST, paper": lambda: ATSTFrontend("paper"),
    "AudioMAE": lambda: AudioMAEFrontend(256),
    "BYOL-A": BYOLAFrontend,
}


@torch.no_grad()
def frontend(name: str, device: torch.device) -> Iterator[Row]:
    """Spectrograms of a batch on the device, against each clip alone on the CPU."""
    waveform = 0.1 * noise(6, 32_000)
    waveform[2:4, 20_000:] = 0.0  # digital silence
    expected = torch.cat([FRONTENDS[name]()(clip[None]) for clip in waveform])
    out = FRONTENDS[name]().to(device)(waveform.to(device))
    yield row(f"{name}: frontend", relative(out, expected), 1e-4, "a batch, against clips alone")


def views(device: torch.device, toy: bool) -> Iterator[Row]:
    """Two batches of views from the same generator; the global random state must not matter."""
    runs = {name: small_run(name, toy) for name in ("BYOL-A", "ATST", "AudioMAE")}
    cases = {name: (run.views, run.data, run.lengths) for name, run in runs.items()}
    spec = runs["AudioMAE"].data, runs["AudioMAE"].lengths
    for mixing in MIXINGS:
        last = "spec_augment" if mixing == "none" else "resized_crop"
        cases[f"uaMix-MAE, {mixing}"] = (TuningViews(mixing, augmentation=last), *spec)
    for name, (module, data, lengths) in cases.items():
        errors = []
        ours = copy.deepcopy(module).to(device)
        for number in range(2):
            batches = []
            for there, where in ((module, torch.device("cpu")), (ours, device)):
                torch.manual_seed(number + len(batches))
                generator, ids = step_generator(SEED, number), torch.arange(8, device=where)
                batches.append(there(data[:8].to(where), generator, lengths[:8], ids=ids))
            errors += [relative(out, ref) for ref, out in zip(*batches, strict=True)]
        yield row(f"{name}: views", max(errors), 1e-4, "same generator, other global state")
    gain, waveform = RandomGain(), 0.1 * noise(6, 8_000)
    ours, expected = (
        gain(waveform.to(d), step_generator(SEED, 0)) for d in (device, torch.device("cpu"))
    )
    yield row("random gain", relative(ours, expected), 1e-4)


@torch.no_grad()
def reference_outputs(device: torch.device, toy: bool) -> Iterator[Row]:
    """Encoders with made-up weights and a filter bank, against the outputs of the official code."""
    if not FIXTURES.is_dir():
        yield row("reference outputs", None, None, "not run: no fixtures here", passed=None)
        return

    def expected(name: str) -> dict:
        return torch.load(FIXTURES / f"{name}.pt", weights_only=True)

    atst = expected("atst_small")
    network = atst_small().eval()
    network.load_state_dict(made_up_weights(atst["keys"]))
    network, spec = network.to(device), noise(2, 1, 64, 601)[:, 0].transpose(1, 2).contiguous()
    for case, frames, lengths in (("f401_full", 401, None), ("f601_padded", 601, [601, 401])):
        valid = None if lengths is None else torch.tensor(lengths)
        out = network(spec[:, :frames].to(device), valid)
        yield row(f"ATST-Small, official {case}", relative(out, atst[case]["cls_out"]), 1e-4)
    bank = expected("audiomae_fbank")
    out = AudioMAEFrontend().to(device)(bank["waveform"].to(device))[0, :28]
    yield row("AudioMAE filter bank, official", relative(out, bank["fbank_norm"]), 1e-4)
    if toy:  # a core needs as long for the next one as for all others together
        return
    mae = expected("audiomae_vitb")
    with torch.device("meta"):
        network = audiomae_base()
    network.load_state_dict(made_up_weights(mae["encoder_keys"]), assign=True)
    out = network.eval().to(device)(noise(2, 1, 1024, 128)[:, 0].to(device))
    yield row("AudioMAE ViT-B, official", relative(out, mae["mean_patch_after_norm"]), 1e-4)
