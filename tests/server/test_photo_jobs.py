"""Photos through the server: jobs, recipes, bad input, other sites, and its end."""

import io
import json
import os
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageCms

from edgerestore.bundle.kinds import OutputKind
from edgerestore.imaging.scenes import drawn_scene

from ..bundles import write_bundle
from .serving import Visitor, start_server, stop_server


def png(image):
    done, raw = cv2.imencode(".png", image)
    assert done
    return raw.tobytes()


SCENE = (drawn_scene(3, 96) * 255).astype(np.uint8)


def decoded(raw):
    return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    write_bundle(folder / "models" / "deblur-tiny")
    write_bundle(folder / "models" / "mask-tiny", kind=OutputKind.MASK)
    process, port = start_server(folder, "--models", str(folder / "models"))
    yield port
    said = stop_server(process)
    assert "Traceback" not in said
    assert process.returncode == 0, said


@pytest.fixture
def visitor(server):
    return Visitor(server)


@pytest.fixture
def picture(visitor):
    answer = visitor.upload(png(SCENE))
    assert answer.status == 201, answer.body
    return answer.json["id"]


def result_of(visitor, submitted):
    assert submitted.status == 202, submitted.body
    job = visitor.wait(submitted.json["id"])
    assert job["state"] == "done", job
    return decoded(visitor.ask("GET", f"/api/v1/jobs/{job['id']}/result").body)


def test_a_recipe_is_run_from_the_untouched_original(visitor, picture):
    first = result_of(visitor, visitor.submit(picture, {"op": "deblur"}))
    both = result_of(
        visitor, visitor.submit(picture, {"op": "deblur"}, {"op": "tones", "brightness": 1})
    )
    again = result_of(visitor, visitor.submit(picture, {"op": "deblur"}))
    none = result_of(visitor, visitor.submit(picture))
    assert (first == again).all()
    assert (none == SCENE).all()
    assert both.mean() > first.mean() + 10
    weak = result_of(visitor, visitor.submit(picture, {"op": "deblur", "strength": 0}))
    assert (weak == SCENE).all()


def test_tones_are_numbers_or_auto(visitor, picture):
    made = result_of(visitor, visitor.submit(picture, {"op": "tones", "brightness": "auto"}))
    assert made.shape == SCENE.shape
    refused = visitor.submit(picture, {"op": "tones", "brightness": 3})
    assert refused.status == 422
    assert "brightness" in refused.body.decode()


def test_a_cut_out_is_transparent_or_before_a_background(visitor, picture):
    clear = result_of(visitor, visitor.submit(picture, {"op": "cutout"}))
    assert clear.shape == (*SCENE.shape[:2], 4)
    assert (clear[..., :3] == SCENE).all()
    alpha = clear[..., 3:] / 255
    red = visitor.submit(picture, {"op": "cutout", "background": "#ff0000"})
    expected = SCENE * alpha + np.array([0, 0, 255]) * (1 - alpha)
    assert np.abs(result_of(visitor, red) - expected).max() <= 1.5  # alpha itself is rounded
    other = visitor.upload(png(np.full((10, 20, 3), 40, np.uint8))).json["id"]
    before = visitor.submit(picture, {"op": "cutout", "background": f"picture:{other}"})
    assert np.abs(result_of(visitor, before) - (SCENE * alpha + 40 * (1 - alpha))).max() <= 1.5
    job = visitor.submit(picture, {"op": "cutout"}, format="jpg").json["id"]
    assert "transparency became white" in visitor.wait(job)["message"]


def test_an_operation_without_a_bundle_is_disabled_and_says_why(visitor, picture):
    told = {one["name"]: one for one in visitor.ask("GET", "/api/v1/server").json["operations"]}
    assert told["cutout"]["enabled"]
    assert told["deblur"]["model"] == "deblur-tiny"  # before those of the package
    assert not told["retouch"]["enabled"]
    assert "bundle" in told["retouch"]["reason"]
    refused = visitor.submit(picture, {"op": "retouch"})
    assert (refused.status, "retouch" in refused.json["error"]) == (409, True)


