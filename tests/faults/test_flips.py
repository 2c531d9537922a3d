"""A small part of the sweep of flipped bits and zeroed blocks: none goes unnoticed, none ends in a raw error."""

from __future__ import annotations

import pytest

from tests.faults import flips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flips")


@pytest.mark.parametrize("number", range(3))
def test_damage_is_refused_or_touches_nothing(folder, number):
    path, load = list(flips.targets(folder).values())[number]
    endings = flips.sweep(path, load, n_flips=40, n_blocks=5)
    assert endings[flips.CHANGED] == endings[flips.RAW] == 0
    assert endings[flips.REFUSED] > 30


def test_the_sweep_sees_damage_that_a_loader_lets_pass(folder):
    path = next(iter(flips.targets(folder).values()))[0]
    endings = flips.sweep(path, lambda path: path.read_bytes(), n_flips=5, n_blocks=0)
    assert endings == {flips.CHANGED: 5}
