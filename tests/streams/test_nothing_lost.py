"""What is beside the picture is carried along, or its loss is said."""

from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from edgerestore.errors import SinkError, SourceError
from edgerestore.imaging.error_translation import translate
from edgerestore.streams.options import LiveOptions
from edgerestore.streams.session import Session, restore_path

from ..checked import imread

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Text
Dialogue: 0,0:00:00.10,0:00:00.40,Default,one
Dialogue: 1,0:00:00.10,0:00:00.40,Default,two
Dialogue: 2,0:00:00.10,0:00:00.40,Default,three
Dialogue: 0,0:00:00.50,0:00:00.90,Default,four
"""
SRT = """1
00:00:00,100 --> 00:00:00,400
first line

2
00:00:00,500 --> 00:00:00,900
second line

"""


@pytest.fixture
def subtitled(tmp_path, picture):
    """A clip of a second with two subtitles, in Matroska."""
    text, path = tmp_path / "lines.srt", tmp_path / "clip.mkv"
    text.write_text(SRT)
    with av.open(str(text)) as lines, av.open(str(path), "w") as clip:
        video = clip.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        titles = clip.add_stream_from_template(lines.streams.subtitles[0])
        packets = [p for p in lines.demux(lines.streams.subtitles[0]) if p.size]
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, seed=index), format="rgb24")
            clip.mux(video.encode(frame))
        for packet in packets:
            packet.stream = titles
            clip.mux(packet)
        clip.mux(video.encode())
    return path


def subtitles(path):
    with av.open(str(path)) as clip:
        if not clip.streams.subtitles:
            return None
        return [(p.pts, p.duration, bytes(p)) for p in clip.demux(subtitles=0) if p.size]


def test_subtitles_are_copied_with_their_times(subtitled, tmp_path, echo, notices):
    out = tmp_path / "out.mkv"
    restore_path(echo(), str(subtitled), out, progress="none")
    assert subtitles(out) == subtitles(subtitled)
    assert [text for _, _, text in subtitles(out)] == [b"first line", b"second line"]
    assert notices == []


def test_subtitles_that_the_container_cannot_hold_are_named(subtitled, tmp_path, echo, notices):
    out = tmp_path / "out.mp4"
    restore_path(echo(), str(subtitled), out, progress="none")
    assert subtitles(out) is None
    assert any("subtitle" in line and "left out" in line for line in notices)


def test_transparency_of_a_video_is_said_to_be_left_out(tmp_path, echo, notices, picture):
    path = tmp_path / "clear.mkv"
    with av.open(str(path), "w") as clip:
        video = clip.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuva420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, seed=index), format="rgb24")
            clip.mux(video.encode(frame.reformat(format="yuva420p")))
        clip.mux(video.encode())
    restore_path(echo(), str(path), tmp_path / "out.mkv", progress="none")
    assert any("transparency" in line for line in notices)


def test_an_image_of_several_pages_is_refused_and_kept(tmp_path, echo, picture):
    path = tmp_path / "stack.tif"
    assert cv2.imwritemulti(str(path), [picture(20, 30, seed=i) for i in range(3)])
    with pytest.raises(SourceError, match="stack.tif: holds 3 pages"):
        restore_path(
            echo(), str(path), tmp_path / "out.tif", progress="none", notice=lambda line: None
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stack.tif"]


def test_an_image_of_one_page_is_taken(tmp_path, echo, picture):
    path = tmp_path / "one.tif"
    cv2.imwrite(str(path), picture(20, 30).astype(np.uint16) * 257)
    restore_path(echo(), str(path), tmp_path / "out.tif", progress="none")
    assert imread(tmp_path / "out.tif", cv2.IMREAD_UNCHANGED).dtype == np.uint16


def packets(path):
    """Return the kind and the packets of each stream, as (time, bytes)."""
    found: dict[int, tuple[str, list[Any]]] = {}
    with av.open(str(path)) as clip:
        for packet in clip.demux():
            if packet.size:
                kept = found.setdefault(packet.stream.index, (packet.stream.type, []))[1]
                time = None if packet.pts is None else packet.pts * packet.time_base
                kept.append((time, bytes(packet)))
    return found


def written(path, picture, *, add=(), codec="libx264", frames=25, tags=None):
    """Write a clip of a second; each of ``add`` adds a stream, and returns what to mux."""
    with av.open(str(path), "w") as clip:
        video = clip.add_stream(codec, rate=25, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata.update(tags or {})
        more = [one(clip) for one in add]
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, seed=index), format="rgb24")
            clip.mux(video.encode(frame))
            for one in more:
                one(index)
        clip.mux(video.encode())
        for one in more:
            one(None)
    return path


def second_video(clip):
    stream = clip.add_stream("libx264", rate=25, options={"bf": "3", "threads": "1"})
    stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"

    def add(index):
        frame = None
        if index is not None:
            # Unlike each other, or no frame is held back.
            level = np.full((32, 48, 3), 8 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
        clip.mux(stream.encode(frame))

    return add


def sound(codec, form="s16", layout="stereo", rate=48_000):
    def begin(clip):
        stream = clip.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = form

        def add(index):
            chunk = None
            if index is not None:
                noise = np.random.default_rng(index).integers(0, 90, (1, 2 * rate // 25))
                chunk = av.AudioFrame.from_ndarray(noise.astype(np.int16), form, layout)
                chunk.sample_rate, chunk.pts = rate, index * (rate // 25)
            clip.mux(stream.encode(chunk))

        return add

    return begin


def test_lines_that_begin_together_all_arrive(tmp_path, echo, picture):
    text = tmp_path / "lines.ass"
    text.write_text(ASS)
    with av.open(str(text)) as lines:

        def titles(clip):
            stream = clip.add_stream_from_template(lines.streams.subtitles[0])

            def add(index):
                if index is None:
                    for packet in lines.demux(lines.streams.subtitles[0]):
                        if packet.size:
                            packet.stream = stream
                            clip.mux(packet)

            return add

        path = written(tmp_path / "in.mkv", picture, add=[titles])
    out = tmp_path / "out.mkv"
    restore_path(echo(), str(path), out, progress="none")
    assert subtitles(out) == subtitles(path)
    assert len(subtitles(out)) == 4


@pytest.mark.parametrize("source", ["in.mkv", "in.mp4"])
@pytest.mark.parametrize("output", ["out.mkv", "out.mp4"])
def test_a_second_video_with_reordered_frames_arrives_whole(
    tmp_path, echo, picture, notices, source, output
):
    path, out = written(tmp_path / source, picture, add=[second_video]), tmp_path / output
    restore_path(echo(), str(path), out, progress="none")
    given, made = packets(path)[1], packets(out)[1]
    assert [data for _, data in given[1]] == [data for _, data in made[1]]
    assert [time for time, _ in made[1]] == [time for time, _ in given[1]]
    assert len(made[1]) == 25
    assert ["2 video streams" in line for line in notices] == [True]


def test_units_shorter_than_a_tick_all_arrive(tmp_path, echo, picture, notices):
    """As TrueHD in Matroska, whose packets last less than the millisecond that it counts by."""

    def ticks(clip):
        stream = clip.add_stream("pcm_s16le", rate=48_000, layout="mono")

        def add(index):
            for part in range(96 if index is not None else 0):
                packet = av.Packet(bytes([index, part]) * 20)
                packet.stream, packet.time_base = stream, Fraction(1, 48_000)
                packet.pts = packet.dts = (index * 96 + part) * 20
                clip.mux(packet)

        return add

    path = written(tmp_path / "in.mkv", picture, add=[ticks], frames=5)
    for name in ("out.mkv", "out.mov"):
        out = tmp_path / name
        restore_path(echo(), str(path), out, progress="none")
        given, made = packets(path)[1][1], packets(out)[1][1]
        assert len(given) == 480
        assert b"".join(data for _, data in made) == b"".join(data for _, data in given)
    (line,) = notices  # mov takes no two packets of one time, Matroska does
    assert "out.mov: stream 1 (audio): 279 packets stood still or ran back in time" in line


def test_a_cover_moves_between_mp4_and_matroska(tmp_path, echo, clip, notices):
    path = clip(tmp_path / "in.mp4", cover=b"yes", audio=True)
    picture = next(data for _, ((_, data), *rest) in packets(path).values() if not rest)
    for name, source in (
        ("a.mkv", path),
        ("b.mkv", tmp_path / "a.mkv"),
        ("c.mp4", tmp_path / "b.mkv"),
    ):
        out = tmp_path / name
        restore_path(echo(), str(source), out, progress="none")
        with av.open(str(out)) as made:
            attached = [s for s in made.streams.video if s.disposition & Disposition.attached_pic]
            assert len(attached) == 1
            assert len(made.streams.video) == 2
        assert [one for one in packets(out).values() if one[1][0][1] == picture]
    assert notices == []


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_the_sound_of_an_avi_goes_where_channels_have_names(tmp_path, echo, picture, name):
    path = written(tmp_path / "in.avi", picture, add=[sound("pcm_s16le")])
    out = tmp_path / name
    restore_path(echo(), str(path), out, progress="none")
    given, made = (b"".join(d for _, d in packets(one)[1][1]) for one in (path, out))
    assert made == given
    assert len(made) == 48_000 * 4


def test_a_timecode_track_is_made_anew(tmp_path, echo, picture, notices):
    path = written(tmp_path / "in.mov", picture, tags={"timecode": "01:00:00:00"})
    out = tmp_path / "out.mov"
    restore_path(echo(), str(path), out, progress="none")
    assert [one[1] for one in packets(out).values() if one[0] == "data"] == [
        one[1] for one in packets(path).values() if one[0] == "data"
    ]
    with av.open(str(out)) as made:
        assert made.streams.video[0].metadata["timecode"] == "01:00:00:00"
        assert len(made.streams) == 2
    assert notices == []


def test_motion_jpeg_is_written_in_full_range(tmp_path, echo, clip, read, restore):
    source = clip(tmp_path / "in.mp4")
    out, _ = restore(source, "out.mkv", codec="mjpeg")
    given, made = read(source), read(out)
    assert made.tags[3] == 2
    assert np.abs(made.images[3].astype(int) - given.images[3]).mean() < 4


def test_hevc_in_mp4_is_tagged_as_players_want_it(tmp_path, clip, restore):
    out, _ = restore(clip(tmp_path / "in.mp4"), "out.mp4", codec="libx265")
    assert b"hvc1" in out.read_bytes()
    assert b"hev1" not in out.read_bytes()


def test_the_index_of_an_mp4_comes_first(tmp_path, clip, restore):
    data = restore(clip(tmp_path / "in.mp4"), "out.mp4")[0].read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_refused_setting_brings_the_encoders_own_line(tmp_path, clip, restore, capfd):
    with pytest.raises(
        SinkError, match=r"out.mkv: its settings were refused \(libx264: .*nonsense"
    ):
        restore(clip(tmp_path / "in.mp4"), "out.mkv", preset="nonsense")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("codec", "form", "source", "name"),
    [
        ("flac", "s16", "in.flv", "out.mp4"),
        ("flac", "s16", "in.flv", "out.mkv"),
        ("libopus", "s16", "in.flv", "out.mp4"),
    ],
)
def test_the_last_packet_of_unknown_length_arrives(
    tmp_path, echo, picture, codec, form, source, name
):
    path = written(tmp_path / source, picture, add=[sound(codec, form)], frames=10)
    restore_path(echo(), str(path), tmp_path / name, progress="none")
    given, made = packets(path)[1][1], packets(tmp_path / name)[1][1]
    assert [data for _, data in made] == [data for _, data in given]


def in_segments(path, out, restorer):
    with Session(restorer, path, [str(out)], LiveOptions(segment_s=0.4)) as session:
        session.run()
    return sorted(out.parent.glob(f"{out.stem}-*{out.suffix}"))


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_each_file_of_a_recording_has_the_cover(tmp_path, echo, clip, name):
    path = clip(tmp_path / "in.mp4", cover=b"yes")
    files = in_segments(path, tmp_path / name, echo())
    assert len(files) == 2
    for one in files:
        with av.open(str(one)) as made:
            covers = [s for s in made.streams.video if s.disposition & Disposition.attached_pic]
            assert len(covers) == 1
        assert any(len(found) == 1 for _, found in packets(one).values())


def test_aac_of_a_transport_stream_goes_into_each_file_of_a_recording(tmp_path, echo, clip):
    path = clip(tmp_path / "in.ts", audio=True)
    files = in_segments(path, tmp_path / "out.mp4", echo())
    assert len(files) == 2
    assert sum(map(sounding, files)) >= sounding(path) - 4  # those before the first frame


def sounding(path):
    with av.open(str(path)) as clip:
        return sum(1 for _ in clip.decode(audio=0))


@pytest.mark.parametrize(("codec", "samples"), [("ac3", 1536), ("aac", 1024)])
@pytest.mark.parametrize("source", ["in.mkv", "in.avi"])
def test_sound_keeps_its_time_in_avi(tmp_path, echo, picture, source, codec, samples):
    def hum(clip):
        stream = clip.add_stream(codec, rate=48_000, layout="stereo")

        def add(index):
            chunk = None
            if index is not None:
                chunk = av.AudioFrame.from_ndarray(np.zeros((2, samples), "f4"), "fltp", "stereo")
                chunk.sample_rate, chunk.pts = 48_000, index * samples
            clip.mux(stream.encode(chunk))

        return add

    path, out = written(tmp_path / source, picture, add=[hum], frames=10), tmp_path / "out.avi"
    restore_path(echo(), str(path), out, progress="none")
    given, made = packets(path)[1][1], packets(out)[1][1]
    assert [data for _, data in made] == [data for _, data in given]
    step_s = Fraction(samples, 48_000)
    assert [time for time, _ in made] == [index * step_s for index in range(len(given))]


@pytest.mark.parametrize("source", ["in.mkv", "in.mp4"])
def test_a_second_h264_stream_goes_into_avi(tmp_path, echo, picture, notices, source):
    path, out = written(tmp_path / source, picture, add=[second_video]), tmp_path / "out.avi"
    restore_path(echo(), str(path), out, progress="none")
    assert decoded(out) == decoded(path)
    assert len(decoded(out)) == 25
    assert len(notices) == 1  # that there are two


def decoded(path):
    with av.open(str(path)) as clip:
        return [frame.to_ndarray().tobytes() for frame in clip.decode(video=1)]


def uncompressed(clip):
    stream = clip.add_stream("rawvideo", rate=25)
    stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"

    def add(index):
        if index is not None:
            level = np.full((32, 48, 3), 8 * index, np.uint8)
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))

    return add


@pytest.mark.parametrize("name", ["out.mkv", "out.avi"])
def test_uncompressed_frames_keep_their_pixel_format(tmp_path, echo, picture, notices, name):
    path = written(tmp_path / "in.mkv", picture, add=[uncompressed], frames=8)
    restore_path(echo(), str(path), tmp_path / name, progress="none")
    assert decoded(tmp_path / name) == decoded(path)
    assert len(decoded(path)) == 8
    assert len(notices) == 1  # that there are two


def test_what_is_left_out_is_told_where_it_would_go(tmp_path, echo, picture, notices):
    """FFmpeg writes FLAC into a transport stream as data that nothing recognises."""
    path = written(tmp_path / "in.mkv", picture, add=[sound("flac", "s16")], frames=5)
    restore_path(echo(), str(path), tmp_path / "out.ts", progress="none")
    (line,) = notices
    assert "does not go into .ts, but into .mkv" in line
    assert len(packets(tmp_path / "out.ts")) == 1


@pytest.mark.parametrize(
    ("codec", "form", "source", "name", "told"),
    [
        ("libopus", "s16", "in.mkv", "out.mov", "pcm_f32le; it does not go into .mov as it is"),
        ("pcm_mulaw", "s16", "in.mov", "out.mkv", "pcm_s16le; it does not go into .mkv as it is"),
        ("adpcm_ms", "s16", "in.avi", "out.avi", "pcm_s16le; it does not go into .avi as it is"),
        ("adpcm_ms", "s16", "in.avi", "out.mkv", "pcm_s16le; it does not go into .mkv as it is"),
    ],
)
def test_sound_that_does_not_go_as_it_is_arrives_decoded(
    tmp_path, echo, picture, notices, codec, form, source, name, told
):
    path = written(tmp_path / source, picture, add=[sound(codec, form)], frames=25)
    restore_path(echo(), str(path), tmp_path / name, progress="none")
    (line,) = notices
    assert f"is decoded and stored as {told}" in line
    given, made = heard(path), heard(tmp_path / name)
    assert made.shape == given.shape
    np.testing.assert_array_equal(made, given)


def heard(path):
    """Return the samples of the first sound of a file."""
    with av.open(str(path)) as clip:
        return np.concatenate(
            [frame.to_ndarray().reshape(-1) for frame in clip.decode(audio=0)]
            if clip.streams.audio[0].codec_context.format.is_packed
            else [frame.to_ndarray().T.reshape(-1) for frame in clip.decode(audio=0)]
        )


def test_a_cover_that_mov_does_not_hold_is_told(tmp_path, echo, clip, notices):
    path = clip(tmp_path / "in.mp4", cover=b"yes")
    restore_path(echo(), str(path), tmp_path / "out.mov", progress="none")
    assert ["out.mov: stream 1 (video png) is left out" in line for line in notices] == [True]


@pytest.mark.parametrize("name", ["out.ts", "out.avi"])
def test_damaged_packets_of_a_copied_stream_are_counted(tmp_path, echo, picture, notices, name):
    def damaged(clip):
        with av.open(str(written(tmp_path / "whole.mkv", picture))) as whole:
            stream = clip.add_stream_from_template(whole.streams.video[0])

        def add(index):
            if index is not None:
                packet = av.Packet(b"\x7f\xff\xff\xff no length of a unit")
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = index
                clip.mux(packet)

        return add

    path = written(tmp_path / "in.mkv", picture, add=[damaged], frames=6)
    restore_path(echo(), str(path), tmp_path / name, progress="none")
    assert any(f"{name}: stream 1 (video): 6 packets lost" in line for line in notices)


@pytest.mark.parametrize(
    ("name", "codec", "told"),
    [
        ("out.mov", "libvpx-vp9", r"the container refused it \(mov: vp9 only supported in MP4\);"),
        ("out.mov", "dnxhd", r"settings were refused \(dnxhd: video parameters incompatible"),
        ("out.mov", "rawvideo", r"\.mov cannot hold rawvideo; use \.mkv or"),
        ("out.mkv", "png", r"\.mkv cannot hold png; use \.mov or choose another --codec"),
        ("out.webm", "libx264", r"\.webm cannot hold libx264; use \.mkv or"),
    ],
)
def test_a_refusal_says_who_refused_and_what_works(tmp_path, clip, restore, name, codec, told):
    with pytest.raises(SinkError, match=told):
        restore(clip(tmp_path / "in.mp4"), name, codec=codec)


def test_an_encoder_that_misses_its_driver_is_no_matter_of_permissions():
    line: Any = (16, "h264_nvenc", "Cannot load libcuda.so.1\n")
    error = av.error.PermissionError(1, "Operation not permitted", None, line)
    told = str(translate(error, SinkError, "out.mkv"))
    assert "h264_nvenc: Cannot load libcuda.so.1" in told
    assert "permissions" not in told