def test_events_go_on_after_the_last_one_that_was_seen(visitor, picture):
    job = visitor.submit(picture, {"op": "deblur"}).json["id"]
    answer = visitor.ask("GET", f"/api/v1/jobs/{job}/events")  # ends with the job
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [one.split("\n") for one in answer.body.decode().split("\n\n") if one.startswith("id")]
    states = [json.loads(one[2].removeprefix("data: "))["state"] for one in events]
    assert (states[0], states[-1]) == ("queued", "done")
    number = events[0][0].removeprefix("id: ")
    rest = visitor.ask("GET", f"/api/v1/jobs/{job}/events", Last_Event_ID=number).body.decode()
    assert rest.count("event: job") == len(events) - 1


def test_jobs_and_pictures_are_their_owners_alone(server, visitor, picture):
    job = visitor.submit(picture).json["id"]
    other = Visitor(server)
    other.upload(png(SCENE))
    for path in (f"jobs/{job}", f"jobs/{job}/result", f"jobs/{job}/events", f"pictures/{picture}"):
        assert other.ask("GET", f"/api/v1/{path}").status == 404
    assert other.submit(picture).status == 404
    assert visitor.ask("DELETE", "/api/v1/session").status == 204
    assert visitor.ask("GET", f"/api/v1/pictures/{picture}").status == 404


def test_a_full_queue_says_when_to_come_back(visitor, picture):
    slow = [{"op": "enlarge"}] * 3  # 64 times the sides are cancelled long before
    jobs = [visitor.submit(picture, *slow) for _ in range(5)]
    assert [one.status for one in jobs] == [202] * 4 + [429]
    assert int(jobs[-1].headers["retry-after"]) >= 1
    assert jobs[1].json["position"] in (1, 2)
    for one in reversed(jobs[:4]):
        assert visitor.ask("DELETE", f"/api/v1/jobs/{one.json['id']}").status == 204
    assert visitor.wait(jobs[0].json["id"])["state"] == "cancelled"


@pytest.mark.parametrize(
    ("raw", "name", "status", "said"),
    [
        (b"no picture at all", "a.jpg", 415, "a.jpg"),
        (b"", "a.png", 415, "empty"),
        (png(SCENE)[:200], "a.png", 415, "a.png"),
        (b"x" * 36_000_000, "a.png", 413, "35 MB"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "a.heic", 415, "heic"),
    ],
)
def test_bad_files_are_one_line(visitor, raw, name, status, said):
    answer = visitor.upload(raw, name)
    assert answer.status == status
    assert said in answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_a_small_file_that_claims_to_be_huge_is_refused_by_its_header(visitor):
    raw = bytearray(png(SCENE))
    raw[16:24] = (100_000).to_bytes(4, "big") * 2
    answer = visitor.upload(bytes(raw))
    assert (answer.status, "100000 x 100000" in answer.json["error"]) == (415, True)


def test_another_kind_than_its_name_is_taken(visitor):
    assert visitor.upload(png(SCENE), "really.jpg").status == 201


def test_pictures_are_upright_without_a_place_and_keep_their_colours(visitor):
    exif = PilImage.Exif()
    exif[0x0110] = "Camera 4711"
    exif.get_ifd(0x8825)[2] = (50.0, 27.0, 0.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8, :8] = 255
    turns = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    across = upright.transpose(1, 0, 2)
    turns += [across, np.rot90(upright), across[::-1, ::-1], np.rot90(upright, -1)]
    for orientation, stored in enumerate(turns, 1):
        exif[0x0112] = orientation
        raw = io.BytesIO()
        image = PilImage.fromarray(np.ascontiguousarray(stored))
        image.save(raw, "JPEG", quality=95, exif=exif, icc_profile=profile)
        told = visitor.upload(raw.getvalue(), "turned.jpg").json
        assert (told["width"], told["height"]) == (40, 24)
        job = visitor.wait(visitor.submit(told["id"]).json["id"])
        made = visitor.ask("GET", f"/api/v1/jobs/{job['id']}/result").body
        assert decoded(made)[:6, :6].mean() > 200
        assert decoded(made)[12:, 12:].mean() < 20
        read = PilImage.open(io.BytesIO(made))
        assert not read.getexif()
        assert b"4711" not in made
        assert read.info["icc_profile"] == profile


def test_cmyk_is_read_as_colours(visitor):
    raw = io.BytesIO()
    PilImage.new("CMYK", (32, 32), (0, 255, 255, 0)).save(raw, "JPEG")
    told = visitor.upload(raw.getvalue(), "print.jpg").json
    blue, green, red = result_of(visitor, visitor.submit(told["id"])).mean(axis=(0, 1))
    assert red > 180
    assert max(blue, green) < 80


