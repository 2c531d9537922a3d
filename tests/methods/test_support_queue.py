"""The support queue: what it holds, whom it finds, whom it must not find."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.methods.support_queue import SupportQueue


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(size: int = 6, dim: int = 4, seed: int = 0) -> SupportQueue:
    """A queue full of clips 0 .. size - 1."""
    queue = SupportQueue(size, dim, generator=seeded(seed))
    queue.push(torch.randn(size, dim, generator=seeded(seed + 1)), torch.arange(size))
    return queue


NOBODY = torch.tensor([-7])


def test_the_queue_starts_with_seeded_unit_vectors_of_nobody():
    before = torch.random.get_rng_state()
    queue = SupportQueue(50, 8, generator=seeded(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(50))
    assert (queue.ids == -1).all() and queue.position == 0
    assert torch.equal(queue.vectors, SupportQueue(50, 8, generator=seeded(3)).vectors)
    assert not list(queue.parameters())


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(1, 12), max_size=8))
def test_first_in_first_out(size, batches):
    """Against a plain list: the newest `size` entries are there, whatever the batch sizes."""
    queue = SupportQueue(size, 3, generator=seeded(0))
    held = [(-1, v) for v in queue.vectors.clone()]
    clip = 0
    for n in (min(b, size) for b in batches):
        vectors = 5 * torch.randn(n, 3, generator=seeded(clip))
        queue.push(vectors, torch.arange(clip, clip + n))
        held = (held + [(clip + i, F.normalize(v, dim=0)) for i, v in enumerate(vectors)])[-size:]
        clip += n
        assert queue.position == clip % size
    order = [(int(queue.position) + i) % size for i in range(size)]  # oldest first
    assert queue.ids[order].tolist() == [i for i, _ in held]
    torch.testing.assert_close(queue.vectors[order], torch.stack([v for _, v in held]))
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(size))


def test_what_enters_is_a_copy_without_gradient():
    queue = SupportQueue(4, 3, generator=seeded(0))
    vectors = torch.randn(2, 3, generator=seeded(1), requires_grad=True)
    queue.push(vectors * 2, torch.tensor([1, 2]))
    held = queue.vectors.clone()
    with torch.no_grad():
        vectors.mul_(-1)
    assert torch.equal(queue.vectors, held) and not queue.vectors.requires_grad


def test_a_batch_longer_than_the_queue_is_refused_and_one_as_long_fills_it():
    queue = SupportQueue(4, 3, generator=seeded(0))
    before = queue.vectors.clone()
    with pytest.raises(ValueError, match="a batch of 5 does not fit a queue of 4"):
        queue.push(torch.randn(5, 3), torch.arange(5))
    assert torch.equal(queue.vectors, before) and queue.position == 0
    queue.push(torch.randn(4, 3), torch.arange(4))
    assert queue.ids.tolist() == [0, 1, 2, 3] and queue.position == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data(), b=st.integers(1, 5), size=st.integers(5, 20), seed=st.integers(0, 9999))
def test_the_neighbour_is_the_most_similar_entry_of_another_clip(data, b, size, seed):
    queue = SupportQueue(size, 6, generator=seeded(seed))
    clips = torch.randint(0, 5, (size,), generator=seeded(seed + 1))
    clips[:3] = torch.tensor([0, 1, 2])  # at most two of these are excluded
    queue.push(torch.randn(size, 6, generator=seeded(seed + 2)), clips)
    queries = 3 * torch.randn(b, 6, generator=seeded(seed + 3))
    exclude = torch.tensor([[data.draw(st.integers(0, 6)) for _ in range(2)] for _ in range(b)])
    found = queue.neighbours(queries, exclude)
    for i in range(b):
        scores = [
            (torch.dot(F.normalize(queries[i], dim=0), v).item(), j)
            for j, v in enumerate(queue.vectors)
            if int(clips[j]) not in exclude[i].tolist()
        ]
        torch.testing.assert_close(found[i], queue.vectors[max(scores)[1]])
    assert not found.requires_grad


def test_own_clips_are_never_found_even_when_they_fit_best():
    queue = filled()
    queries = queue.vectors.clone()
    assert torch.equal(queue.neighbours(queries, NOBODY.expand(6)), queries)
    alone = queue.neighbours(queries, torch.arange(6))
    assert not (alone == queries).all(1).any()
    # a mixture of clips i and j must find neither of the two
    partners = torch.arange(5, -1, -1)
    both = queue.neighbours(queries, torch.stack([torch.arange(6), partners], 1))
    for i in range(6):
        owner = int((queue.vectors == both[i]).all(1).nonzero())
        assert owner not in (i, 5 - i)


def test_one_of_the_k_nearest_is_drawn_evenly_and_none_other():
    queue = filled(20, 5)
    query = torch.randn(1, 5, generator=seeded(9))
    nearest = (F.normalize(query, dim=1) @ queue.vectors.T)[0].argsort(descending=True)
    own = int(nearest[1])  # the second best is the clip's own past
    allowed = [int(i) for i in nearest if int(i) != own][:4]
    found = queue.neighbours(
        query.expand(4000, -1), torch.full((4000,), own), k=4, generator=seeded(0)
    )
    owners = (found[:, None] == queue.vectors[None]).all(2).long().argmax(1)
    shares = torch.bincount(owners, minlength=20) / 4000
    assert sorted(shares.nonzero().flatten().tolist()) == sorted(allowed)
    assert (shares[allowed] - 0.25).abs().max() < 0.03


def test_with_fewer_than_k_allowed_only_allowed_entries_are_drawn():
    queue = SupportQueue(6, 4, generator=seeded(0))
    queue.push(torch.randn(6, 4, generator=seeded(1)), torch.tensor([1, 1, 2, 1, 1, 2]))
    query = queue.vectors[:1].expand(500, -1)
    found = queue.neighbours(query, torch.ones(500, dtype=torch.long), k=5, generator=seeded(2))
    owners = (found[:, None] == queue.vectors[None]).all(2).long().argmax(1)
    assert set(owners.tolist()) == {2, 5}


def test_when_every_entry_is_excluded_there_is_no_neighbour_and_the_error_says_so():
    queue = SupportQueue(4, 3, generator=seeded(0))
    queue.push(torch.randn(4, 3, generator=seeded(1)), torch.tensor([1, 2, 1, 2]))
    queries = torch.randn(2, 3, generator=seeded(2))
    for k in (1, 2):
        with pytest.raises(ValueError, match="all 4 entries .* must not be found; make the queue"):
            queue.neighbours(queries, torch.tensor([[1, 2], [3, 4]]), k=k)
    assert queue.neighbours(queries, torch.tensor([[1, 3], [3, 4]])).shape == (2, 3)


@pytest.mark.parametrize("k", [0, 5, -1])
def test_k_beyond_the_queue_is_refused(k):
    with pytest.raises(ValueError, match="k lies between 1 and the queue length 4"):
        SupportQueue(4, 3, generator=seeded(0)).neighbours(torch.randn(1, 3), NOBODY, k=k)


@pytest.mark.parametrize(("size", "dim"), [(0, 3), (3, 0), (-1, 3)])
def test_an_empty_queue_is_refused(size, dim):
    with pytest.raises(ValueError, match="must be positive"):
        SupportQueue(size, dim)


def test_the_same_seed_finds_the_same_neighbours():
    queue, queries = filled(30, 4), torch.randn(40, 4, generator=seeded(5))
    exclude, before = NOBODY.expand(40), torch.random.get_rng_state()
    one, two, other = (
        queue.neighbours(queries, exclude, k=5, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_state_of_a_half_filled_queue_goes_on_where_it_was():
    queue = SupportQueue(5, 3, generator=seeded(0))
    queue.push(torch.randn(3, 3, generator=seeded(1)), torch.tensor([4, 5, 6]))
    copy = SupportQueue(5, 3, generator=seeded(8))
    copy.load_state_dict(queue.state_dict())
    for each in (queue, copy):
        each.push(torch.randn(4, 3, generator=seeded(2)), torch.tensor([7, 8, 9, 10]))
    for name, value in queue.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name
    assert queue.ids.tolist() == [9, 10, 6, 7, 8] and queue.position == 2
