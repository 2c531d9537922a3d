"""Ways of computing a step: the same loss and gradient, with less memory or in another precision."""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
import time
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.utils import counters

from audiossl_lite import encoders
from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder
from audiossl_lite.encoders.transformer import Block, in_parts
from audiossl_lite.encoders.windows import WindowBlock
from audiossl_lite.training import Compute
from audiossl_lite.training.run_folder import RunFolder
from audiossl_lite.training.sources import InMemory
from audiossl_lite.training.step import batches
from tests.training.parallel_run import METHODS, train_some
from tests.training.tiny_run import make_config, make_method, run

TRANSFORMERS = [name for name in METHODS if name != "BYOL-A"]


@pytest.fixture(scope="module")
def plain() -> dict[str, dict]:
    return {name: train_some(name) for name in METHODS}


def assert_same_run(ours: dict, plain: dict, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(
        torch.tensor(ours["losses"]), torch.tensor(plain["losses"]), rtol=rtol, atol=rtol
    )
    largest = max(float(g.abs().max()) for g in plain["gradients"])
    for mine, other in zip(ours["gradients"], plain["gradients"], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize(
    "compute", [Compute(n_parts=3), Compute(recompute=True)], ids=["parts", "recompute"]
)
def test_saving_memory_changes_neither_loss_nor_gradient(name, compute, plain):
    assert_same_run(train_some(name, compute=compute), plain[name])


def activation_bytes(function) -> int:
    """Bytes that autograd keeps for the backward pass of `function()`, every storage once."""
    kept: dict[int, int] = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = function()
    assert out.requires_grad
    return sum(kept.values())


def test_saving_memory_saves_memory():
    torch.manual_seed(0)
    blocks = nn.Sequential(*[Block(32, 2) for _ in range(4)])
    x = torch.randn(12, 20, 32, requires_grad=True)
    whole = activation_bytes(lambda: blocks(x))
    assert activation_bytes(lambda: in_parts(blocks, 4, x)) < 0.2 * whole
    for block in blocks:
        block.recompute = True
    assert activation_bytes(lambda: blocks(x)) < 0.2 * whole


def test_parts_of_unequal_size_keep_order_and_gradient():
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 3), torch.randn(7, 4, requires_grad=True)
    lengths = torch.arange(7)

    def scaled(rows, counts):
        return linear(rows) * counts[:, None]

    out = in_parts(scaled, 3, x, lengths)
    torch.testing.assert_close(out, scaled(x, lengths))
    (mine,) = torch.autograd.grad(out.square().sum(), x)
    (other,) = torch.autograd.grad(scaled(x, lengths).square().sum(), x)
    torch.testing.assert_close(mine, other)
    assert in_parts(lambda rows, none: linear(rows), 2, x, None).shape == (7, 3)


def test_an_encoder_with_batch_norm_takes_no_parts():
    with pytest.raises(ValueError, match="has batch norm.*n_parts must be 1, got 2"):
        train_some("BYOL-A", compute=Compute(n_parts=2))
    with pytest.raises(ValueError, match="n_parts must be between 1 and 65,536, got 0"):
        Compute(n_parts=0)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_bfloat16_stays_near_float32(name, plain):
    """8 significant bits in products, float32 weights and losses: 2 % of the loss, and the same direction.

    In uaMix-MAE another entry of the queue may come out as the nearest: then the direction differs more. The third
    step is not compared: after two steps of unlike gradients the runs have weights of their own.
    """
    half = train_some(name, precision="bf16-mixed")
    losses, exact = (torch.tensor(out["losses"][:2]) for out in (half, plain[name]))
    torch.testing.assert_close(losses, exact, rtol=2e-2, atol=2e-2)
    mine, other = (
        torch.cat([g.flatten() for g in out["gradients"]]) for out in (half, plain[name])
    )
    least = 0.85 if name.startswith("uaMix") else 0.98
    assert torch.cosine_similarity(mine, other, dim=0) > least
    assert all(v.dtype != torch.bfloat16 for v in half["state"].values())


@pytest.fixture
def two_blocks(monkeypatch):
    """Every transformer has two blocks: to capture one takes longer than to train it."""
    for name, kind in (("atst_tiny", ATSTEncoder), ("audiomae_tiny", AudioMAEEncoder)):
        monkeypatch.setattr(encoders, name, partial(kind, 64, 2, 2))


def test_compiled_blocks_give_the_same_run(two_blocks, monkeypatch):
    """Captured as graphs and run without a code generator, which would need a compiler and minutes."""
    compiled = []

    def capture(block, options):
        compiled.append(block)
        return block.__class__.__mro__[1].compile(block, backend="aot_eager")

    monkeypatch.setattr(Block, "compile", capture)
    assert_same_run(train_some("ATST", compute=Compute(compile="blocks")), train_some("ATST"))
    assert len(compiled) == 4  # two blocks of the student, two of the teacher


@pytest.mark.parametrize("name", METHODS)
def test_a_compiled_step_is_one_program_and_gives_the_same_run(name, two_blocks, monkeypatch):
    """Captured from views to loss without a break; run without a code generator, as above."""
    programs, compile = [], torch.compile

    def backend(graph, inputs):
        programs.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    def capture(function, options):
        return compile(function, backend=backend, fullgraph=True)

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", capture)
    assert_same_run(train_some(name, compute=Compute(compile="step")), train_some(name))
    assert len(programs) == 1


def test_what_is_compiled_can_be_chosen_again_and_copied():
    method = make_method()
    Compute(compile="step").apply(method)
    other = copy.deepcopy(method)
    assert other.loss.__self__ is other and method.loss.__self__ is method
    Compute().apply(method)
    assert method.loss.__func__ is type(method).loss
    block = Block(8, 2)
    Compute(compile="blocks").apply(block)
    assert block._compiled_call_impl is not None
    Compute().apply(block)
    assert block._compiled_call_impl is None
    with pytest.raises(ValueError, match="Block has no `loss`, which compile='step' compiles"):
        Compute(compile="step").apply(block)
    with pytest.raises(ValueError, match="compile is one of none, blocks, step, got 'all'"):
        Compute(compile="all")


@pytest.mark.slow
def test_a_program_draws_what_the_plain_code_draws():
    """Dropped paths, dropout and the blocks around them, by the code generator that a run takes."""
    torch.manual_seed(0)
    blocks = nn.Sequential(*(Block(8, 2, drop_path=0.05 * n) for n in range(10)), nn.Dropout(0.3))
    x = torch.randn(6, 4, 8)

    def out():
        torch.manual_seed(1)
        return blocks.train()(x)

    expected = out()
    torch.compiler.reset()
    counters.clear()
    Compute(compile="blocks").apply(blocks)
    torch.testing.assert_close(out(), expected)
    assert counters["stats"]["unique_graphs"] <= 3, (
        "one program for all that drop, one that does not"
    )


def test_settings_of_compute_do_not_make_another_run(tmp_path):
    """A run can go on with other memory settings: they are not part of its identity."""
    whole = train_some("ATST", output_dir=tmp_path / "a")
    train_some("ATST", output_dir=tmp_path / "b", stop_after=1)
    resumed = train_some(
        "ATST", output_dir=tmp_path / "b", compute=Compute(n_parts=2, recompute=True)
    )
    torch.testing.assert_close(
        torch.tensor(resumed["losses"]), torch.tensor(whole["losses"]), rtol=1e-4, atol=1e-4
    )


def test_monitors_are_computed_where_the_history_shows_them():
    method, seen = make_method(), []
    method.register_forward_hook(lambda module, _, out: seen.append(sorted(out)))
    result = run(method=method, config=make_config(log_every=5))
    logged = {row["step"] for row in result.history}
    for step, names in enumerate(seen, start=1):
        assert (names != ["loss"]) == (step in logged)


# The folder of a run


def test_a_second_writer_is_refused_and_named(tmp_path):
    log = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match=f"process {os.getpid()} is training into"):
        RunFolder(tmp_path)
    log.close()
    RunFolder(tmp_path).close()


