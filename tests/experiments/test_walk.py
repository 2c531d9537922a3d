"""Pin: a batch passes through few files of the package on its way from a packed store to the loss."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import audiossl_lite
from audiossl_lite.data.packing import pack
from audiossl_lite.experiments.jobs import default_frontend, make_parts
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.training import Compute, start_run, step_views
from audiossl_lite.training.compute import make_fabric
from audiossl_lite.training.step import batch_indices, batches
from tests.data.sounds import hum, put

PACKAGE = Path(audiossl_lite.__file__).parent
# Files at most: store, step, views and augmentations, method, encoder and its blocks, loss, devices; of AudioMAE
# also the decoder and the mean over processes, and of uaMix-MAE the crop, the mixing, the units of its frontend, what
# is valid of a padded clip, the queue and the joint batch.
MOST = {"atst_small": 9, "audiomae": 12, "uamix": 15}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sounds")
    for number in range(8):
        put(root / "ab"[number % 2] / f"{number}.wav", hum(2.0))
    return root


def files_called(work) -> set[str]:
    """Files of the package in which a function ran while `work()` did."""
    files = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents:
            files.add(path.relative_to(PACKAGE).as_posix())

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return files


@pytest.mark.parametrize("name", MOST)
def test_a_batch_reaches_its_loss_through_few_files(name, sounds, tmp_path):
    job = find_job(name)
    config = preset(job.experiment, "lite", {"n_mels": 128} if name == "audiomae" else {})
    frontend = AudioMAEFrontend(208) if job.step else default_frontend(job, config)
    store = pack(sounds, tmp_path / "store", kind=job.store, workers=0)
    parts = make_parts(job, config, frontend)
    run = start_run(
        make_fabric("cpu", "32-true"), parts.method, parts.views, parts.config, Compute()
    )

    def walk() -> None:
        feed = batches(store, torch.device("cpu"), range(1), lambda s: batch_indices(8, 8, s, 0), 0)
        clips, lengths, ids = next(feed)
        run.model(*step_views(run, 0, clips, lengths, ids), monitors=False)

    files = files_called(walk)
    assert {"data/store.py", "training/step.py", "losses.py"} < files
    assert len(files) <= MOST[name], sorted(files)
