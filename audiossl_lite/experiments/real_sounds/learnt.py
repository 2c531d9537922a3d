"""Stages "learnt": a method is pretrained on the sounds of the run for as long as its share allows, then scored.

The number of steps is measured and chosen once, at the first call, and kept in the stage's folder: a stage that was
cut goes on where it was, with the same schedule. Scores are few-shot accuracies of all tasks of the corpus, along the
run (accuracy against compute) and at its end.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audiossl_lite.data.joined import read_corpus, waveforms_of
from audiossl_lite.data.resident import Joined
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.encoders.decoders import GlobalDecoder
from audiossl_lite.experiments.real_sounds.recipes import (
    Recipe,
    encoder_path,
    make_recipe,
    way_to_compile,
    with_steps,
)
from audiossl_lite.experiments.real_sounds.scores import (
    START,
    TaskScores,
    embed_network,
    load_scores,
)
from audiossl_lite.experiments.real_sounds.sounds import described
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.experiments.records import record_row
from audiossl_lite.methods import MAE
from audiossl_lite.pretrained.shipped import save_encoder
from audiossl_lite.training import (
    Compute,
    forget_checkpoints,
    load_checkpoint,
    save_checkpoint,
    train,
)

POINTS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the steps: where the encoder is scored
KEPT_BACK = 0.15  # of the stage's time, for scores and files
MOST_SCORING = 0.3  # of the stage's time: above it only the last encoder is scored
# Of the steps that fit by the first measured ones, where others share the card: it may become fuller.
IN_COMPANY = 0.7
MEASURED_STEPS = 60  # a third of them warms up
# At toy size the device is a CPU with a few seconds.
TOY_STEPS, TOY_MEASURED_STEPS, TOY_POINTS = 8, 5, (1 / 2, 1.0)
SHOWN_ROWS = 200  # of the history, in the record
FILE_BYTES = 16 * 2**20  # a larger encoder stays in the stage's folder
AT_HAND = Compute(prefetch=0)  # the clips are on the device: nothing is read ahead
# The job whose timed step says what to compile, where it is not called as the method is.
TIMED_BY = {"atst": "atst_small", "cnn": "byola"}
COMPANY = (
    "Other stages ran on the same card meanwhile, since steps of small encoders wait for their host; seconds are those "
    "of the shared card."
)
LICENCE = "that of the sounds it heard; part of the workshop corpus is for non-commercial use only"

Scored = dict[str, dict[str, np.ndarray]]  # (1, episodes) by name of the network and column


def run(task: Task) -> None:
    """Train the method that the stage's options name, score it and write its encoder; see the module.

    Options: `method` (a key of `recipes.METHODS`), `seed`, any setting of its preset (`mixing`, `encoder`), `like`
    (a stage whose steps and sizes are taken over), `points` (shares of the preset's steps at which the encoder is
    scored; without them both are chosen by time), `start` (the stage whose encoder is tuned).
    Raises RuntimeError without the sounds of the run, and what `train` raises.
    """
    options = {"seed": 0} | task.stage.options
    corpus = read_corpus(task.out / "sounds")
    if corpus is None:
        raise RuntimeError(f"no sounds in {task.out}; the stage 'sounds' decodes them first")
    scores = load_scores(task.out / "sounds" / "scores.pt")
    recipe = make_recipe(options, corpus, task.out, task.device, toy=task.toy)
    clips = waveforms_of(corpus, task.device, scores.used)
    stage = _Stage(task, options, recipe, scores, clips, described(corpus), corpus.key)
    stage.run()


@dataclass
class _Stage:
    """One call of a stage: what it knows, and its steps in order."""

    task: Task
    options: dict[str, Any]
    recipe: Recipe
    scores: TaskScores
    clips: Joined
    data: str
    fingerprint: str
    scored: dict[int, Scored] = field(default_factory=dict)  # by step
    curve: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> None:
        """Plan, train from point to point with scores at each, write."""
        plan = self.plan()
        config = replace(self.recipe.config, **plan["config"])
        self.score(0, self.recipe.starts(config))
        self.write(plan, config, complete=False)
        if self.recipe.before:
            self.recipe.before(config, self.task.folder)
        parts = self.recipe.parts(config)
        method = parts.method
        for point in plan["points"]:
            result = train(
                method,
                parts.views,
                self.recipe.source,
                parts.config,
                device=self.task.device.type,
                output_dir=self.task.folder / "run",
                description=self.recipe.title,
                stop_after=point,
                compute=replace(AT_HAND, compile=plan.get("compile", "none")),
            )
            if result.started_at > point and not self._scores_path(point).is_file():
                continue  # a run that was cut has gone past this point
            networks = dict(method.encoders) if point == config.steps else dict(
                [next(iter(method.encoders.items()))]
            )  # fmt: skip
            kept, *others = networks
            names = {kept: self.recipe.title} | {o: f"{self.recipe.title}, {o}" for o in others}
            self.score(point, {names[key]: networks[key] for key in networks})
            self.curve.append(self._on_curve(point, result))
            if point == config.steps:
                self.save(method, config)
            self.write(plan, config, result=result, complete=point == config.steps)
        for folder in self.task.folder.glob("*/"):
            forget_checkpoints(folder)

    def plan(self) -> dict[str, Any]:
        """Settings and points of the run, chosen by what a step takes; read where an earlier call chose them."""
        path = self.task.folder / "plan.json"
        if path.is_file():
            return json.loads(path.read_text())
        if "like" in self.options:
            return self._keep(path, self._like(self._plan_of(self.options["like"])))
        config = self.recipe.config
        if shares := self.options.get("points"):
            points = sorted({max(round(share * config.steps), 1) for share in shares})
            return self._keep(path, {"config": asdict(config), "points": points})
        scoring_s = self._seconds_of_scoring(config)
        shares = TOY_POINTS if self.task.toy else POINTS
        if scoring_s * len(shares) > MOST_SCORING * self.task.left():
            shares = (1.0,)
        # A point costs its scores and a checkpoint; the last one also the student's scores.
        after_s = 1.2 * scoring_s * (len(shares) + 1) + len(shares)
        kept_back_s = max(KEPT_BACK * self.task.seconds, after_s)
        step_s = self.seconds_per_step(config)
        steps = int((self.task.left() - kept_back_s) / step_s)
        epochs = steps * config.batch_size / len(self.recipe.source)
        measured = {"encoder": {"step_s": step_s, "epochs": round(epochs, 1)}}
        compile, step_s = self._program(config, step_s)
        share = IN_COMPANY if self.task.together > 1 else 1.0
        steps = max(int(share * (self.task.left() - kept_back_s) / step_s), 0)
        chosen = with_steps(config, min(steps, TOY_STEPS) if self.task.toy else steps)
        plan = {
            "config": asdict(chosen),
            "points": sorted({max(round(share * chosen.steps), 1) for share in shares}),
            "compile": compile,
            "measured": measured,
            "together": self.task.together,
            "scoring_s": round(scoring_s, 2),
            "share_s": round(self.task.seconds, 1),
        }
        return self._keep(path, plan)

    def _plan_of(self, stage: str) -> dict[str, Any]:
        """The plan of another stage, which may just be making it; RuntimeError when it makes none in half our time."""
        path = self.task.out / "stages" / stage / "plan.json"
        while not path.is_file():
            if self.task.left() < 0.5 * self.task.seconds:
                raise RuntimeError(f"{stage} has made no plan of its steps; run that stage first")
            time.sleep(0.2)
        return json.loads(path.read_text())

    def _like(self, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan of another stage, with the settings that this stage's options name."""
        own = {k: v for k, v in self.options.items() if k in plan["config"] and k != "method"}
        return plan | {"config": plan["config"] | own}

    @staticmethod
    def _keep(path: Path, plan: dict[str, Any]) -> dict[str, Any]:
        write_whole(path, json.dumps(plan, indent=1).encode())
        return plan

    def _seconds_of_scoring(self, config: Any) -> float:
        """Seconds that the scores of one network take, from those of the start."""
        self._scores_path(0).unlink(missing_ok=True)  # of a call that ended before it had a plan
        starts = self.recipe.starts(config)
        began = time.monotonic()
        self.score(0, starts)
        return (time.monotonic() - began) / len(starts)

    def _program(self, config: Any, step_s: float) -> tuple[str, float]:
        """What to compile, and the seconds of a step then; "none" and `step_s` where a program is not faster."""
        method = self.options["method"]
        record = self.task.record_of(f"fast_{TIMED_BY.get(method, method)}", partly=True)
        compile = "none" if self.task.toy else way_to_compile(record, self.task.left())
        if compile == "none":
            return compile, step_s
        try:
            faster_s = self.seconds_per_step(config, compile)
        except Exception as error:
            print(f"{compile} cannot be compiled, so nothing is: {type(error).__name__}: {error}")
            return "none", step_s
        return (compile, faster_s) if faster_s < step_s else ("none", step_s)

    def seconds_per_step(self, config: Any, compile: str = "none") -> float:
        """Seconds of a training step, from a few that are thrown away; what logged steps monitor hardly counts."""
        n_steps = TOY_MEASURED_STEPS if self.task.toy else MEASURED_STEPS
        parts = self.recipe.parts(config)
        settings = replace(  # the steps of the run, but nothing is learned and nothing can go wrong
            parts.config, learning_rate=0.0, final_learning_rate=0.0,
            on_collapse="continue", log_every=max(n_steps // 3, 1), save_every=10**9, steps=10**6, warmup_steps=0,
        )  # fmt: skip
        rows = train(
            parts.method,
            parts.views,
            self.recipe.source,
            settings,
            device=self.task.device.type,
            description="measuring",
            compute=replace(AT_HAND, compile=compile),
            stop_after=n_steps,
        ).history  # step 1 and every third part
        first, last = rows[1], rows[-1]
        return max((last["seconds"] - first["seconds"]) / (last["step"] - first["step"]), 1e-6)

    def _scores_path(self, step: int) -> Path:
        return self.task.folder / f"scores_{step}.pt"

    def score(self, step: int, networks: dict[str, nn.Module]) -> None:
        """Scores of the networks at a step, computed once."""
        path = self._scores_path(step)
        if not path.is_file():
            found = {}
            for name, encoder in networks.items():
                encoder.to(self.task.device)
                frontend, chunk_frames = self.recipe.frontend, self.recipe.chunk_frames
                features = embed_network(encoder, frontend, self.clips, chunk_frames)
                by_column = self.scores.of(features)
                found[name] = {c: torch.from_numpy(v) for c, v in by_column.items()}
            save_checkpoint(path, found)
        self.scored[step] = {
            name: {c: v.numpy() for c, v in row.items()}
            for name, row in load_checkpoint(path).items()
        }

    def _on_curve(self, point: int, result: Any) -> dict[str, float]:
        """A point of accuracy against compute: step, seconds of training, mean of each column."""
        seconds = [r["seconds"] for r in result.history if "seconds" in r and r["step"] <= point]
        means = {c: float(v.mean()) for c, v in self.scored[point][self.recipe.title].items()}
        return {"step": point, "seconds": seconds[-1] if seconds else 0.0, **means}

    def save(self, method: nn.Module, config: Any) -> None:
        """Write the encoder into the stage's folder, of AudioMAE with its decoder, and a copy if it is small enough."""
        whole = isinstance(method, MAE) and isinstance(method.decoder, GlobalDecoder)
        path = encoder_path(self.task.out, self.task.stage.name)
        about = {
            "method": self.recipe.title,
            "data": self.data,
            "licence": LICENCE,
            "steps": config.steps,
            "seed": self.options["seed"],
            "record": f"gpu_{self.task.stage.name}",
        }
        save_encoder(
            path, next(iter(method.encoders.values())), self.recipe.frontend,
            maker=self.recipe.maker, options=self.recipe.options, about=about,
            chunk_frames=self.recipe.chunk_frames, bits=16,
            mae=method if whole else None,
        )  # fmt: skip
        if path.stat().st_size < FILE_BYTES:
            copies = self.task.out / "encoders"
            copies.mkdir(exist_ok=True)
            shutil.copy(path, copies / f"{self.task.stage.name}.safetensors")

    def write(self, plan: dict, config: Any, *, result: Any = None, complete: bool) -> None:
        """The record: baselines, starts, and the encoder at its last point with its curve."""
        rows = dict(self.scores.baselines) | self.scored[0]
        if self.curve:
            rows |= self.scored[self.curve[-1]["step"]]
        values = [record_row(name, row, self.scores.baselines[START]) for name, row in rows.items()]
        for row in values:
            if row["name"] == self.recipe.title:
                row["curve"] = self.curve
        history = result.history if result else []
        seconds = result.seconds if result else 0.0
        path = encoder_path(self.task.out, self.task.stage.name)
        clips_seen = (self.curve[-1]["step"] if self.curve else 0) * getattr(
            config, "batch_size", 0
        )
        self.task.write(
            values,
            config=asdict(config) | {"ways": self.scores.ways(), "options": self.options},
            data=self.data,
            data_fingerprint=self.fingerprint,
            seeds=[self.options["seed"]],
            complete=complete,
            headline=self._headline(rows),
            note=COMPANY if self.task.together > 1 else "",
            training={
                "seconds": round(seconds, 1),
                "steps": self.curve[-1]["step"] if self.curve else 0,
                "of_steps": config.steps,
                "clips": len(self.recipe.source),
                "epochs": round(clips_seen / len(self.recipe.source), 1),
                "plan": {k: v for k, v in plan.items() if k != "config"},
            },
            encoder={
                "maker": self.recipe.maker,
                "options": self.recipe.options,
                "chunk_frames": self.recipe.chunk_frames,
                "bytes": path.stat().st_size if complete and path.is_file() else None,
            },
            history=thinned(history),
        )

    def _headline(self, rows: Scored) -> str:
        """The first column of what was never heard: the trained encoder beside its start and the first baseline."""
        column = next(
            (c for c in rows[START] if c.endswith("never heard")), next(iter(rows[START]))
        )
        names = [self.recipe.title, list(self.scored[0])[-1], START]
        shown = [f"{name} {rows[name][column].mean():.1f}" for name in names if name in rows]
        steps = f", {self.curve[-1]['step']} steps" if self.curve else ""
        return f"{column}: {', '.join(shown)}{steps}"


def thinned(history: list[dict]) -> list[dict]:
    """At most `SHOWN_ROWS` lines of a history, evenly spaced, with the first and the last."""
    n_rows = min(len(history), SHOWN_ROWS)
    return [history[i] for i in np.linspace(0, len(history) - 1, n_rows).round().astype(int)]
