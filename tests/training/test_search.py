"""The search: trials under a budget, a front, and a recipe that trains with the best settings."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from edgerestore.bundle.bundle import Bundle
from edgerestore.cli.app import run_command_line
from edgerestore.training.batches import Crops
from edgerestore.training.dataset import Split

from .conftest import write_dataset

# The probe makes three steps before the first one.
PROBE = 3


@pytest.fixture
def search(dataset, capsys):
    """Run the command on the tiny dataset; returns its exit code, and the lines of both streams."""

    def run(recipe, folder, *options):
        arguments = ["search", str(recipe), "--data", str(dataset), "-o", str(folder)]
        fixed = ["--threads", "1", "--precision", "f32"]
        code = run_command_line([*arguments, *fixed, *options])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def found_in(folder):
    return json.loads((folder / "front.json").read_text())


def without_times(found):
    return [{**trial, "seconds": None} for trial in found["trials"]]


@pytest.mark.slow
def test_trials_fit_the_budget_and_the_best_one_is_a_recipe(searched, search, train, tmp_path):
    out = tmp_path / "out"
    code, lines, _ = search(
        searched(), out, "--trials", "5", "--budget-gmac", "0.9", "--crop", "16"
    )
    assert code == 0
    found = found_in(out)
    trials = {trial["number"]: trial for trial in found["trials"]}
    assert all(trial["gmac"] <= 0.9 for trial in trials.values())
    assert len({trial["gmac"] for trial in trials.values()}) > 1
    # The recipe's own settings come first: its network, rate and weight of the loss.
    assert trials[0]["own"]
    assert trials[0]["settings"]["schedule"] == {"crop_px": 16, "learning_rate": 0.0015}
    assert trials[0]["settings"]["losses"]["charbonnier"] == 1.0
    assert trials[0]["settings"]["network"]["widths"] == [8, 8]
    front = [trials[number] for number in found["front"]]
    for cheap, dear in pairwise(front):
        assert cheap["gmac"] < dear["gmac"]
        assert cheap["gain_db"] < dear["gain_db"]
    assert found["best"] == found["front"][-1]
    assert sum(line.startswith("* ") for line in lines) == 1  # the best one's row
    # What the best trial trained is what its file trains, at the recipe's length.
    best, run = trials[found["best"]], tmp_path / "run"
    assert train(out / "best.py", run)[0] == 0
    schedule = torch.load(run / "checkpoint.pt", weights_only=True)["schedule"]
    assert schedule["learning_rate"] == best["settings"]["schedule"]["learning_rate"]
    assert (schedule["steps"], schedule["crop_px"]) == (16, 16)
    bundle = tmp_path / "bundle"
    assert run_command_line(["convert", str(run / "model.pth"), "-o", str(bundle)]) == 0
    manifest = Bundle.find(bundle).manifest
    assert manifest.source["arguments"].items() >= best["settings"]["network"].items()
    assert manifest.gmac_720p == best["gmac"]


def test_the_report_shows_every_trial(searched, search, tmp_path):
    out = tmp_path / "out"
    assert search(searched(), out, "--trials", "3")[0] == 0
    page = (out / "report.html").read_text()
    found = found_in(out)
    assert page.count("trial 2: ") == 1  # its mark in the chart
    for trial in found["trials"]:
        assert f'<td class="right">{trial["gain_db"]:+.3f}</td>' in page
    assert "no budget" in page
    assert not re.search(r"(src|href)=.http", page)


@pytest.mark.slow
def test_a_killed_search_ends_as_an_uninterrupted_one(searched, search, dataset, tmp_path):
    out, options = tmp_path / "out", ["--trials", "3", "--sampler", "cma", "--seed", "5"]
    kills = "if SEEN == int(os.environ.get('KILL_AT', 0)): os.kill(os.getpid(), signal.SIGKILL)"
    own = searched(at_loss=kills)
    command = [sys.executable, "-m", "edgerestore", "search", str(own), "--data", str(dataset)]
    done = subprocess.run(
        [*command, "-o", str(out), "--threads", "1", "--precision", "f32", *options],
        env={**os.environ, "KILL_AT": str(2 * PROBE + 2 + 2)},  # the last step of the second trial
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert [trial["status"] for trial in found_in(out)["trials"]] == ["complete"]
    code, _, notices = search(searched(), out, *options)
    assert code == 0
    assert "trial 1: goes on from step 1" in notices
    assert search(searched(), tmp_path / "whole", *options)[0] == 0
    assert without_times(found_in(out)) == without_times(found_in(tmp_path / "whole"))
    assert not list(out.glob("trials/*/checkpoint.pt"))


def test_an_interrupt_and_the_end_of_the_time_keep_the_trial(searched, search, tmp_path):
    out = tmp_path / "out"
    own = searched(at_loss=f"if SEEN == {PROBE + 1}: os.kill(os.getpid(), signal.SIGINT)")
    code, _, lines = search(own, out, "--trials", "1")
    assert code == 130
    assert lines[-1] == "trial 0: stopped after step 1; the same command goes on"
    slow = searched(at_loss="__import__('time').sleep(0.5)")
    code, lines, _ = search(slow, tmp_path / "slow", "--trials", "1", "--time", "0.0003")
    assert (code, lines) == (0, ["stopped by --time after 0 trials; the same command goes on"])
    for folder in (out, tmp_path / "slow"):
        code, lines, notices = search(searched(), folder, "--trials", "1")
        assert code == 0
        assert "trial 0: goes on from step 1" in notices
        assert lines[0].startswith("trial 0: ")


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(searched, search, tmp_path):
    out = tmp_path / "out"
    own = searched(at_loss=f"value = value / (SEEN != {PROBE + 2})")
    code, lines, _ = search(own, out, "--trials", "2")
    assert code == 0
    first, second = found_in(out)["trials"]
    assert first["status"] == "failed"
    assert first["reason"].startswith("step 1: the loss or its gradient is not finite")
    assert second["status"] == "complete"
    assert "failed: step 1: the loss" in lines[0]
    assert "step 1: the loss" in (out / "report.html").read_text()
    assert (out / "trials" / "0000" / "bad_batch.npz").exists()
    none = tmp_path / "none"
    code, _, lines = search(searched(at_loss="value = value / 0"), none, "--trials", "2")
    assert code == 1
    assert lines[-1].startswith(f"edgerestore: {none}: none of 2 trials was completed")


@pytest.mark.slow
def test_a_trial_behind_the_others_is_pruned(searched, search, tmp_path):
    out = tmp_path / "out"
    # From the sixth trial on the network learns to blur.
    own = searched(steps=3, at_loss=f"value = value if SEEN <= {5 * (PROBE + 3)} else -value * 1e3")
    code, lines, _ = search(own, out, "--trials", "6")
    assert code == 0
    last = found_in(out)["trials"][-1]
    assert (last["status"], last["step"]) == ("pruned", 1)
    assert 5 not in found_in(out)["front"]
    assert "pruned after step 1" in lines[5]


def test_shares_of_several_datasets_are_searched(searched, search, train, dataset, tmp_path):
    out = tmp_path / "out"
    code, *_ = search(searched(), out, "--data", str(dataset), "--trials", "2")
    assert code == 0
    shares = [trial["settings"]["schedule"]["shares"] for trial in found_in(out)["trials"]]
    assert shares[0] == [0.5, 0.5]  # the recipe's own: all pairs alike
    assert shares[1] != shares[0]
    assert sum(shares[1]) == pytest.approx(1, abs=1e-3)
    code, lines = train(out / "best.py", tmp_path / "run")
    assert code == 2
    assert "has shares of 2 datasets, and 1 are given" in lines[-1]
    assert train(out / "best.py", tmp_path / "run", "--data", str(dataset))[0] == 0


def test_crops_are_drawn_by_share(tmp_path):
    def flat(level):
        pictures = np.full((3, 8, 8, 3), level, np.uint8)
        return Split(pictures, pictures)

    crops = Crops([flat(0), flat(1)], 8, 1000, 1, shares=(1.0, 3.0))
    inputs, targets = crops.at(0)
    assert inputs[:, 0, 0, 0].mean() == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(inputs, targets)


def test_what_does_not_belong_to_a_search_is_refused(searched, search, tmp_path):
    out = tmp_path / "out"
    assert search(searched(), out, "--trials", "1")[0] == 0
    before = found_in(out)
    for options, told in {
        ("--budget-gmac", "0.5"): "budget_gmac None, now 0.5",
        ("--seed", "7"): "seed 0, now 7",
        ("--sampler", "cma"): "sampler tpe, now cma",
        ("--steps", "3"): "steps 2, now 3",
        ("--batch", "1"): "other schedule",
    }.items():
        code, _, lines = search(searched(), out, "--trials", "2", *options)
        assert code == 2
        assert lines[-1].startswith(
            f"edgerestore: {out / 'search.db'}: is of another search ({told}"
        )
    own = searched()
    own.write_text(own.read_text().replace("(4, 20)", "(4, 24)"))
    code, _, lines = search(own, out, "--trials", "2")
    assert code == 2
    assert "(other space); use that one, or another folder for -o" in lines[-1]
    assert found_in(out) == before
    assert search(searched(), out, "--trials", "1")[0] == 0


@pytest.mark.parametrize("text", [b"no database" * 100, None])
def test_a_broken_storage_is_refused_and_left_as_it_is(searched, search, tmp_path, text):
    out = tmp_path / "out"
    assert search(searched(), out, "--trials", "1")[0] == 0
    database = out / "search.db"
    database.write_bytes(text or database.read_bytes()[:20_000])
    before = database.read_bytes()
    code, _, lines = search(searched(), out, "--trials", "2")
    assert code == 1
    assert lines[-1].startswith(f"edgerestore: {database}: (sqlite3.DatabaseError)")
    assert "another folder for -o" in lines[-1]
    assert database.read_bytes() == before


def test_two_searches_in_one_folder_are_refused(searched, search, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with (out / "search.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, lines = search(searched(), out)
    assert code == 1
    assert "another search is at work there" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-gmac", "0.1"], "the least network of recipe tiny needs 0.2"),
        (["--budget-gmac", "-1"], "--budget-gmac -1: expected a number above 0"),
        (["--sampler", "grid"], "sampler 'grid' is not known; use tpe, cma"),
        (["--time", "nan"], "--time nan: expected a number above 0"),
    ],
)
def test_what_cannot_be_searched_is_one_line(searched, search, tmp_path, options, message):
    code, _, lines = search(searched(), tmp_path / "out", *options)
    assert code == 2
    assert message in lines[-1]
    assert not (tmp_path / "out").exists()


def test_spaces_that_make_no_sense_are_refused(searched, search, recipe, tmp_path):
    for good, bad, told in [
        ("(1e-3, 1e-2)", "(1e-2, 1e-3)", "space: learning_rate (0.01, 0.001): write (least, most)"),
        ('"fft": (0.01, 0.1)', '"fft": (0, 0.1)', "space: losses fft (0, 0.1)"),
        ('"fft"', '"fast"', "loss fast: use l1"),
        ("((4, 12), (4, 20))", "((4, 10), (4, 20))", "widths (4, 10)"),
        ("decode_depths=((0, 1),)", "decode_depths=()", "the network of its space cannot be made"),
    ]:
        own = searched()
        own.write_text(own.read_text().replace(good, bad))
        code, _, lines = search(own, tmp_path / "out")
        assert code == 2
        assert told in lines[-1]
    code, _, lines = search(recipe(), tmp_path / "out")
    assert code == 2
    assert "recipe tiny: has no space" in lines[-1]
    inputs, cut_outs = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32, 4), np.uint8)
    masks = write_dataset(tmp_path / "masks", {"train": (inputs, cut_outs)})
    code, _, lines = search(searched(), tmp_path / "out", "--data", str(masks))
    assert code == 2
    assert "is judged by its masks" in lines[-1]