def test_the_lock_of_a_killed_process_does_not_stay(tmp_path):
    fork = multiprocessing.get_context("fork")
    locked = fork.Event()

    def hold():
        _log = RunFolder(tmp_path)
        locked.set()
        time.sleep(60)

    child = fork.Process(target=hold, daemon=True)
    child.start()
    assert locked.wait(60)
    with pytest.raises(RuntimeError, match=f"process {child.pid} is training"):
        run(tmp_path)
    (tmp_path / ".last.pt.999.part").write_bytes(b"half a checkpoint")
    child.kill()
    child.join()
    assert run(tmp_path).history[-1]["step"] == 23
    assert not list(tmp_path.glob(".last.pt.*.part"))


def test_an_error_gives_the_folder_free(tmp_path):
    with pytest.raises(ValueError, match="two clips"):
        run(tmp_path, data=torch.zeros(1, 30, 8))
    method = make_method()
    method.forward = lambda *views, monitors: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, method=method)
    assert run(tmp_path).history[-1]["step"] == 23


# Reading ahead


class Source:
    """Clips that the background thread reads; it notes what was asked of it, and clip 5 cannot be read."""

    def __init__(self, data: torch.Tensor, *, broken: bool = True) -> None:
        self.inner, self.broken = InMemory(data), broken
        self.lengths = self.inner.lengths
        self.asked: list[list[int]] = []
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices, device):
        self.asked.append(indices.tolist())
        self.threads.add(threading.current_thread().name)
        if self.broken and 5 in indices.tolist():
            raise OSError("clip 5 cannot be read")
        return self.inner.batch(indices, device)

    def digest(self) -> str:
        return self.inner.digest()


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_batches_come_in_order_read_ahead(ahead):
    source = Source(torch.arange(20.0).view(10, 2))
    steps = [[0, 1], [2, 3], [6, 7], [8, 9]]
    feed = batches(source, torch.device("cpu"), range(4), lambda s: torch.tensor(steps[s]), ahead)
    first = next(feed)
    assert first[2].tolist() == [0, 1]
    wanted, deadline = min(1 + ahead, 4), time.monotonic() + 20
    while len(source.asked) < wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.asked[:wanted] == steps[:wanted]
    assert [ids.tolist() for _, _, ids in feed] == steps[1:]
    assert source.asked == steps
    assert (threading.current_thread().name in source.threads) == (ahead == 0)


