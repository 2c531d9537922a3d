"""Our encoders in X-ARES, which is given a file that holds one class: `python -m xares.run my_encoder.py TASKS`.

The file, in the folder that the command is called from, may be:

    from audiossl_lite.pretrained.adapters.xares import FrameModel

    class CnnEventsEncoder(FrameModel):
        name_or_file = "cnn_events"

The name of the class ends in `Encoder`. X-ARES keeps embeddings under it, so each encoder needs a name of its own.
"""

from __future__ import annotations

from torch import Tensor, nn

from audiossl_lite.pretrained.adapters import hear


class FrameModel(nn.Module):
    """An encoder of `load_any` over time: `forward(audio (B, S) or (S,)) -> (B, N, D)`, one vector every 50 ms.

    Each vector is that of the second around it, so twenty seconds are computed for one of sound: a larger
    `hop_size_in_ms` is as much cheaper, and enough for tasks that average over time.
    """

    name_or_file = hear.DEFAULT
    hop_size_in_ms = hear.HOP_MS

    def __init__(self) -> None:
        super().__init__()
        self.model = hear.load_model(str(self.name_or_file))
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.timestamp_embedding_size

    def forward(self, audio: Tensor) -> Tensor:
        audio = audio[None] if audio.dim() == 1 else audio
        return hear.get_timestamp_embeddings(audio, self.model, self.hop_size_in_ms)[0]
