# Everything happens in .venv; a second call takes seconds. PYTHON may name another interpreter, 3.10 to 3.13.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := demo-results
DEMO_CASE := DUKE_S000100

.PHONY: demo test lint bench

demo: $(DEMO)/result/report.html
	@echo "Report: $(abspath $<)"

$(DEMO)/result/report.html: | $(INSTALLED)
	test -d $(DEMO)/exam || $(BIN)/breast-tumor-seg simulate $(DEMO)/exam --site DUKE --cases 1 --seed 100
	$(BIN)/breast-tumor-seg inspect $(DEMO)/exam/images/$(DEMO_CASE)
	$(BIN)/breast-tumor-seg segment $(DEMO)/exam/images/$(DEMO_CASE) $(DEMO)/result

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Many minutes, on a machine that does nothing else; docs/performance.md keeps what it printed.
bench: $(INSTALLED)
	$(BIN)/python Testing/benchmarks/network.py
	$(BIN)/python Testing/benchmarks/whole_job.py --runs 5 --growth
	OMP_NUM_THREADS=1 $(BIN)/python Testing/benchmarks/surface.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first, so that no other package chooses its build.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@
