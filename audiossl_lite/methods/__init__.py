"""Methods: an encoder, its heads and its loss; one training step each."""

from audiossl_lite.methods.byol import BYOL
from audiossl_lite.methods.contrastive import Contrastive
from audiossl_lite.methods.data2vec import Data2Vec
from audiossl_lite.methods.mae import MAE

__all__ = ["BYOL", "MAE", "Contrastive", "Data2Vec"]
