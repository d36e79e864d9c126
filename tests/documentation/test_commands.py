"""Every command in the README and the documentation: its options exist, and it runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import typer

from ..training.conftest import RECIPE, SPACE, write_dataset

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What the pages name, and what stands for it here. A camera and the network are a file.
STAND_INS = {
    "SOURCE": "my_model.pth",
    "weights.pth": "my_model.pth",
    "OUT/model.pth": "my_model.pth",
    "BUNDLE": "my_bundle",
    "src/edgerestore/models/deblur": "my_bundle",
    "PHOTOGRAPHS": "photos",
    "PUBLIC_DOMAIN_PHOTOGRAPHS": "photos",
    "BLURRED": "photos",
    "SHARP": "photos",
    "20000": "6",
    "10000": "6",
    "2000": "4",
    "RECIPE.py": "tiny.py",
    "PAIRS": "pairs",
    "--time=8": "--time=0.0003",
    "sharp/": "photos/",
    "frames/": "tiles/",
    "examples/demo_clip.mp4": "clip.mp4",
    "/shared/slide.ome.tif": "slide.ome.tif",
    "camera:0": "clip.mp4",
    "rtsp://camera/live": "clip.mp4",
    "rtsp://camera/stream": "clip.mp4",
    "http://camera/video": "clip.mp4",
    "http://127.0.0.1:8080": "http://127.0.0.1:0",
    "127.0.0.1:8090": "127.0.0.1:0",
}
# Taken as the target of one command, which must not meet what an earlier one made.
OUTPUTS = ("-o", "--output", "--html", "--csv", "--json", "--positions")
NOT_RUN = {
    "--preview": "opens a window",
    "tcp://scheduler:8786": "needs a scheduler, as tests/microscopy has it",
    "--arch": "needs a network of the reader's own",
    "serve": "serves until it is ended, as tests/server has it",
}


def commands():
    """Return each command line with its page, joined, without comments."""
    for page in PAGES:
        for block in FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"[;|]", line.split(" #")[0]):
                    if not part.strip().startswith("edgerestore "):
                        continue
                    words = shlex.split(part.replace("[", "").replace("]", "").replace("...", ""))
                    yield page.name, words[1:]


ALL = [pytest.param(words, id=f"{page}:{' '.join(words)[:60]}") for page, words in commands()]


def test_the_pages_hold_commands():
    assert len(ALL) > 20


@pytest.mark.parametrize("words", ALL)
def test_every_option_exists(words):
    from edgerestore.cli.app import app

    commands = typer.main.get_group(app).commands
    assert words[0] in commands
    command = commands[words[0]]
    with command.make_context(words[0], list(words[1:])):
        pass


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, picture, mask_bundle):
    """A folder that holds what the pages name."""
    import torch

    from edgerestore.convert import convert
    from edgerestore.convert.architectures.dncnn import DnCNN

    folder = tmp_path_factory.mktemp("pages")
    for name in ("photos", "tiles"):
        (folder / name).mkdir()
    for seed in range(4):
        image = cv2.GaussianBlur(picture(288, 320, seed=seed), (0, 0), 1.2)
        cv2.imwrite(str(folder / "photos" / f"{seed}.png"), image)
    cv2.imwrite(str(folder / "tiles" / "a.tif"), picture(64, 64))
    (folder / "scan").mkdir()
    specimen = np.random.default_rng(1).normal(128, 400, (300, 460)).astype(np.float32)
    specimen = cv2.GaussianBlur(specimen, (0, 0), 2.0).clip(0, 255).astype(np.uint8)
    for row, column in np.ndindex(2, 3):
        tile = specimen[row * 120 :, column * 120 :][:160, :160]
        cv2.imwrite(str(folder / "scan" / f"{row}{column}.png"), tile)
    cv2.imwrite(str(folder / "photo.jpg"), picture(120, 160))
    cv2.imwrite(str(folder / "scan.tif"), picture(600, 700).astype(np.uint16) * 257)
    scan = picture(120, 160)[..., 0].astype(np.uint16) * 4
    tifffile.imwrite(folder / "stack.ome.tif", np.stack([scan, scan[::-1]]), ome=True)
    tifffile.imwrite(folder / "slide.ome.tif", scan, ome=True)
    _clip(folder / "clip.mp4", picture)
    torch.manual_seed(0)
    network = DnCNN(channels=3, width=16, depth=4)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(0.5)
    torch.save(network.state_dict(), folder / "my_model.pth")
    convert(folder / "my_model.pth", folder / "my_bundle", name="my_bundle")
    shutil.copytree(folder / "my_bundle", folder / "other")
    shutil.copytree(mask_bundle, folder / "sinet_bundle")
    recipe = RECIPE.format(name="tiny", at_loss="pass") + SPACE.format(steps=2)
    (folder / "tiny.py").write_text(recipe)
    sharp = np.stack([picture(32, 32, seed=seed) for seed in range(4)])
    soft = np.stack([cv2.GaussianBlur(one, (0, 0), 1.2) for one in sharp])
    write_dataset(folder / "pairs", {"train": (soft, sharp), "validation": (soft, sharp)})
    return folder


def _clip(path, picture, frames=5):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        still = picture(96, 160)
        for shift in range(frames):
            image = np.ascontiguousarray(still[:, shift : shift + 128])
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _here(words, folder, fresh):
    """Return a command with its stand-ins, its outputs under a folder of their own."""
    made, output = [], False
    for word in words:
        there = STAND_INS.get(word, word)
        # What a command makes goes where no other command looks.
        if output and there != "-" and "://" not in there:
            there = str(fresh / Path(there.rstrip("/")).name)
        made.append(there)
        output = word in OUTPUTS
    return made


@pytest.mark.slow
@pytest.mark.parametrize("words", ALL)
def test_every_command_runs(words, workplace, tmp_path):
    for option, reason in NOT_RUN.items():
        if option in words:
            pytest.skip(reason)
    arguments = _here(words, workplace, tmp_path)
    if words[0] == "quantize":  # it writes into the bundle
        own = shutil.copytree(workplace / "my_bundle", tmp_path / "my_bundle")
        arguments = [str(own) if word == "my_bundle" else word for word in arguments]
    frames = _y4m(workplace) if words[:2] == ["run", "-"] else None
    done = _run(arguments, workplace, frames)
    # A quantization that does not pay or keep its budget is refused, which pages say too.
    allowed = {0, 3} if "quantize" in words or "--int8" in words else {0}
    assert done.returncode in allowed, done.stderr.decode()


def _run(arguments, folder, frames=None):
    command = [sys.executable, "-m", "edgerestore", *arguments]
    environment = {**os.environ, "EDGERESTORE_CACHE": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, input=frames, capture_output=True, timeout=300
    )


def _y4m(folder):
    done = _run(["run", "clip.mp4", "-o", "-", "--strength", "0"], folder)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_the_reference_lists_every_public_name():
    import edgerestore

    page = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(r"^::: edgerestore\.(\w+)$", page, re.MULTILINE))
    assert listed == {*edgerestore.__all__, "errors"} - {"__version__"}
