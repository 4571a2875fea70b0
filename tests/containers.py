"""Recordings in containers that libsndfile cannot write."""

import av
import numpy as np

# Suffix -> codec.
AV_FORMATS = {"m4a": "aac", "mp4": "aac", "mkv": "ac3", "webm": "libopus", "wma": "wmav2", "mov": "alac"}


def write_av(path, samples, rate, codec, video=False):
    """With PyAV, which reads what it wrote; `video` puts a picture before the sound."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as container:
        if video:
            pictures = container.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
        if samples.size:
            track = container.add_stream(codec, rate=rate, layout=layout)
            track.bit_rate = 128_000
        if video:
            for _ in range(20):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        if samples.size:
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.rate = rate
            resampler = av.AudioResampler(track.codec_context.format, layout, rate, track.codec_context.frame_size)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(track.encode(piece))
            container.mux(track.encode(None))
    return path
