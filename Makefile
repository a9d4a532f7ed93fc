# `make demo` runs the main job on the embedded sample, `make test` the quick tests, `make test-all`
# every test, `make docs` builds the site, `make dist` what is published. Each installs first if need be.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EPOCH = $(shell git log -1 --format=%ct)
DEMO := runs/demo
DEMO_TRAIN := --data $(DEMO)/store --image-size 32 --model.num_bricks 3 --model.width 16 --epochs 14 --batch-size 32

.PHONY: install demo test test-all test-torch quality docs dist rebuilt sbom audit clean

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
	build/tools/bin/pip-audit --no-deps --disable-pip -r build/installed.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .*_cache
