"""The benchmarks' own plugin: efforts, clips, and tables printed at the end and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Effort, Table, machine_facts

ROOT = Path(__file__).resolve().parent.parent
_TABLES = pytest.StashKey[list[Table]]()
_MACHINE = pytest.StashKey[dict[str, object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few repeats: see it run, trust nothing")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLES] = []
    config.stash[_MACHINE] = machine_facts()


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> Effort:
    """How long to measure."""
    return Effort.quick() if pytestconfig.getoption("--quick") else Effort()


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Callable[[str], Table]:
    """Open a table; it is printed once everything has run."""

    def open_table(title: str) -> Table:
        fresh = Table(title)
        pytestconfig.stash[_TABLES].append(fresh)
        return fresh

    return open_table


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled models and measured settings of this run only, shared with child processes."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGERESTORE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs and checkpoints that are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data of ../shared/data, absent here")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, effort: Effort) -> Path:
    """1280x720 at 30 frames a second."""
    from .scenes import write_clip

    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 720, 1280, effort.frames)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tables = [table for table in config.stash[_TABLES] if table.rows]
    if not tables:
        return
    machine = config.stash[_MACHINE]
    say = terminalreporter.write_line
    terminalreporter.section("benchmarks")
    say(f"{machine['cpu']}, {machine['cores']} cores, load before {machine['load_before']}")
    say(f"isa: {' '.join(machine['isa'])}")  # type: ignore[arg-type]
    say(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))  # type: ignore[attr-defined]
    if config.getoption("--quick"):
        say("--quick: these figures show that the suite runs, and nothing else", red=True)
    for table in tables:
        say("")
        for line in table.lines():
            say(line)
    path = ROOT / ".out" / "benchmarks.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "quick": bool(config.getoption("--quick")),
        "machine": machine,
        "tables": [table.as_dict() for table in tables],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    say(f"\nwritten to {path.relative_to(ROOT)}")
