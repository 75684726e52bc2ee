# Two commands do everything on a fresh machine: `make demo` and `make test`. `make docs` builds the documentation site.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO := config/demo/ctrgcn.yaml

.PHONY: demo test docs browser

demo: $(VENV)/ready  ## raw files -> clip store -> two trained streams -> scores -> fusion -> report
	$(PY) data/demo/make.py --out data/demo/raw
	$(PY) data/ntu/prepare.py --raw data/demo/raw --out data/demo/ctrgcn.clips --classes data/demo/classes.txt --overwrite
	$(PY) main.py --config $(DEMO) --modality joint --phase train --overwrite true
	$(PY) main.py --config $(DEMO) --modality bone --phase train --overwrite true
	$(PY) main.py --config $(DEMO) --modality joint --phase test --weights work_dir/demo/ctrgcn/joint/last.pt --save-score true
	$(PY) main.py --config $(DEMO) --modality bone --phase test --weights work_dir/demo/ctrgcn/bone/last.pt --save-score true
	$(PY) ensemble.py --dataset demo
	$(PY) main.py --config $(DEMO) --modality joint --phase report
	@find work_dir/demo -type f | sort

test: $(VENV)/tools  ## lint, then every test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal

docs: $(VENV)/tools  ## the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo "wrote site/index.html"

browser: $(VENV)/tools  ## the page of docs/browser with the network of the demo, compared with PyTorch in headless Chromium
	npm install --prefix docs/browser --ignore-scripts --no-audit --no-fund
	$(PY) -m benchmarks.browser

$(VENV)/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
	touch $@

$(VENV)/tools: $(VENV)/ready $(wildcard requirements/*.txt) tests/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r tests/requirements.txt
	touch $@
