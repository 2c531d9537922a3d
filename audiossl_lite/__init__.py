"""audiossl_lite: a small library beside a book that reproduces ATST and uaMix-MAE."""

from typing import Any

from audiossl_lite._version import __version__
from audiossl_lite.common.environment import check_env

__all__ = ["__version__", "check_env", "embed_folder", "load_any"]


def __getattr__(name: str) -> Any:
    """`load_any` and `embed_folder`, imported when they are asked for: this file itself stays light."""
    if name in ("embed_folder", "load_any"):
        from audiossl_lite import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