def test_an_unreadable_clip_stops_at_its_own_step():
    source = Source(torch.arange(20.0).view(10, 2))
    steps = [[0, 1], [2, 3], [4, 5], [6, 7]]
    feed = batches(source, torch.device("cpu"), range(4), lambda s: torch.tensor(steps[s]), 2)
    assert [next(feed)[2].tolist() for _ in range(2)] == steps[:2]
    with pytest.raises(OSError, match="clip 5"):
        next(feed)


def test_a_source_trains_as_its_tensor_does():
    data = torch.randn(40, 30, 8, generator=torch.Generator().manual_seed(11))
    plain, fed = run(data=data), run(data=Source(data, broken=False))
    for a, b in zip(plain.method.parameters(), fed.method.parameters(), strict=True):
        assert torch.equal(a, b)


def test_processes_are_counted_by_torchrun_alone(monkeypatch):
    """A WORLD_SIZE that some scheduler left behind starts no process group."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert run().history[-1]["step"] == 23


def test_compiled_window_blocks_are_compiled_in_two_programs():
    """With and without a shift: the sixteen blocks of AudioMAE's decoder share them."""
    decoder = nn.Sequential(
        *(WindowBlock(32, 2, columns=4, shift_time=2 * (n % 2)) for n in range(6))
    ).eval()
    x, programs = torch.randn(2, 8 * 4, 32), []
    expected = decoder(x)

    def backend(graph, inputs):
        programs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowBlock, "compile", lambda block, options: compiled.append(block))
        Compute(compile="blocks").apply(decoder)
    assert compiled == list(decoder)
    for block in decoder:
        block.compile(backend=backend)
    torch.testing.assert_close(decoder(x), expected)
    torch.compiler.reset()
    assert len(programs) <= 3  # the first sees an input without gradient
