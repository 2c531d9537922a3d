"""What a run leaves in its folder: a line of history per logged step, and its last checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from audiossl_lite.training.checkpoint import load_checkpoint, save_checkpoint


class RunLog:
    """History and checkpoint of one run in its folder; in memory only without a folder.

    A run found in the folder is taken up; ValueError names what differs when it is another run.

    Where: this project; chapter 05
    """

    def __init__(self, output_dir, method, views, optimizer, identity: dict) -> None:
        self.parts = {"method": method, "views": views, "optimizer": optimizer}
        self.folder = Path(output_dir) if output_dir else None
        self.identity = json.dumps(identity, sort_keys=True)
        self.history: list[dict] = []
        self.step, self.seconds = 0, 0.0
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "last.pt").exists():
            self._resume()
        self._rewrite()

    def _resume(self) -> None:
        state = load_checkpoint(self.folder / "last.pt")
        there, now = json.loads(state.get("identity", "{}")), json.loads(self.identity)
        if there != now:
            differ = [key for key in sorted(there | now) if there.get(key) != now.get(key)]
            shown = "; ".join(f"{key} {there.get(key)} there, {now.get(key)} now" for key in differ)
            raise ValueError(
                f"{self.folder} holds a run with other settings; choose another output_dir or delete the folder "
                f"({shown})"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self.history = (
            state["step"],
            state["seconds"],
            list(state["history"]),
        )

    def _rewrite(self) -> None:
        """Lines written after the last checkpoint belong to steps that will run again."""
        with open(self.folder / "history.jsonl", "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.history)

    def write(self, **row) -> dict:
        """Add a row to the history, in memory and on disk, and return it.

        Where: this project; chapter 05
        """
        self.history.append(row)
        if self.folder:
            with open(self.folder / "history.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
        return row

    def save(self, step: int, seconds: float) -> None:
        """Replace the checkpoint by the state after `step` steps.

        Where: this project; chapter 05
        """
        if self.folder:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {
                "step": step,
                "seconds": seconds,
                "identity": self.identity,
                "history": self.history,
            }
            save_checkpoint(self.folder / "last.pt", state)
