"""audiossl_lite: a small library beside a book that reproduces ATST and uaMix-MAE."""

from audiossl_lite._version import __version__
from audiossl_lite.environment import check_env

__all__ = ["__version__", "check_env"]
