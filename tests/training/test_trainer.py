"""The training loop: it learns, it goes on after a kill as if it had not been killed, and it stops
with a reason.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from edgerestore.cli.app import run_command_line

from ..checked import not_none

# The probe makes three steps before the first one.
PROBE = 3


def weights(folder):
    return torch.load(folder / "model.pth", weights_only=True)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_learns_and_leaves_a_model_that_convert_takes(recipe, train, tmp_path, capsys):
    own, out = recipe(), tmp_path / "out"
    code, _ = train(own, out, "--steps", "150", "--every", "50", "--rate", "5e-3")
    assert code == 0
    log = rows(out)
    assert [row["step"] for row in log] == ["50", "100", "150"]
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert float(log[-1]["gain_db"]) > 0.3
    assert (out / "curves.png").stat().st_size > 1000
    sheet = cv2.imread(str(out / "samples" / "0000150.jpg"))
    assert not_none(sheet).shape == (3 * 32, 3 * 32, 3)
    assert run_command_line(["convert", str(out / "model.pth"), "-o", str(tmp_path / "b")]) == 0
    assert "shuffle_unet" in capsys.readouterr().out


def run_apart(recipe, dataset, folder, signal_at, *options):
    """Run the command in a process of its own, which gets a signal at a loss."""
    command = [sys.executable, "-m", "edgerestore", "train", str(recipe), "--data", str(dataset)]
    return subprocess.run(
        [*command, "-o", str(folder), "--threads", "1", "--precision", "f32", *options],
        env={**os.environ, "SIGNAL_AT": str(PROBE + signal_at)},
        capture_output=True,
        text=True,
    )


def sends(name):
    return f"if SEEN == int(os.environ.get('SIGNAL_AT', 0)): os.kill(os.getpid(), signal.{name})"


def test_a_killed_run_ends_bit_for_bit_as_an_uninterrupted_one(recipe, train, dataset, tmp_path):
    parts = tmp_path / "parts"
    done = run_apart(recipe(at_loss=sends("SIGKILL")), dataset, parts, 13)
    assert done.returncode == -signal.SIGKILL
    assert [row["step"] for row in rows(parts)] == ["4", "8", "12"]
    assert not (parts / "model.pth").exists()
    code, notices = train(recipe(), parts)
    assert code == 0
    assert "goes on from step 12" in notices
    assert train(recipe(), tmp_path / "whole")[0] == 0
    assert_same(weights(parts), weights(tmp_path / "whole"))
    assert [row["step"] for row in rows(parts)] == ["4", "8", "12", "16"]


def test_an_interrupt_stops_at_a_checkpoint(recipe, train, dataset, tmp_path):
    out = tmp_path / "out"
    # Not in this process: OpenVINO, which other tests load, may leave it no stack for signals.
    done = run_apart(recipe(at_loss=sends("SIGINT")), dataset, out, 7)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "stopped after step 7; the same command goes on"
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 7
    assert train(recipe(), out)[0] == 0
    assert train(recipe(), tmp_path / "whole")[0] == 0
    assert_same(weights(out), weights(tmp_path / "whole"))
    written = [[row["loss"] for row in rows(folder)] for folder in (out, tmp_path / "whole")]
    assert written[0] == written[1]


def test_a_loss_that_is_not_finite_stops_and_keeps_its_batch(recipe, train, tmp_path):
    out = tmp_path / "out"
    code, lines = train(recipe(at_loss=f"value = value / (SEEN != {PROBE + 8})"), out)
    assert code == 1
    assert lines[-1].startswith("edgerestore: step 7: the loss or its gradient is not finite")
    assert str(out / "bad_batch.npz") in lines[-1]
    with np.load(out / "bad_batch.npz") as kept:
        assert kept["inputs"].shape == kept["targets"].shape == (2, 24, 24, 3)
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 4


def test_a_full_disk_leaves_the_last_good_checkpoint(recipe, train, tmp_path):
    out, full = tmp_path / "out", "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, -1))"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    import resource

    try:
        code, lines = train(recipe(at_loss=f"if SEEN == {PROBE + 7}: {full}"), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    assert code == 1
    assert f"{out / 'checkpoint.pt'}: cannot be written: " in lines[-1]
    assert "File too large" in lines[-1]
    assert "the one before is kept" in lines[-1]
    assert not list(out.glob("*.part"))
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 4
    assert train(recipe(), out)[0] == 0


def test_what_does_not_belong_to_a_run_is_refused(recipe, train, tmp_path):
    out = tmp_path / "out"
    assert train(recipe(), out)[0] == 0
    code, lines = train(recipe("other"), out)
    assert (code, lines[-1]) == (
        1,
        f"edgerestore: {out / 'checkpoint.pt'}: is of recipe tiny, not other; use another folder"
        " for -o",
    )
    code, lines = train(recipe(), out, "--rate", "0.1")
    assert code == 2
    assert "another schedule (learning_rate 0.0015, now 0.1)" in lines[-1]
    (out / "checkpoint.pt").write_bytes(b"no checkpoint")
    code, lines = train(recipe(), out)
    assert code == 1
    assert "is damaged" in lines[-1]


def test_more_steps_go_on_where_the_run_had_ended(recipe, train, tmp_path):
    out = tmp_path / "out"
    assert train(recipe(), out)[0] == 0
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    torch.save({**state, "qat": False}, out / "checkpoint.pt")  # as it was written once
    code, lines = train(recipe(), out, "--steps", "18")
    assert code == 0
    assert "goes on with another schedule than before: steps 16, now 18" in lines
    assert rows(out)[-1]["step"] == "18"


def test_weights_to_start_from(recipe, train, tmp_path):
    assert train(recipe(), tmp_path / "first")[0] == 0
    model = tmp_path / "first" / "model.pth"
    code, _ = train(recipe(), tmp_path / "more", "--initial", str(model), "--rate", "1e-12")
    assert code == 0
    before, after = weights(tmp_path / "first"), weights(tmp_path / "more")
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    code, lines = train(recipe(), tmp_path / "no", "--initial", str(other))
    assert code == 1
    assert f"{other}: does not fit the network of recipe tiny: 16 weights missing" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "64"], "pairs of 32 px are smaller than the recipe's crops of 64 px"),
        (["--crop", "23"], "does not take crops of 23x23x3 and 23x23x3"),
        (["--device", "cuda:7"], "PyTorch has none here"),
    ],
)
def test_what_cannot_be_trained_is_one_line(recipe, train, tmp_path, options, message):
    code, lines = train(recipe(), tmp_path / "out", *options)
    assert code == 1
    assert message in lines[-1]


def test_recipes_are_listed_and_found_by_name(train, tmp_path, capsys):
    assert run_command_line(["train", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"deblur", "denoise-gray", "sr-x4"} < set(listed)
    code, lines = train("sharpen", tmp_path)
    assert code == 2
    assert lines[-1].startswith(
        "edgerestore: recipe 'sharpen' is not known; use FILE.py or one of cutout, deblur,"
    )
    broken = tmp_path / "broken.py"
    for text, told in {"1 / 0": "ZeroDivisionError", "x = 1": "has no RECIPE"}.items():
        broken.write_text(text)
        code, lines = train(broken, tmp_path)
        assert code == 2
        assert f"{broken}: {told}" in lines[-1]
    assert run_command_line(["train", "deblur"]) == 2
