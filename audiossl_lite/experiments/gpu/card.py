"""The card: what it is, and the roof that every share of its arithmetic and traffic refers to."""

from __future__ import annotations

import statistics
import subprocess
from typing import Any

import torch

from audiossl_lite.experiments.calibration import memory_of
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.experiments.roofline import bandwidth, peak_flops, sending

# TFLOP/s of dense bf16 products with float32 sums, TB/s of device memory: NVIDIA's data sheets.
DATA_SHEETS = {
    "NVIDIA B200": (2250, 8.0),
    "NVIDIA H200": (989, 4.8),
    "NVIDIA H100 80GB HBM3": (989, 3.35),
    "NVIDIA H100 NVL": (835, 3.9),
    "NVIDIA H100 PCIe": (756, 2.0),
    "NVIDIA A100-SXM4-80GB": (312, 2.039),
    "NVIDIA A100 80GB PCIe": (312, 1.935),
    "NVIDIA A100-SXM4-40GB": (312, 1.555),
    "NVIDIA A100-PCIE-40GB": (312, 1.555),
    "NVIDIA L40S": (362, 0.864),
    "NVIDIA L4": (121, 0.3),
    "NVIDIA A10": (125, 0.6),
    "NVIDIA GeForce RTX 4090": (165, 1.008),
    "NVIDIA GeForce RTX 3090": (71, 0.936),
}
BF16 = "bf16 matrix product"  # the row that utilisations refer to


def run(task: Task) -> None:
    """Record name, driver and memory of the device, and its measured rates beside those of the data sheet."""
    facts, device = describe(task.device), task.device
    flops, traffic = DATA_SHEETS.get(facts["name"], (None, None))
    small = {"size": 128} if task.toy else {}
    few = {"n_bytes": 2**22} if task.toy else {}
    measurements = (
        (BF16, "TFLOP/s", flops, lambda: peak_flops(device, "bf16-mixed", **small)),
        ("device to device copy", "TB/s", traffic, lambda: bandwidth(device, **few)),
        ("tf32 matrix product", "TFLOP/s", None, lambda: peak_flops(device, "tf32", **small)),
        ("fp32 matrix product", "TFLOP/s", None, lambda: peak_flops(device, "32-true", **small)),
        ("pinned host to device copy", "TB/s", None, lambda: sending(device, **few)),
    )
    rows: list[dict[str, Any]] = []
    for name, unit, sheet, measure in measurements:
        rows.append({"name": name, "mean": measure() / 1e12, "ci95": None, "unit": unit})
        rows[-1] |= {"data_sheet": sheet}
        task.write(
            rows,
            config=facts,
            note="Medians on random data; copies count bytes read and written, sent bytes once.",
            complete=len(rows) == len(measurements),
            data_sheet="NVIDIA's data sheets: dense bf16 products with float32 sums",
        )


def describe(device: torch.device) -> dict[str, Any]:
    """Name, memory, driver and versions of a device, as plain values."""
    facts = {
        "name": device.type,
        "memory_gib": round(memory_of(device) / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "driver": ask_driver(device, "driver_version"),
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        }
    return facts


def ask_driver(device: torch.device, what: str) -> str:
    """An entry of `nvidia-smi --help-query-gpu` for a GPU; "not known" without that program."""
    try:
        done = subprocess.run(
            _question(device, what), capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return done.stdout.strip() or "not known"


def _question(device: torch.device, what: str, *more: str) -> list[str]:
    # CUDA's numbers need not be those of the driver; the identifier is the same.
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return ["nvidia-smi", "-i", name, f"--query-gpu={what}", "--format=csv,noheader,nounits", *more]


class Watts:
    """Power of a GPU inside `with Watts(device) as watts:`, asked for ten times a second; then `watts.median`.

    `median` is None where it cannot be measured: on a CPU, without `nvidia-smi`, or where the driver does not say.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.median = device, None

    def __enter__(self) -> Watts:
        self._asking = None
        if self.device.type == "cuda":
            command = _question(self.device, "power.draw", "-lms", "100")
            try:
                self._asking = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            except OSError:
                pass
        return self

    def __exit__(self, *error: object) -> None:
        if self._asking is None:
            return
        self._asking.terminate()
        lines = self._asking.communicate()[0].split()
        samples = [float(line) for line in lines if line.replace(".", "", 1).isdigit()]
        # Half of the samples and more were taken under load: the first ones fall into the warm-up.
        self.median = statistics.median(samples) if samples else None
