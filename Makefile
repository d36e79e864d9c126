# Two commands do all the set-up: `make demo` restores a clip, `make test` passes the tests.
PYTHON ?= python3
OUT := .out
PIP_QUIET := --quiet --disable-pip-version-check

.PHONY: demo test lint docs bench wheel clean

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
	rm -rf $(OUT) .venv dist build
