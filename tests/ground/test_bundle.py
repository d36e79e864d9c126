"""Bundles on disk: found, checked, and written whole or not at all."""

import shutil

import pytest

from edgerestore.bundle.bundle import Bundle, model_names, new_bundle_folder
from edgerestore.errors import BundleError


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(Bundle.find("deblur").folder, folder)
    return folder


def test_the_default_model_ships_and_is_unchanged():
    assert "deblur" in model_names()
    Bundle.find("deblur").verify()


def test_the_default_model_is_under_two_megabytes():
    folder = Bundle.find("deblur").folder
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 2_000_000


def test_a_changed_byte_is_noticed(copy):
    graph = Bundle.find(copy).variant_files("fp32")[0]
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"variants.fp32: .* was changed"):
        Bundle.find(copy).variant_files("fp32")
    with pytest.raises(BundleError):
        Bundle.find(copy).verify()


def test_a_missing_file_is_named(copy):
    graph = Bundle.find(copy).variant_files("fp16")[0]
    graph.unlink()
    with pytest.raises(BundleError, match=f"variants.fp16: fp16/{graph.name} is missing"):
        Bundle.find(copy).verify()


def test_a_variant_it_lacks_is_named_with_those_it_has(copy):
    with pytest.raises(BundleError, match="no int4 model, only fp32, fp16"):
        Bundle.find(copy).variant_files("int4")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no bundle there"):
        Bundle.find(tmp_path)


def test_a_broken_manifest_names_the_folder(copy):
    (copy / "bundle.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match=str(copy)):
        Bundle.find(copy)


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "new"

    def write_half():
        with new_bundle_folder(target) as folder:
            (folder / "model.onnx").write_bytes(b"half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_on_request_and_only_if_it_is_one(copy, tmp_path):
    with pytest.raises(BundleError, match="add --overwrite"), new_bundle_folder(copy):
        pass
    with new_bundle_folder(copy, overwrite=True) as folder:
        (folder / "fresh").touch()
    assert [p.name for p in copy.iterdir()] == ["fresh"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.png").touch()
    with (
        pytest.raises(BundleError, match="not a bundle"),
        new_bundle_folder(other, overwrite=True),
    ):
        pass
    assert (other / "holiday.png").exists()


def test_a_failed_replacement_keeps_the_old_bundle(copy):
    with pytest.raises(RuntimeError), new_bundle_folder(copy, overwrite=True):
        raise RuntimeError
    Bundle.find(copy).verify()
