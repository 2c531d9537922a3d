"""Find which variables of a running notebook were meant as parameters.

Under papermill, a parameter given on the command line becomes an assignment in a cell of its own
after the cell tagged `parameters`. A misspelt one is then a variable that no other cell defines.
In a live session the check cell may be run again after the rest of the chapter, when many
variables exist; what the chapter's own cells assign is therefore left out.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

INJECTED_COMMENT = "# Parameters"
IPYTHON_NAMES = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})
PARAMETER_TYPES = (str, int, float, bool, list, dict, tuple, type(None))


def names_bound_in(source: str) -> set[str]:
    """Return the names that a cell's source assigns or imports; none if it cannot be read."""
    try:
        from IPython.core.inputtransformer2 import TransformerManager

        tree = ast.parse(TransformerManager().transform_cell(source))
    except (ImportError, SyntaxError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
    return names


def is_parameter_cell(source: str) -> bool:
    """True for the cell tagged `parameters` and for the one that papermill adds after it."""
    if source.lstrip().startswith(INJECTED_COMMENT):
        return True
    return {"preset", "data_root", "seed"} <= names_bound_in(source)


def assigned_parameter_names(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names that were given as parameters, in alphabetical order.

    These are what the parameter cells assign, and every plain value (text, number, list, dict) that
    no other executed cell has assigned.
    """
    history = [cell for cell in namespace.get("In", []) if isinstance(cell, str)]
    given: set[str] = set()
    own: set[str] = set()
    for source in history:
        (given if is_parameter_cell(source) else own).update(names_bound_in(source))
    unexplained = {
        name
        for name, value in namespace.items()
        if isinstance(value, PARAMETER_TYPES) and name not in own
    }
    candidates = (given & set(namespace)) | unexplained
    return sorted(
        name for name in candidates if not name.startswith("_") and name not in IPYTHON_NAMES
    )