def test_other_sites_change_nothing(visitor, picture):
    body = json.dumps({"picture": picture}).encode()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert visitor.ask("POST", "/api/v1/jobs", body, **headers).status == 403
    own = {"Origin": f"http://127.0.0.1:{visitor.port}", "Sec_Fetch_Site": "same-origin"}
    answer = visitor.ask("POST", "/api/v1/jobs", body, Content_Type="application/json", **own)
    assert answer.status == 202
    rebound = visitor.ask("GET", "/api/v1/server", Host="evil.example")
    assert rebound.status == 421
    assert "script-src 'self'" in rebound.headers["content-security-policy"]


def test_the_page_and_the_description_of_the_api_are_served(visitor):
    page = visitor.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/api/v1/jobs" in visitor.ask("GET", "/api/v1/openapi.json").json["paths"]
    assert visitor.ask("GET", "/v2/health/ready").status == 200


def test_a_cookie_is_not_for_scripts_nor_for_other_sites(visitor):
    given = visitor.upload(png(SCENE)).headers["set-cookie"]
    assert given.startswith("__Host-")
    for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
        assert word in given


def test_a_server_that_is_killed_says_interrupted_and_leaves_no_half_file(tmp_path):
    process, port = start_server(tmp_path)
    visitor = Visitor(port)
    large = (drawn_scene(4, 640) * 255).astype(np.uint8)
    picture = visitor.upload(png(large)).json["id"]
    jobs = [
        visitor.submit(picture, *[{"op": "enlarge"}] * 2).json["id"],
        visitor.submit(picture).json["id"],
    ]
    while visitor.ask("GET", f"/api/v1/jobs/{jobs[0]}").json["state"] == "queued":
        pass
    process.kill()
    process.communicate()
    half = tmp_path / "data" / "jobs" / f"{jobs[0]}.result.part"
    half.write_bytes(b"half")
    process, port = start_server(tmp_path)
    after = Visitor(port)
    after.cookie = visitor.cookie
    assert after.ask("GET", f"/api/v1/jobs/{jobs[0]}").json["state"] == "interrupted"
    assert after.wait(jobs[1])["state"] == "done"  # it had not begun
    assert not half.exists()
    stop_server(process)


def test_it_ends_at_once_under_an_open_stream_and_a_running_job(tmp_path):
    process, port = start_server(tmp_path)
    visitor = Visitor(port)
    picture = visitor.upload(png(SCENE)).json["id"]
    job = visitor.submit(picture, *[{"op": "enlarge"}] * 3).json["id"]
    watching = threading.Thread(
        target=lambda: visitor.ask("GET", f"/api/v1/jobs/{job}/events"), daemon=True
    )
    watching.start()
    said = stop_server(process)
    assert "Traceback" not in said
    assert process.returncode == 0
    watching.join(timeout=10)
    assert not watching.is_alive()


def refused(tmp_path, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "edgerestore", "serve", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_wrong_settings_are_named(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text("prot = 8080\n")
    assert "serve.toml: prot: no such setting" in refused(tmp_path, "--config", str(file))
    file.write_text("port = 'eighty'\n")
    assert "port" in refused(tmp_path, "--config", str(file))
    file.write_text("port =")
    assert "no TOML" in refused(tmp_path, "--config", str(file))
    assert "EDGERESTORE_QUEUE: queue" in refused(tmp_path, EDGERESTORE_QUEUE="0")
    assert "other machines" in refused(tmp_path, "--host", "0.0.0.0")
    assert "no such folder" in refused(tmp_path, "--models", "nowhere", "--port", "0")


def test_a_port_and_a_folder_in_use_are_told_and_sighup_reloads(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text("max_upload_mb = 20\n")
    process, port = start_server(tmp_path, "--config", str(file))
    assert f"{port}: cannot be listened on" in refused(tmp_path, "--port", str(port))
    data = str(tmp_path / "data")
    assert "another server uses it" in refused(tmp_path, "--port", "0", "--data", data)
    file.write_text("max_upload_mb = 10\ndevice = 'GPU'\n")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert "changed: max_upload_mb" in process.stderr.readline()
    assert "need a restart: device" in process.stderr.readline()
    assert Visitor(port).ask("GET", "/api/v1/server").json["max_upload_mb"] == 10
    stop_server(process)
