# `make demo` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# what is compiled is kept, also where a machine says otherwise: hundreds of processes would compile it again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-postgresql check fuzz mutants lint metrics docs bench chaos attacks screenshots lock clean

install: $(READY)

# a venv's own pip is as old as its Python, and takes more than twice as long for the same packages
$(READY): requirements-pip.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: say which with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-pip.lock
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)
	@$(BIN)/connectors demo

# Two workers more than cores: many tests wait for sockets, retries and browsers. KILLS=20 kills hosts longer.
# Then what the ledger promises, and what two hosts could do at once, on PostgreSQL; `make test-postgresql` runs everything there.
PYTEST := $(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 2 )) --dist loadgroup
ON_BOTH := tests/sync/test_sale_to_stamps.py tests/sync/test_ledger_invariants.py tests/sync/test_loyalty_events.py \
	tests/web/test_history_page.py
test: $(READY)
	$(PYTEST)
	DATABASE=postgresql $(PYTEST) $(ON_BOTH)

test-postgresql: $(READY)
	DATABASE=postgresql $(PYTEST)

# For every save, in about a minute: what `lint` looks at, and the tests that start no process and no browser.
CHECKED := tests/sdk tests/poster tests/serve tests/webhook tests/sevenstamp tests/test_plugins.py
check: lint
	$(BIN)/pytest -n $$(getconf _NPROCESSORS_ONLN) --dist loadgroup -m "not slow" $(CHECKED)

# Twenty times as many odd bodies for every mapping.
fuzz: $(READY)
	FUZZ=10000 $(BIN)/pytest tests/test_fuzz.py -n auto

# The arithmetic of stamps, plans and times, broken on purpose in every way; some minutes. Ends with what no test saw.
mutants: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutants.lock
	rm -rf mutants
	$(BIN)/python -P -m mutmut run
	$(BIN)/python -P -m mutmut results

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# How the code reads: sizes, docstrings, comments, complexity and `Any`, beside codebases we learn from.
metrics: $(READY)
	@$(BIN)/python -m tools.code_metrics

# The documentation as a site, in `site/`; anything that leads nowhere is an error.
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html is ready"

# Hosts, workers and the database are killed and cut off while cafes sell; one line for each law at the end.
# CHAOS="--seconds 3600 --kills 1000 --sales 100000 --hosts 3 --workers 4" for the long run.
chaos: $(READY)
	@$(BIN)/python -m tests.chaos $(CHAOS)

# Half an hour; the figures as a table and a picture in bench/results/. BENCH="delivery ingest" for some of them.
bench: $(READY)
	@$(BIN)/python -m bench $(BENCH)

# What others notice while one client does its worst, as a table: ten minutes. ATTACKS=--quick for two.
attacks: $(READY)
	@$(BIN)/python -m bench.attacks $(ATTACKS)

# Every page of the console as a picture: light and dark, wide and narrow.
screenshots: $(READY)
	@$(BIN)/python -m tests.browser.screenshots

# New versions of what we depend on: hashes, no addresses.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		-o requirements.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev \
		-c requirements.lock -o requirements-dev.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra cluster --extra tracing \
		-c requirements.lock -o requirements-cluster.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group mutants \
		-c requirements-dev.lock -o requirements-mutants.lock
	echo pip | uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		-o requirements-pip.lock -

clean:
	rm -rf $(VENV) screenshots .mypy_cache .ruff_cache .pytest_cache .hypothesis dist mutants site
