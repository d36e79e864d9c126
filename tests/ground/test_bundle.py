"""Bundles on disk: found, checked, and written whole or not at all."""

import shutil

import onnx
import pytest
from msgspec.structs import replace

from edgerestore.bundle.bundle import (
    Bundle,
    file_info,
    model_names,
    new_bundle_folder,
    stored_files,
    stored_graphs,
    write_manifest,
)
from edgerestore.cli.app import run_command_line
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


def test_weights_that_the_manifest_does_not_list_are_not_read(copy):
    manifest = Bundle.find(copy).manifest
    variant = manifest.variants["fp16"]
    graph = {"fp16/model.xml": variant.files["fp16/model.xml"]}
    variants = {**manifest.variants, "fp16": replace(variant, files=graph)}
    write_manifest(copy, replace(manifest, variants=variants))
    with pytest.raises(BundleError, match=r"variants.fp16: model.bin is not in the manifest"):
        Bundle.find(copy).verify()


@pytest.mark.parametrize("padded", [False, True])
def test_graphs_that_read_another_file_are_refused(copy, padded):
    graph = onnx.load(copy / "model.onnx")
    onnx.save(
        graph, copy / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=1
    )
    if padded:  # the same number in one byte more, as no writer does and every reader takes
        content = (copy / "model.onnx").read_bytes()
        entry = b"\x0a\x08location\x12\x05w.bin"
        at = content.index(entry)
        assert content[at - 2 : at] == bytes([13 << 3 | 2, len(entry)])
        long = bytes([len(entry) + 1]) + entry.replace(b"\x08l", b"\x88\x00l")
        # Lengths of the messages around it no longer fit; what is looked for does not need them.
        (copy / "model.onnx").write_bytes(content[: at - 1] + long + content[at + len(entry) :])
    manifest = Bundle.find(copy).manifest
    files = {"model.onnx": file_info(copy / "model.onnx")}
    fp32 = replace(manifest.variants["fp32"], files=files)
    write_manifest(copy, replace(manifest, variants={**manifest.variants, "fp32": fp32}))
    with pytest.raises(BundleError, match=r"fp32: model.onnx reads weights from another file"):
        Bundle.find(copy).variant_files("fp32")
    Bundle.find(copy).variant_files("fp16")


def test_a_manifest_that_cannot_be_read_is_one_line(copy):
    manifest = copy / "bundle.json"
    manifest.write_bytes(b" " * (17 << 20))
    with pytest.raises(BundleError, match=r"bundle.json is larger than 16 MiB"):
        Bundle.find(copy)


def test_nothing_that_steers_a_terminal_is_printed_of_a_bundle(copy, capsys):
    manifest = Bundle.find(copy).manifest
    source = {**manifest.source, "architecture": "\x1b[2Jnet\u202e"}
    told = {"summary": "\x1b]0;title\x07", "task": "a\rb", "licence": "\x9b31m\ud800"}
    write_manifest(copy, replace(manifest, source=source, **told))
    for arguments in (["info", str(copy)], ["info", "--json", str(copy)]):
        assert run_command_line(arguments) == 0
        printed = capsys.readouterr().out
        assert all(line.isprintable() for line in printed.splitlines())
        assert "net" in printed


def test_every_variant_has_one_place(copy):
    assert stored_graphs(copy).keys() == Bundle.find(copy).manifest.variants.keys()
    for variant, told in Bundle.find(copy).manifest.variants.items():
        assert stored_files(copy, variant) == told.files


def test_a_checkpoint_in_place_of_a_bundle_is_to_be_converted_first(tmp_path):
    path = tmp_path / "sd.pth"
    path.write_bytes(b"weights")
    with pytest.raises(BundleError, match=r"sd\.pth: is a file, not a bundle; convert it first"):
        Bundle.find(path)
