# `make demo` runs the main job on the embedded sample, `make test` the quick tests, `make test-all`
# every test, `make docs` builds the site, `make dist` what is published. Each installs first if need be.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EPOCH = $(shell git log -1 --format=%ct)
DEMO := runs/demo
DEMO_TRAIN := --data $(DEMO)/store --image-size 32 --model.num_bricks 3 --model.width 16 --epochs 14 --batch-size 32

.PHONY: install demo test test-all test-torch quality docs dist rebuilt sbom audit gpu-pack gpu clean

install: $(VENV)/.installed

# A newer setup.cfg installs again.
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: install
	rm -rf $(DEMO)
	mkdir -p $(DEMO)
	$(BIN)/hccr data sample --out $(DEMO)/sample
	$(BIN)/hccr data prepare $(DEMO)/sample --out $(DEMO)/store
	$(BIN)/hccr data show $(DEMO)/store
	for i in 1 2 3; do \
	  $(BIN)/python trainers/trainer$$i.py --recipe brick_model$$i $(DEMO_TRAIN) --workdir $(DEMO)/model$$i || exit 1; \
	done
	for i in 1 2 3; do \
	  $(BIN)/python predictors/predictor$$i.py --data $(DEMO)/store --split test --workdir $(DEMO)/model$$i --out $(DEMO)/logits$$i.h5 || exit 1; \
	done
	$(BIN)/python predictors/predictor_finalizer.py $(DEMO)/logits1.h5 $(DEMO)/logits2.h5 $(DEMO)/logits3.h5 \
	  --weights 0.3 0.2 0.5 --out $(DEMO)/results
	$(BIN)/hccr cam --data $(DEMO)/store --characters 千百万 --workdir $(DEMO)/model1 $(DEMO)/model2 $(DEMO)/model3 --out $(DEMO)/cams
	@echo "Curves: $(DEMO)/model*/curves.png. Images: $(DEMO)/store-sheet.png, $(DEMO)/results/confused_pairs.png,"
	@echo "$(DEMO)/cams/cam.png."
	@echo "Notebooks on these results: $(BIN)/python -m pip install notebook && $(BIN)/jupyter notebook notebooks/"

PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal --durations 25 --cov hccr_tf

# The quick tiers: everything that takes a moment, needs no process of its own and one backend.
test: quality
	$(PYTEST) -m "not slow and not e2e and not parity" --cov-report=

# Everything; the share of the package's lines that both runs reach. Real data take minutes.
test-all: test
	$(PYTEST) -m "slow or e2e or parity" -o timeout=600 --cov-append --cov-report=term:skip-covered --cov-fail-under=85

# The CPU build where a source of wheels has it; PyTorch isn't needed otherwise.
test-torch: install
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pytest tests/parity/test_recorded_logits.py

quality: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

NOTEBOOKS := $(patsubst %,build/%,$(wildcard notebooks/*.ipynb))

docs: install $(NOTEBOOKS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Site: build/site/index.html. With its search: $(BIN)/python -m http.server -d build/site"

# On the demo's results; again where a notebook has changed.
build/notebooks/%.ipynb: notebooks/%.ipynb | install $(DEMO)/results
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --output-dir build/notebooks $<

$(DEMO)/results:
	$(MAKE) demo

# The wheel is used in an environment with nothing else.
dist: install
	rm -rf dist build/empty
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build
	# setuptools packs times, owners and an order that are the machine's.
	cd dist && f=$$(basename *.tar.gz .tar.gz) && tar xzf $$f.tar.gz && chmod -R u=rwX,go=rX $$f && \
	  tar --sort=name --mtime=@$(EPOCH) --owner=0 --group=0 --numeric-owner --format=gnu -cf - $$f | \
	  gzip -n > $$f.tar.gz && rm -r $$f
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet dist/*.whl
	cd build/empty && bin/hccr --version && bin/hccr predict $(CURDIR)/docs/images/photographs

# The same bytes from the same commit.
rebuilt: dist
	rm -rf build/first && mv dist build/first
	$(MAKE) dist
	diff -r build/first dist && sha256sum dist/*

# What is installed, in CycloneDX's form; and what is known to be wrong in it, where a network reaches
# the database. Both tools stand in an environment of their own.
build/tools:
	$(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install --quiet cyclonedx-bom pip-audit

sbom: install build/tools
	mkdir -p build
	build/tools/bin/cyclonedx-py environment --output-reproducible -o build/sbom.json $(BIN)/python

audit: install build/tools
	$(BIN)/python -m pip freeze --exclude-editable > build/installed.txt
	build/tools/bin/pip-audit --strict --no-deps --disable-pip -r build/installed.txt

# Trainings on a machine with a GPU, which may have no network (docs/training.md). PACK is carried there.
PACK := build/gpu
OUT := results/gpu
GPU_PYTHON := python3
# What such a machine may lack beside JAX, OpenCV and pandas, for its version of Python.
WHEELS := keras namex optree loky tensorboardX
WHEELS_FOR := --python-version 3.12 $(foreach n,2_28 2_27 2_17,--platform manylinux_$(n)_x86_64)
GPU_PARTS := kriuk_model1 kriuk_model2 kriuk_model3 recogniser accuracies
STROKE_FLAGS := --charset gb2312 --per-class 12
GPU :=
ON_GPU = PYTHONPATH=$(CURDIR):$(abspath $(PACK))/site:$$PYTHONPATH KERAS_BACKEND=$${KERAS_BACKEND:-jax} \
  JAX_COMPILATION_CACHE_DIR=$${JAX_COMPILATION_CACHE_DIR:-$(abspath $(PACK))/compiled} \
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 $(GPU_PYTHON)

gpu-pack:
	@test -n "$(DATA)" -a -n "$(STROKES)" || { echo "usage: make gpu-pack DATA=STORE STROKES=FILE"; exit 2; }
	rm -rf $(PACK)
	mkdir -p $(PACK)/strokes $(PACK)/wheels
	cp $(STROKES) $(PACK)/strokes
	tar -C $(DATA) -c . | xz -6 > $(PACK)/store.tar.xz
	test -z "$(WHEELS)" || $(GPU_PYTHON) -m pip download --quiet --only-binary=:all: --no-deps $(WHEELS_FOR) \
	  --dest $(PACK)/wheels $(WHEELS)
	@find $(PACK) -type f -exec wc -c {} +
	@test $$(wc -c < $(PACK)/store.tar.xz) -le 45000000 || { echo "error: the store has over 45 MB."; exit 1; }

gpu: $(PACK)/unpacked
	@failed=; for part in $(GPU_PARTS); do echo "=== $$part"; \
	  $(ON_GPU) benchmarks/gpu.py $$part --pack $(PACK) --out $(OUT) $(GPU) || failed="$$failed $$part"; done; \
	test -z "$$failed" || { echo "Failed:$$failed. The same command tries them again."; exit 1; }

$(PACK)/unpacked:
	@$(GPU_PYTHON) -c "import cv2; cv2.FontFace" || { echo "error: OpenCV 5 is needed there; carry its wheel"; exit 1; }
	rm -rf $(PACK)/work $(PACK)/site
	mkdir -p $(PACK)/work/store
	$(GPU_PYTHON) -m tarfile -e $(PACK)/store.tar.xz $(PACK)/work/store
	$(GPU_PYTHON) -c "import importlib.util as u, sys; sys.exit(not u.find_spec('keras'))" || \
	  $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --target $(PACK)/site $(PACK)/wheels/*.whl
	$(ON_GPU) -m hccr_tf data strokes $(PACK)/strokes/* $(STROKE_FLAGS) --out $(PACK)/work/strokes
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .*_cache
