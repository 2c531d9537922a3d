"""The front door: `python -m audiossl_lite COMMAND`, also installed as `audiossl-lite`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches

# What each command is for, the module whose `main` it calls, and one example.
COMMANDS = {
    "embed": ("a folder of recordings to a table of embeddings", "audiossl_lite.pretrained.embed",
              "embed RECORDINGS --model cnn_events --out embeddings.npz"),
    "few-shot": ("few-shot accuracy on a folder of classes, beside baselines",
                 "audiossl_lite.pretrained.few_shot", "few-shot RECORDINGS --model cnn_events"),
    "check": ("what an encoder does with padding, batches, silence, ...",
              "audiossl_lite.pretrained.check", "check cnn_events"),
    "run": ("run chapters as papermill does, strictly", "audiossl_lite.run",
            "run notebooks/05_atst.ipynb --preset lite -p seed=1"),
    "pack": ("decode a folder of sounds once, into a store", "audiossl_lite.data.pack",
             "pack AUDIO STORE --kind waveform"),
    "cost": ("what a job will take: hours, memory, disk", "audiossl_lite.experiments.cost",
             "cost notebooks/jobs/atst_small.yaml"),
    "pretrain": ("run a job from its file, also under torchrun", "audiossl_lite.experiments.pretrain",
                 "pretrain notebooks/jobs/workshop_atst_small.yaml -p data_root=AUDIO"),
    "gpu": ("everything that needs a GPU, in some minutes", "audiossl_lite.experiments.gpu.command",
            "gpu --data SOUNDS --minutes 9"),
    "workshop": ("every method on real sounds over seeds, an hour of a core each",
                 "audiossl_lite.experiments.workshop", "workshop --data SOUNDS"),
    "speedrun": ("the shortest training to a fixed score: a line for the board",
                 "audiossl_lite.experiments.speedrun", "speedrun --data SOUNDS"),
}  # fmt: skip


STUDIES = ("poolings", "queue_sizes", "long_runs", "attempts", "differences", "gpu.ship")


def usage() -> str:
    """Every command with a line and an example."""
    lines = ["usage: python -m audiossl_lite COMMAND ...   (COMMAND --help says more)", ""]
    for name, (purpose, _, example) in COMMANDS.items():
        lines += [f"  {name:<10}{purpose}", f"  {'':<10}  python -m audiossl_lite {example}"]
    lines += ["", "Single studies, each `python -m audiossl_lite.experiments.NAME --help`:"]
    return "\n".join([*lines, f"  {', '.join(STUDIES)}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Call the command and return its exit status: 0 done, 1 something failed, 2 a wrong request."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"audiossl_lite: no command {name!r}; {hint}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[name][1]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
