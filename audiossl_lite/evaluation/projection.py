"""Features in the plane (t-SNE), with the numbers that a picture hides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import held_out_classes
from audiossl_lite.evaluation.labelled import numbered
from audiossl_lite.evaluation.settings import Projection

COLUMNS = (
    "kNN accuracy, features",
    "kNN accuracy, plane",
    "silhouette x 100, features",
    "silhouette x 100, plane",
)


def choose_clips(clips: Clips, config: Projection) -> tuple[Clips, Tensor]:
    """The clips of a picture, and which of them are of classes never heard in training, bool `(n,)`.

    Classes are those that the settings name and the data has; others fill the empty places in alphabetical order,
    never-heard ones first until they are half of all. Of each, up to `config.clips_per_class` clips, from as many
    groups (recordings) as there are. A class of fewer than two groups has no neighbour to be found and is left out.
    Raises ValueError for fewer than two usable classes.

    Where: uaMix-MAE Sec. 4.4, Fig. 6; chapter 12
    """
    task = clips.task
    label, names = clips.labels[task], clips.class_names[task]
    group = clips.groups.get(task, torch.arange(len(clips)))
    present = label[label >= 0].unique().tolist()
    held = set(held_out_classes([names[i] for i in present])) if len(present) > 1 else set()
    usable = {names[i]: i for i in present if len(group[label == i].unique()) > 1}
    if len(usable) < 2:
        raise ValueError(
            f"a picture needs two classes of two recordings each; task {task!r} has {len(usable)} of {len(present)}"
        )
    named = [name for name in config.classes if name in usable]
    never, heard = (
        [n for n in sorted(set(usable) - set(named)) if (n in held) == h] for h in (True, False)
    )
    room = max(0, len(config.classes) // 2 - len(held & set(named)))
    chosen = (named + never[:room] + heard + never[room:])[: len(config.classes)]
    taken = []
    for name in chosen:
        seen: Counter[int] = Counter()
        turns = []  # how many clips of the same recording came before
        for i in (label == usable[name]).nonzero().flatten().tolist():
            turns.append((seen[int(group[i])], i))
            seen[int(group[i])] += 1
        taken += [i for _, i in sorted(turns)[: config.clips_per_class]]
    part = clips.subset(sorted(taken))
    return part, torch.tensor([names[i] in held for i in part.labels[task].tolist()])


@dataclass(frozen=True)
class Plane:
    """One t-SNE picture: `points (n, 2)`, the perplexity that was used, its seed, and the divergence it ended with."""

    points: Tensor
    perplexity: float
    seed: int
    divergence: float


def tsne(
    features: Tensor,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    iterations: int = 1000,
    init: str = "random",
) -> Plane:
    """t-SNE of `features (n, D)` in the plane, by scikit-learn; the same seed gives the same picture.

    `init="random"`: every seed starts elsewhere and ends in another picture; `"pca"`: from the first two principal
    components, whatever the seed. A perplexity of more than (n - 1) / 3 neighbours is lowered to that.
    Raises ValueError for fewer than four clips, or features that are not finite or all the same.

    Where: uaMix-MAE Fig. 6; chapter 12
    """
    from sklearn.manifold import TSNE  # two seconds, for those who need it
    from threadpoolctl import threadpool_limits

    features = _checked(features)
    if len(features) < 4:
        raise ValueError(f"t-SNE needs at least four clips, got {len(features)}")
    if features.shape[1] < 2 or bool((features == features[0]).all()):
        raise ValueError("t-SNE needs two dimensions or more, and clips that differ")
    used = float(min(perplexity, (len(features) - 1) / 3))
    model = TSNE(2, perplexity=used, init=init, random_state=seed, max_iter=iterations, n_jobs=1)
    with threadpool_limits(1):  # on so little work, threads wait for each other most of the time
        points = model.fit_transform(features.numpy())
    return Plane(torch.from_numpy(points).float(), used, seed, float(model.kl_divergence_))


def silhouettes(points: Tensor, labels: Tensor | Sequence) -> Tensor:
    """(b - a) / max(a, b) of each clip: a, b the mean distances to its own and to the nearest other class; `(n,)`.

    From -1 to 1; above 0 a clip is nearer to its own class. `points (n, D)`, `labels (n,)`. Raises ValueError for
    fewer than two classes, or as many classes as clips.
    """
    from sklearn.metrics import silhouette_samples

    return torch.from_numpy(silhouette_samples(_checked(points).numpy(), numbered(labels)))


def silhouette(points: Tensor, labels: Tensor | Sequence) -> float:
    """Mean of `silhouettes` over clips."""
    return float(silhouettes(points, labels).mean())


def knn_hits(
    points: Tensor,
    labels: Tensor | Sequence,
    *,
    k: int = 5,
    groups: Tensor | Sequence | None = None,
) -> Tensor:
    """Whether the majority of its `k` nearest others has each clip right: `points (n, D)`, `labels (n,)` -> `(n,)`.

    A clip never votes for itself (leave-one-out), nor, with `groups (n,)`, does any clip of its group. Of classes with
    equally many votes, the one with the nearest neighbour wins. Raises ValueError naming the clips that have fewer than
    `k` others to ask.
    """
    points = _checked(points)
    labels = torch.from_numpy(numbered(labels))
    groups = torch.from_numpy(numbered(range(len(points)) if groups is None else groups))
    if labels.shape != (len(points),) or groups.shape != labels.shape or k < 1:
        raise ValueError(
            f"{len(points)} points need as many labels and groups, and k >= 1; "
            f"got {tuple(labels.shape)}, {tuple(groups.shape)}, {k}"
        )
    same = groups[:, None] == groups
    lonely = ((~same).sum(1) < k).nonzero().flatten().tolist()
    if lonely:
        raise ValueError(
            f"clips {lonely[:8]} have fewer than {k} clips of other groups to ask; lower k"
        )
    near = _neighbours(points, same)[:, :k]
    # A vote is one, and slightly more the nearer it comes from: only ties are decided by it.
    votes = 1.0 + 2.0 ** -torch.arange(1, k + 1, dtype=torch.float64) / (k + 1)
    tally = torch.zeros(len(points), int(labels.max()) + 1, dtype=torch.float64)
    tally.scatter_add_(1, labels[near], votes.expand(len(points), k).contiguous())
    return tally.argmax(1) == labels


def knn_accuracy(
    points: Tensor,
    labels: Tensor | Sequence,
    *,
    k: int = 5,
    groups: Tensor | Sequence | None = None,
) -> float:
    """Share of clips that `knn_hits` has right."""
    return float(knn_hits(points, labels, k=k, groups=groups).double().mean())


def shared_neighbours(a: Tensor, b: Tensor, k: int = 5) -> float:
    """Share of the `k` nearest others of a clip that two sets of points, `(n, D)` and `(n, E)`, agree on.

    1 when all neighbours are kept; about k / (n - 1) when the sets have nothing to do with each other. Raises
    ValueError for sets of other lengths, or fewer than k others.
    """
    a, b = _checked(a), _checked(b)
    if len(a) != len(b) or not 1 <= k < len(a):
        raise ValueError(f"needs equally many points, and 1 <= k < n, got {len(a)}, {len(b)}, {k}")
    itself = torch.eye(len(a), dtype=torch.bool)
    near, also = (_neighbours(points, itself)[:, :k] for points in (a, b))
    return int((near[:, :, None] == also[:, None]).sum()) / (k * len(a))


@dataclass(frozen=True)
class ProjectionReport:
    """`planes` by perplexity and seed, `rows` of numbers about each, and the same numbers of the features themselves.

    `by_clip`: the four `COLUMNS` in per cent for each clip `(n,)`, those of the plane averaged over all planes. `k`:
    neighbours that were asked.
    """

    planes: tuple[Plane, ...]
    rows: tuple[dict[str, Any], ...]
    silhouette: float
    knn_accuracy: float
    by_clip: dict[str, np.ndarray]
    k: int


def project(
    features: Tensor,
    labels: Tensor | Sequence,
    config: Projection,
    *,
    groups: Tensor | Sequence | None = None,
) -> ProjectionReport:
    """t-SNE of `features (n, D)` for all perplexities and seeds of the settings, with silhouette and kNN accuracy.

    `labels (n,)`, `groups (n,)`: see `knn_accuracy`. Perplexities that small data lower to the same value are run
    once, and `config.k` is lowered to the number of others that every clip can ask.
    """
    features = _checked(features)
    groups = numbered(range(len(features)) if groups is None else groups)
    k = max(1, min(config.k, len(features) - int(np.bincount(groups).max())))
    allowed = (len(features) - 1) / 3
    perplexities = dict.fromkeys(min(float(p), allowed) for p in config.perplexities)
    planes = [
        tsne(features, perplexity=p, seed=seed, iterations=config.iterations, init=config.init)
        for p in perplexities
        for seed in config.seeds
    ]
    places = (features, *(plane.points for plane in planes))
    hits = [knn_hits(x, labels, k=k, groups=groups).double().numpy() for x in places]
    widths = [silhouettes(x, labels).numpy() for x in places]
    rows = [
        {
            "perplexity": plane.perplexity,
            "seed": plane.seed,
            "divergence": plane.divergence,
            "silhouette": float(width.mean()),
            "knn_accuracy": float(hit.mean()),
            "shared": shared_neighbours(features, plane.points, k),
        }
        for plane, hit, width in zip(planes, hits[1:], widths[1:], strict=True)
    ]
    means = (hits[0], np.mean(hits[1:], 0), widths[0], np.mean(widths[1:], 0))
    return ProjectionReport(
        tuple(planes),
        tuple(rows),
        float(widths[0].mean()),
        float(hits[0].mean()),
        {column: 100.0 * values for column, values in zip(COLUMNS, means, strict=True)},
        k,
    )


def _neighbours(points: Tensor, left_out: Tensor) -> Tensor:
    """Indices of all clips from near to far, `(n, n)`; those left out come last."""
    points = points - points.mean(0)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.masked_fill(left_out, torch.inf).argsort(dim=1, stable=True)


def _checked(points: Tensor) -> Tensor:
    points = torch.as_tensor(np.asarray(points)) if not isinstance(points, Tensor) else points
    points = points.detach().cpu().double()
    if points.dim() != 2 or not len(points):
        raise ValueError(f"features are (clips, dim), got {tuple(points.shape)}")
    bad = (~torch.isfinite(points)).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"the features of clips {bad[:8]} hold NaN or infinite values")
    return points
