"""Pin: names from data reach a page as text alone: chapters show it by `say` and `reveal`, names in it by `plain`.

A name is followed through a chapter's code: from where clips hold it to the sentences, titles and labels that show it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from tests.chapters import CHAPTERS

SOURCES = {"class_names", "names", "source", "task"}  # attributes of clips
# What hands names on; every other call makes something else of them.
PASSING = {
    "sorted", "list", "zip", "map", "enumerate", "reversed", "dict", "tuple", "str", "next", "max",
    "min", "filter", "verdict", "join", "replace", "get", "items", "keys", "values", "lower", "strip",
}  # fmt: skip


def names_in(node: ast.AST, dirty: set[str]) -> bool:
    """Whether an expression can hold a name from data as it stands in the data."""
    if isinstance(node, ast.Call):
        inside = [*node.args, *(k.value for k in node.keywords if k.arg != "key"), node.func]
        called = ast.unparse(node.func).rpartition(".")[2]
        is_clean = called not in PASSING or ast.unparse(inside[0]) in ("plain", "legend_name")
        return not is_clean and any(names_in(x, dirty) for x in inside)
    if isinstance(node, ast.FormattedValue):
        spec = ast.unparse(node.format_spec)[2:-1] if node.format_spec else ""
        return names_in(node.value, dirty) and not spec.endswith(("d", "e", "f", "g"))
    if isinstance(node, ast.Attribute):
        return node.attr in SOURCES or (node.attr in PASSING and names_in(node.value, dirty))
    if isinstance(node, ast.Name):
        return node.id in dirty
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
        loops = [g for g in node.generators if names_in(g.iter, dirty)]
        parts = [n for g in loops for n in ast.walk(g.target)]
        local = dirty | {n.id for n in parts if isinstance(n, ast.Name)}
        made = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        return any(names_in(x, local) for x in made)
    shown = {
        ast.Compare: lambda: (),
        ast.Subscript: lambda: (node.value,),
        ast.IfExp: lambda: (node.body, node.orelse),
        ast.BoolOp: lambda: node.values[-1:] if isinstance(node.op, ast.And) else node.values,
    }
    parts = shown.get(type(node), lambda: ast.iter_child_nodes(node))()
    return any(names_in(part, dirty) for part in parts)


def assigned(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Each variable with what it is set to; what a loop runs over counts for its variables."""
    for node in ast.walk(tree):
        targets, value = [], None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.For):
            targets, value = [node.target], node.iter
        for target in targets:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=False)
            else:
                pairs = [(target, value)]
            for one, its in pairs:
                if not isinstance(one, ast.Subscript):
                    yield from ((n.id, its) for n in ast.walk(one) if isinstance(n, ast.Name))


def dirty_names(tree: ast.AST, known: set[str]) -> set[str]:
    """Variables of a cell that can hold names from data, followed until no more are met."""
    dirty, before = set(known), None
    while dirty != before:
        before = set(dirty)
        dirty |= {name for name, value in assigned(tree) if names_in(value, dirty)}
    return dirty


def shown_bare(cells: list[str]) -> list[str]:
    """The calls that would show a name from data as markup, or lose it from a legend."""
    trees = [ast.parse(code) for code in cells]
    everywhere = {name for tree in trees for name in dirty_names(tree, set())}
    faults = []
    for tree in trees:
        dirty = dirty_names(tree, everywhere - {name for name, _ in assigned(tree)})
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            shown = list(node.args) if called in ("say", "reveal") else []
            shown += [k.value for k in node.keywords if k.arg == "label"]
            is_raw = called.rpartition(".")[2] in ("HTML", "Markdown")
            if is_raw or any(names_in(x, dirty) for x in shown):
                faults.append(ast.unparse(node))
    return faults


def test_chapters_show_names_from_data_as_text() -> None:
    faults = []
    for path in CHAPTERS:
        cells = [cell_source(cell) for cell in code_cells(read_notebook(path))]
        faults += [f"{path.stem}: {call[:120]}" for call in shown_bare(cells)]
    assert faults == []


def test_a_bare_name_is_found_whatever_way_it_takes() -> None:
    start = "names = clips.class_names[task]"
    bare = (
        "say(f'A {names[0]}.')",
        "reveal('A ', names[0])",
        "first = names[0]\nsay(f'{first}')",
        "for name in names:\n    say(name)",
        "text = ', '.join(names)\nsay(f'{text}.')",
        "ax.plot(x, label=names[0])",
        "display(HTML('<b>bold</b>'))",
        "say(*(f'- {name}' for name in names))",
        "say(f'From {clips.source}.')",
    )
    assert [code for code in bare if not shown_bare([start, code])] == []
    clean = (
        "say(f'A {plain(names[0])}.')",
        "say(f'{len(names)} classes')",
        "say(', '.join(map(plain, names)))",
        "ax.plot(x, label=legend_name(names[0]))",
        "say('yes' if names[0] == 'rain' else 'no')",
    )
    assert [code for code in clean if shown_bare([start, code])] == []
