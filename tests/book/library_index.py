"""Read the library's modules, definitions, sources in the papers and tests, without importing them."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "audiossl_lite"
PAPERS = (
    "ATST", "BYOL-A", "BYOL", "uaMix-MAE", "AudioMAE", "NNCLR", "InfoNCE", "SimCLR", "COLA",
    "data2vec 2.0", "EAT",
)  # fmt: skip
PLACE = re.compile(r"(?:Eq|Sec|Fig|Table)\.? ?[\d.]*\d|official code|\d[\d.]*\d")


@dataclass(frozen=True)
class Definition:
    """A public function, class or method: its file, dotted name and origin."""

    file: str
    name: str
    where: str


def module_paths() -> list[Path]:
    """Every module of the library that holds something, packages' own files included."""
    return [path for path in sorted(LIBRARY.rglob("*.py")) if path.read_text().strip()]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _is_public(node: ast.AST, *kinds: type) -> bool:
    return isinstance(node, kinds) and not node.name.startswith("_")


def public_nodes(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Names and nodes of public functions, classes, and methods of public classes, in the order of the file."""
    for node in ast.parse(path.read_text()).body:
        if not _is_public(node, ast.ClassDef, ast.FunctionDef):
            continue
        yield node.name, node
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if _is_public(member, ast.FunctionDef):
                yield f"{node.name}.{member.name}", member


def definitions(path: Path) -> Iterator[Definition]:
    """Functions and classes of `public_nodes`, and those methods that have a docstring."""
    for name, node in public_nodes(path):
        text = ast.get_docstring(node) or ""
        where = " ".join(text.rsplit("Where:", 1)[1].split()) if "Where:" in text else ""
        if text or "." not in name:
            yield Definition(relative(path), name, where)


@functools.cache
def all_definitions() -> tuple[Definition, ...]:
    return tuple(item for path in module_paths() for item in definitions(path))


def places(where: str) -> list[str]:
    """`ATST Sec. 3.2 and official code; chapter 11` becomes `ATST Sec. 3.2`, `ATST official code`."""
    found = []
    for clause in where.split(";"):
        names = [paper for paper in PAPERS if re.match(rf"\W*{re.escape(paper)}\b", clause)]
        if not names:
            continue
        paper = max(names, key=len)
        parts = PLACE.findall(clause.split(paper, 1)[1].split(" with ")[0])
        found += [f"{paper} {part if part[0].isalpha() else f'Sec. {part}'}" for part in parts]
        found += [] if parts else [paper]
    return found


@functools.cache
def sources_of_tests() -> dict[str, str]:
    """The text of every test file of the library; the tests of pages prove no equation."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {relative(path): path.read_text() for path in files if path.parent.name != "book"}


@functools.cache
def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def mentions(text: str, name: str) -> int:
    return words(text)[name]


def _imports(text: str, file: str) -> bool:
    """Whether a test imports a module of the library, or the package that holds it."""
    module = file.removesuffix(".py").replace("/", ".")
    package, _, stem = module.rpartition(".")
    direct = (
        rf"(?:from|import) {re.escape(module)}\b|from {re.escape(package)} import [^#]*\b{stem}\b"
    )
    through = rf"from {re.escape(package)} import" if "." in package else None
    return bool(re.search(direct, text) or (through and re.search(through, text)))


def best_test(item: Definition) -> str | None:
    """The test file that names a definition most to the point, None when no test names it."""
    short, owner = item.name.rsplit(".", 1)[-1], item.name.split(".")[0]
    stem = Path(item.file).stem
    folder = Path(item.file).parent.name

    def score(file: str) -> tuple[bool, bool, bool, int]:
        text, path = sources_of_tests()[file], Path(file)
        return (
            path.stem == f"test_{stem}",
            mentions(text, owner) > 0,
            path.parent.name == folder,
            mentions(text, short),
        )

    named = [
        file
        for file, text in sources_of_tests().items()
        if mentions(text, short) and _imports(text, item.file)
    ]
    return max(named, key=score, default=None)
