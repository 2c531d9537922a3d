"""The contrastive method: its loss, its one network, its absent teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiossl_lite.losses import info_nce
from audiossl_lite.methods import Contrastive


class TinyEncoder(nn.Module):
    embed_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 6)

    def forward(self, spec):
        return self.linear(spec.flatten(1))


@pytest.fixture
def method() -> Contrastive:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Contrastive(TinyEncoder(), hidden_dim=16, projection_dim=8, temperature=0.3)


def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 5, 4, generator=generator), torch.randn(7, 5, 4, generator=generator)


def test_the_loss_is_info_nce_of_jointly_projected_views(method):
    first, second = views()
    z = method.projector(method.encoder(torch.cat([first, second])))
    expected = info_nce(z[:7], z[7:], 0.3)
    torch.testing.assert_close(method(first, second)["loss"], expected)


def test_every_parameter_learns(method):
    method(*views())["loss"].backward()
    for name, p in method.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_there_is_no_teacher_to_update(method):
    before = [p.clone() for p in method.parameters()]
    method.update_teacher(0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
    assert list(method.encoders.values()) == [method.encoder]
