"""Settings as people type them: text read as the type it stands for, and the six parameters of a chapter, checked."""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiossl_lite.common.ranges import check_range

SCALES = ("lite", "workshop", "paper")
DEFAULTS: dict[str, Any] = {
    "preset": "lite",
    "data_root": "",
    "output_dir": "",
    "seed": 0,
    "device": "auto",
    "overrides": "",
}
EMBEDDED_NAMES = ("", "synthetic")
# A variable of the environment: the folder where chapters find encoders that another one trained with equal settings.
SHARED_ENCODERS = "AUDIOSSL_ENCODERS"
MAX_PARTS = 10_000  # of a parameter: far more than all settings of an experiment


class ParameterError(ValueError):
    """A parameter has an unknown name or a value that cannot be used."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like `name`."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return close[0] if close else known[0]


def typed_value(name: str, value: Any, default: Any) -> Any:
    """Return a setting's value in the type of its default; text is read, for command lines hand over nothing else.

    Errors: TypeError naming the setting, the value and the type that is needed; ValueError out of its range.
    """
    kind, typed = type(default), value
    if isinstance(value, str) and kind is not str:
        try:
            typed = kind(value) if kind in (int, float) else _literal(value)
        except ValueError:
            pass
    if kind is float and type(typed) is int:
        typed = float(typed)
    if kind is tuple and type(typed) is list:  # JSON and YAML have no other word for it
        typed = tuple(typed)
    if type(typed) is not kind:
        words = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "str": "text",
        }
        wanted = words.get(kind.__name__, f"a {kind.__name__} such as {default!r}")
        raise TypeError(f"{name!r} must be {wanted}, got {value!r}.")
    return check_range(name, typed)


@dataclass(frozen=True)
class Parameters:
    """The checked parameters of one chapter; an empty `data_root` means the embedded sounds."""

    preset: str = "lite"
    data_root: str = ""
    output_dir: str = ""
    seed: int = 0
    device: str = "auto"
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def torch_device(self) -> str:
        """The device to use: `auto` becomes cuda, then mps, then cpu, whichever is there first."""
        if self.device != "auto":
            return self.device
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    @property
    def data_name(self) -> str:
        """The data in one word: `embedded sounds`, or the name of the folder."""
        return Path(self.data_root).name if self.data_root else "embedded sounds"

    def output_folder(self, *parts: str) -> Path:
        """Create and return a folder for checkpoints and results of this run.

        Without `output_dir` it is a fresh temporary folder, so no run meets an older one's files.
        """
        if self.output_dir:
            root = Path(self.output_dir)
        else:
            import tempfile

            root = Path(tempfile.mkdtemp(prefix="audiossl_lite_"))
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def check_plain(name: str, value: Any) -> None:
    """Refuse what is no text, number, true, false, nothing, list or mapping, and more than any setting could need.

    Aliases of YAML can nest without end: the count of parts stops at `MAX_PARTS`. Errors: ParameterError.
    """
    left, n_parts = [value], 0
    while left:
        part, n_parts = left.pop(), n_parts + 1
        if n_parts > MAX_PARTS:
            raise ParameterError(f"{name} has more than {MAX_PARTS} parts, or aliases without end.")
        if isinstance(part, Mapping):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple)):
            left += part
        elif not isinstance(part, (str, bool, int, float, type(None))):
            raise ParameterError(
                f"{name} holds {str(part)[:40]!r}, a {type(part).__name__}; write text, numbers, true, false or lists."
            )


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with `~` and `~user` as their folders; a name that begins with `~` and is no user's stays as it is."""
    return Path(os.path.expanduser(path))


def usable_folder(path: Path) -> None:
    """Errors: ParameterError when a folder at `path` could not be made or written into; nothing is made."""
    try:
        if "\0" in str(path):
            raise ValueError("it holds a null byte")
        place = next(part for part in (path, *path.absolute().parents) if part.exists())
    except (OSError, ValueError) as error:  # too long, in a closed folder, or no path at all
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(f"{path} cannot be used: {reason}; give another folder.") from error
    if not place.is_dir():
        raise ParameterError(f"{path} cannot be made: {place} is a file; give another folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ParameterError(
            f"{path} cannot be written: {place} is read-only; give another folder."
        )


