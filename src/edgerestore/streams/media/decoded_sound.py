"""Sound that an output cannot be given as it is: decoded, and stored as its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

__all__ = ["USUAL_LAYOUTS", "DecodedSound", "stored_codec"]

USUAL_LAYOUTS = {1: "mono", 2: "stereo"}
"""Layout by number of channels, of sound that does not name them."""

# Codec by the samples that a decoder gives, of which nothing is lost.
_STORED = {
    "u8": "pcm_u8",
    "s16": "pcm_s16le",
    "s32": "pcm_s32le",
    "flt": "pcm_f32le",
    "dbl": "pcm_f64le",
}


def stored_codec(output: av.container.OutputContainer, stream: av.stream.Stream) -> str | None:
    """Return the codec of a stream's decoded samples in an output; None where it takes none."""
    if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
        return None
    samples: av.AudioFormat | None = stream.codec_context.format
    codec = None if samples is None else _STORED.get(samples.packed.name)
    return codec if codec in output.supported_codecs else None


class DecodedSound:
    """Decoder of a sound stream, and the stream of an output that its samples go into.

    Parameters
    ----------
    output : av.container.OutputContainer
    stream : av.AudioStream
        Of the source.
    codec : str
        As `stored_codec` gives it.

    Attributes
    ----------
    stream : av.AudioStream
        Of the output.
    """

    def __init__(
        self, output: av.container.OutputContainer, stream: av.AudioStream, codec: str
    ) -> None:
        context = stream.codec_context
        layout = USUAL_LAYOUTS.get(context.layout.nb_channels, context.layout.name)
        self._source = stream
        made = output.add_stream(codec, rate=context.sample_rate, layout=layout)
        if not isinstance(made, av.AudioStream):
            raise TypeError(f"{codec} made a {made.type} stream")
        self.stream = made

    def packets(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Yield the packets of what one packet decodes to; of None, what is left."""
        for frame in self._source.codec_context.decode(packet):
            yield from self.stream.encode(frame)
        if packet is None:
            yield from self.stream.encode(None)
