"""The command that installs an extra: from where the package itself was installed."""

import json
from importlib.metadata import PathDistribution

import pytest

from edgerestore import extensions


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        (
            {"url": "file:///src/my%20checkout", "dir_info": {"editable": True}},
            "pip install -e '/src/my checkout[convert]'",
        ),
        ({"url": "file:///src/checkout", "dir_info": {}}, "pip install '/src/checkout[convert]'"),
        (
            {"url": "file:///tmp/edgerestore-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install '/tmp/edgerestore-0.1.0-py3-none-any.whl[convert]'",
        ),
        ({"url": "https://h/e.whl"}, "pip install 'edgerestore[convert] @ https://h/e.whl'"),
        (None, "pip install 'edgerestore[convert]'"),
    ],
)
def test_it_names_the_checkout_or_the_wheel(tmp_path, monkeypatch, noted, command):
    if noted is not None:
        (tmp_path / "direct_url.json").write_text(json.dumps(noted))
    monkeypatch.setattr(extensions, "distribution", lambda _name: PathDistribution(tmp_path))
    assert extensions.install_command("convert") == command
