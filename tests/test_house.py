"""The library is read from top to bottom: a room imports from itself and from rooms above it, never from one below."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "audiossl_lite"
# From what everything needs, through the science in its order of reading, to what puts it to use.
ROOMS = (
    "_version", "common",
    "frontends", "losses", "mixing", "encoders", "views", "methods", "training",
    "data", "evaluation", "pretrained", "experiments", "book", "run", "__main__",
)  # fmt: skip
# The package's own file says hello and checks the installation.
FREE = ("__init__",)


def imported(path: Path):
    """Dotted names below the package that a module imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (
            n.removeprefix("audiossl_lite.") for n in names if n.startswith("audiossl_lite.")
        )


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_entry_of_the_package_is_a_room_of_the_list():
    entries = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert entries - set(FREE) == set(ROOMS)


def test_imports_run_upwards_only():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if room_of(path) not in FREE
        for name in imported(path)
        if (below := name.split(".")[0]) in ROOMS
        and ROOMS.index(below) > ROOMS.index(room_of(path))
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_modules_import_each_other_in_no_circle():
    """Of a circle either module can be read, and imported, only after the other."""
    modules = {
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")
    }
    needs = {}
    for name, path in modules.items():
        top = ast.parse(path.read_text()).body  # an import inside a function may close a circle
        top = ast.Module([n for n in top if isinstance(n, (ast.Import, ast.ImportFrom))], [])
        found = set()
        for node in ast.walk(top):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "audiossl_lite."
            ):
                base = node.module.removeprefix("audiossl_lite.")
                found |= {n for a in node.names if (n := f"{base}.{a.name}") in modules}
                found |= {base} if base in modules else set()
        needs[name] = found - {name}
    while free := [name for name, others in needs.items() if not others]:
        for name in free:
            del needs[name]
        for others in needs.values():
            others.difference_update(free)
    assert not needs, f"in a circle, or behind one: {needs}"