def regular_file(path: Path) -> None:
    """Errors: ParameterError when what is at `path` is no file: reading a pipe or writing into it may wait for ever."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise ParameterError(f"{path} is {kind}, not a file; give a file.")


def parse_overrides(value: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Read overrides given as `key=value,key=value`, as JSON, or as a mapping.

    Values become int, float, bool, None, list or tuple where they look like one, else stay text.
    Errors: ParameterError when an item has no `=` or the JSON is not an object.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ParameterError(f"overrides must have text keys, got {list(value)[:8]!r}.")
        check_plain("overrides", value)
        return dict(value)
    if not isinstance(value, str):
        raise ParameterError(
            f"overrides must be text such as 'epochs=3,lr=0.1', or a dict; got {value!r} "
            f"({type(value).__name__})."
        )
    text = value.strip()
    if text.startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"overrides is not valid JSON ({error}): {text[:200]}") from error
    items = [item for item in re.split(r",(?![^\[\(]*[\]\)])", text) if item.strip()]
    result: dict[str, Any] = {}
    for item in items:
        key, equals, raw = item.partition("=")
        if not equals or not key.strip():
            raise ParameterError(
                f"overrides item {item.strip()!r} has no value; write key=value,key=value."
            )
        if key.strip() in result:
            raise ParameterError(f"overrides names {key.strip()!r} twice.")
        result[key.strip()] = _literal(raw.strip())
    check_plain("overrides", result)
    return result


def _literal(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be text, got {value!r} ({type(value).__name__}).")
    if value not in choices:
        raise ParameterError(
            f"unknown {name} {value!r}; did you mean {nearest(value, choices)!r}? "
            f"Choices: {', '.join(choices)}."
        )
    return value


def _check_seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(
            f"seed must be a whole number, got {value!r} ({type(value).__name__}); "
            "write for example -p seed 1."
        )
    if not 0 <= value < 2**63:
        raise ParameterError(f"seed must be between 0 and 2**63 - 1, got {value}.")
    return value


def _check_device(value: Any) -> str:
    kind = value.partition(":")[0] if isinstance(value, str) else value
    _check_choice("device", kind, ("auto", "cpu", "cuda", "mps"))
    if value in ("auto", "cpu"):
        return value
    from audiossl_lite.common.devices import usable_device  # torch, which takes seconds to import

    try:
        return usable_device(value)
    except ValueError as error:
        raise ParameterError(f"device: {error}.") from error


def _as_path_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, (str, os.PathLike)):
        raise ParameterError(
            f"{name} must be a path as text, got {value!r} ({type(value).__name__})."
        )
    return os.fspath(value)


def _check_data_root(value: Any) -> str:
    text = _as_path_text("data_root", value)
    if text in EMBEDDED_NAMES:
        return ""
    path = user_path(text)
    if not os.path.exists(path):
        raise ParameterError(
            f"data_root {text!r} does not exist (looked for {path.absolute()}); give a folder of "
            "audio or a CSV manifest, or leave it empty for the embedded sounds."
        )
    return str(path.resolve())


def _check_output_dir(value: Any) -> str:
    text = _as_path_text("output_dir", value)
    if not text:
        return ""
    path = user_path(text)
    usable_folder(path)
    return str(path.resolve())


CHECKS = {
    "preset": lambda value: _check_choice("preset", value, SCALES),
    "data_root": _check_data_root,
    "output_dir": _check_output_dir,
    "seed": _check_seed,
    "device": _check_device,
    "overrides": parse_overrides,
}


def unknown_parameter(name: str) -> ParameterError:
    """Build the error for a name that is no parameter, naming the nearest one that is."""
    return ParameterError(
        f"unknown parameter {name!r}; did you mean {nearest(name, DEFAULTS)!r}? "
        f"Parameters: {', '.join(DEFAULTS)}."
    )


def make_parameters(values: Mapping[str, Any]) -> Parameters:
    """Check names and values and return them as `Parameters`; missing names keep their defaults.

    Errors: ParameterError, naming the parameter, the value and what to do.
    """
    for name in values:
        if name not in DEFAULTS:
            raise unknown_parameter(name)
    checked = {name: CHECKS[name](value) for name, value in values.items()}
    return Parameters(**checked)


def split_assignments(items: Sequence[str]) -> dict[str, str]:
    """Split `name=value` items at the first `=`; errors name the item that has none."""
    result: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ParameterError(f"-p {item}: write -p name=value, for example -p seed=1.")
        if name in result:
            raise ParameterError(f"parameter {name!r} is given twice.")
        result[name] = text
    return result


def parameter_file(path: Path) -> dict[str, Any]:
    """Read parameters from a YAML file of `name: value` lines."""
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            names = Counter(key.value for key, _ in node.value if type(key.value) is str)
            if twice := [name for name, count in names.items() if count > 1]:
                raise ValueError(f"it names {twice[0]!r} twice in one place")
            return super().construct_mapping(node, deep)

    regular_file(path)
    try:
        values = yaml.load(path.read_bytes(), Strict) or {}  # by its mark UTF-8 or UTF-16
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ParameterError(f"parameter file {path} cannot be read: {reason}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"parameter file {path} must hold `name: value` lines.")
    check_plain(f"parameter file {path}", values)
    return {str(name): value for name, value in values.items()}


def merged_overrides(typed: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """`overrides` of a file with those of the command line put over them, key by key; empty when one has none."""
    if not (typed.get("overrides") and texts.get("overrides")):
        return {}
    return {"overrides": parse_overrides(typed["overrides"]) | parse_overrides(texts["overrides"])}
