"""The rate at which the client of a WebSocket may send frames. A normal client sends only pongs and a close.

Each frame costs time, however small it is, and its content is discarded. So each connection may send some at once and
then a few a second; the rest stays in its socket.
"""

from typing import Final

BURST_FRAMES: Final = 64
FRAMES_PER_S: Final = 20
PIECE_BYTES: Final = 256
"""How much is parsed between two looks at the count: at most 42 frames."""


class FramePace:
    """The frames of one connection: a bucket that fills at `FRAMES_PER_S`."""

    def __init__(self, now_s: float) -> None:
        self._left = float(BURST_FRAMES)
        self._counted_s = now_s

    def pause_s(self, n_frames: int, now_s: float) -> float:
        """Count frames; return the time in seconds for which no more may be read."""
        refilled = self._left + (now_s - self._counted_s) * FRAMES_PER_S
        self._left = min(float(BURST_FRAMES), refilled) - n_frames
        self._counted_s = now_s
        return max(0.0, -self._left / FRAMES_PER_S)
