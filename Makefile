# The commands are `make demo`, `make demo-cluster` and `make test`. They bring what they need: uv, the locked dependencies
# and, for the tests on Debian as root, the packages they need; a Kubernetes control plane is built with Go, once.
PYTHON ?= python3
TOOLS := .uv
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
ARGS ?=
.PHONY: demo demo-cluster up test check mutants properties histories bench bench-growing kills format clean

demo: .venv/.engines ## break a real engine and watch Interlock mend it
	@.venv/bin/interlock demo $(ARGS)

demo-cluster: .venv/.synced ## fail a GPU node of a real Kubernetes control plane and watch Interlock handle it
	@.venv/bin/python -m tests.kube.demo $(ARGS)

up: .venv/.engines ## the same fleet without faults
	@.venv/bin/interlock up $(ARGS)

test: .venv/.synced ## everything, on real parts (Debian, root)
	bash tests/install.sh
	.venv/bin/python -m tests.kube.build
	$(MAKE) --no-print-directory check
	.venv/bin/python -m tests.run $(ARGS)

check: .venv/.synced ## style, types, direction of imports, catalogue
	.venv/bin/ruff check -q
	.venv/bin/ruff format -q --check
	.venv/bin/mypy
	.venv/bin/lint-imports >/dev/null || .venv/bin/lint-imports
	.venv/bin/interlock runbook check

mutants: .venv/.synced ## every gate and Guard rule, changed in one place: is it caught?
	.venv/bin/python -m tests.mutants $(ARGS)

properties: .venv/.synced ## 10,000 steps of the real Guard and real cases
	INTERLOCK_PROPERTY_STEPS=13400 .venv/bin/python -m tests.run tests/properties -q -p no:logging --tb=short

histories: .venv/.synced ## record tests/histories/ anew
	rm -f tests/histories/*.json
	.venv/bin/python -m tests.run tests/scenarios --record-histories

bench: .venv/.synced ## how fast, beside Robusta and ansible-rulebook: .bench/results, docs/performance.md
	UV=$(UV) .venv/bin/python -m tests.bench $(ARGS)

kills: .venv/.synced ## storms of alerts under SIGKILL, 20 seeded runs, and an audit of each: docs/performance.md
	.venv/bin/python -m tests.bench.kills $(ARGS)

bench-growing: .venv/.synced ## what open cases, more workers and storms cost: .bench/growing, docs/growing.md
	.venv/bin/python -m tests.bench.growing $(ARGS)

format:
	.venv/bin/ruff check -q --fix
	.venv/bin/ruff format -q

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q 'uv>=0.9,<1'

.venv/.synced: $(if $(filter $(TOOLS)/bin/uv,$(UV)),$(UV)) pyproject.toml uv.lock
	$(UV) sync -q --locked --extra demo --extra replay --extra postgres
	@touch $@

.venv/.engines: $(if $(filter $(TOOLS)/bin/uv,$(UV)),$(UV)) pyproject.toml uv.lock
	@$(UV) sync -q --locked --extra demo --extra replay --extra postgres --extra engines
	@touch $@ .venv/.synced

clean:
	rm -rf .venv .uv .state
