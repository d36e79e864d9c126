"""Where compiled models and measurements are kept, and where they are not."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from edgerestore.runtimes import cache
from edgerestore.runtimes.cache import cache_folder


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No home to cache in, and a temporary directory of this test's."""
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for name in ("EDGERESTORE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache._uncached.cache_clear()
    return tmp_path / f"edgerestore-{os.getuid()}"


def test_a_named_folder_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "here"))
    assert cache_folder("precision") == tmp_path / "here" / "precision"


def test_without_a_home_a_folder_of_the_users_own_is_used(homeless: Path) -> None:
    assert cache_folder("precision") == homeless / "precision"
    assert stat.S_IMODE(homeless.stat().st_mode) == 0o700


def test_no_home_and_no_user_is_no_failure(monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert cache_folder("precision") == homeless / "precision"


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_others_may_write_is_not_used(
    kind: str, homeless: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "open":
        homeless.mkdir()
        homeless.chmod(0o777)
    elif kind == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        homeless.symlink_to(tmp_path / "theirs")
    else:
        homeless.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        folder = cache_folder("precision")
        again = cache_folder("openvino")
    assert homeless not in folder.parents
    assert folder.parent == again.parent
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    (line,) = caplog.messages
    assert "is not this user's alone" in line
