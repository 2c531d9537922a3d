"""Methods: an encoder, its heads and its loss; one training step each."""

from audiossl_lite.methods.byol import BYOL
from audiossl_lite.methods.contrastive import Contrastive

__all__ = ["BYOL", "Contrastive"]
