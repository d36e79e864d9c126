# Two commands do all the set-up: `make demo` restores a clip, `make test` passes the tests.
PYTHON ?= python3
# The newest Python that is tested; empty where the machine has none.
PYTHON312 ?= $(shell .ci/find_python 3.12)
OUT := .out
PIP_QUIET := --quiet --disable-pip-version-check

.PHONY: demo test test-napari test-312 lint docs bench wheel clean

# A fresh environment with the edge install alone (no torch, onnx or nncf), and the clip restored.
demo:
	rm -rf $(OUT)/demo && mkdir -p $(OUT)/demo
	$(PYTHON) -m venv $(OUT)/demo/venv
	$(OUT)/demo/venv/bin/pip install $(PIP_QUIET) .
	$(OUT)/demo/venv/bin/edgerestore run examples/demo_clip.mp4 -o $(OUT)/demo/restored.mp4
	@echo "restored: $(OUT)/demo/restored.mp4"

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(PIP_QUIET) -c constraints.txt -e '.[dev]'
	touch $@

test: .venv/.installed
	.venv/bin/python -m pytest -n 2 --dist loadfile

# napari and Qt weigh a gigabyte, so that their environment is apart, and that of Python 3.12, too.
.venv-napari/.installed: pyproject.toml constraints.txt
	$(if $(PYTHON312),$(PYTHON312),$(PYTHON)) -m venv .venv-napari
	.venv-napari/bin/pip install $(PIP_QUIET) -c constraints.txt -e '.[napari-test]'
	touch $@

# Warnings of napari and its libraries are not ours to mend.
test-napari: .venv-napari/.installed
	QT_QPA_PLATFORM=offscreen .venv-napari/bin/python -m pytest tests/napari -o filterwarnings=default -q --disable-warnings

# What differs between versions of Python: tifffile and zarr have others, and OpenCV and OpenVINO wheels of their own.
# Conversion is left out: torch's wheel for another Python may bring gigabytes of CUDA.
DIFFERING := tests/imaging/test_tiff.py tests/microscopy/test_control.py

ifeq ($(PYTHON312),)
test-312:
	@echo "Python 3.12 is not on this machine: what differs there is NOT tested"
else
test-312: .venv-napari/.installed
	.venv-napari/bin/python -m pytest $(DIFFERING) -n 2 -m 'not slow and not soak' -o filterwarnings=default -q --disable-warnings
	rm -rf $(OUT)/smoke && mkdir -p $(OUT)/smoke
	.venv-napari/bin/edgerestore run examples/demo_clip.mp4 -o $(OUT)/smoke/restored.mp4
	@echo "Python 3.12: run works"
endif

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The pages as a site in .out/site; a broken link or a name that is gone is an error.
docs: .venv/.installed
	.venv/bin/zensical build --strict

bench: .venv/.installed
	.venv/bin/python -m pytest benchmarks -q

# The artefact itself: built, installed into a clean environment, and run there.
wheel: .venv/.installed
	rm -rf dist && .venv/bin/python -m hatchling build
	rm -rf $(OUT)/wheel && mkdir -p $(OUT)/wheel
	$(PYTHON) -m venv $(OUT)/wheel/venv
	$(OUT)/wheel/venv/bin/pip install $(PIP_QUIET) dist/*.whl
	cd $(OUT)/wheel && venv/bin/edgerestore --version && venv/bin/edgerestore devices && venv/bin/edgerestore info deblur
	cd $(OUT)/wheel && venv/bin/edgerestore run ../../examples/demo_clip.mp4 -o restored.mp4 --overwrite

clean:
	rm -rf $(OUT) .venv .venv-napari dist build
