# The words of the README as commands. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PROTOOLS := $(BIN)/protools

.DEFAULT_GOAL := help
.PHONY: security secrets-baseline sbom help install lock run run-pulsar stop test lint format contract proto fault-cases crash-matrix control-arms mutate \
	simulate chaos bench k6 bench-peers bench-embedded bench-history bench-timers bench-items bench-traces bench-scale bench-memory bench-docs \
	scenario-modifiability scenario-scalability scenario-availability k6-binary k6-overload k6-soak outside schemathesis

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What `make run` needs, and setuptools, as locked, which installs the package itself.
.venv/.run: requirements-run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || { echo 'making .venv'; $(PYTHON) -m venv .venv; }
	@echo 'installing into .venv what Protools runs on (once, less than a minute)'
	@{ cat requirements-run.txt; sed -n '/^setuptools==/,/# via/p' requirements.txt; } >.venv/run.txt
	@$(PIP) --require-hashes -r .venv/run.txt
	@echo 'installing Protools itself, from this folder'
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.stamp: .venv/.run requirements.txt
	@echo 'installing into .venv what its tests and tools need (once, about a minute)'
	@$(PIP) --require-hashes -r requirements.txt
	@touch $@

install: .venv/.stamp ## Build .venv whole, with what tests need (done once, and again when the lock changes)

LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes pyproject.toml

lock: ## Write requirements.txt (all) and requirements-run.txt (the image's) anew from pyproject.toml, with hashes
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(LOCK) --extra dev -o requirements.txt
	$(LOCK) --constraint requirements.txt -o requirements-run.txt
	$(LOCK) --extra security --constraint requirements.txt -o requirements-security.txt

# Nobody is asked who they are, unless the environment says how: then that is in force.
run run-pulsar: export AUTH ?= $(if $(JWT_SECRET)$(JWKS_URL)$(JWKS_FILE),,none)

run: .venv/.run ## Run everything on this machine: embedded broker, SQLite (ARGS="--replicas generador=3")
	@exec $(PROTOOLS) up $(ARGS)

run-pulsar: .venv/.run ## Run everything on a local Pulsar and PostgreSQL, started first if need be
	@$(PROTOOLS) broker start >/dev/null && $(PROTOOLS) postgres start >/dev/null
	@echo 'Pulsar and PostgreSQL run. To point another terminal at them:'
	@echo '  eval "$$($(PROTOOLS) env)"'
	@echo 'Ctrl-C ends Protools; "make stop" ends Pulsar and PostgreSQL.'
	@environment="$$($(PROTOOLS) env)" && eval "$$environment" && exec $(PROTOOLS) up $(ARGS)

stop: .venv/.run ## Stop the local Pulsar and PostgreSQL; their data stays
	@$(PROTOOLS) broker stop; $(PROTOOLS) postgres stop

# The tests that mostly wait, for brokers, kills and time-outs, run beside those that compute; these are shown at the end.
WAITING := faults system
COMPUTING = $(filter-out $(WAITING:%=tests/%) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
TWO_RUNS = { said=$$(mktemp); $(BIN)/pytest $(COMPUTING) >$$said 2>&1 & other=$$!; failed=0; \
	$(BIN)/pytest $(WAITING:%=tests/%) || failed=1; wait $$other || failed=1; cat $$said; rm $$said; exit $$failed; }

test: .venv/.stamp ## Lint, then the whole test suite; it starts a Pulsar and a PostgreSQL of its own
	@status=0; $(MAKE) --no-print-directory lint || status=1; \
		$(if $(ARGS),$(BIN)/pytest $(ARGS),$(TWO_RUNS)) || status=1; exit $$status

lint: .venv/.stamp ## ruff, mypy and the import contracts
	@status=0; \
		$(BIN)/ruff check . || status=1; \
		$(BIN)/ruff format --check . || status=1; \
		$(BIN)/mypy || status=1; \
		$(BIN)/lint-imports --no-logo || status=1; \
		exit $$status

.security/.stamp: requirements-security.txt
	test -x .security/bin/python || $(PYTHON) -m venv .security
	.security/bin/python -m pip install --quiet --require-hashes -r requirements-security.txt
	@touch $@

security: .security/.stamp ## Weaknesses in the sources, secrets in the repository, known vulnerabilities of what runs
	@exec $(PYTHON) .ci/security

secrets-baseline: .security/.stamp ## Note what looks like a secret as looked at; read the difference before you commit it
	@exec $(PYTHON) .ci/security --note

sbom: .security/.stamp ## List what the program is made of, as CycloneDX (sbom.json)
	@.security/bin/cyclonedx-py requirements requirements-run.txt --pyproject pyproject.toml --of JSON -o sbom.json

format: .venv/.stamp ## Let ruff put imports and lines in order
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

contract: .venv/.stamp ## Write the documents that callers rely on anew from the code (src/bff/contract)
	@$(PROTOOLS) make documents

PROTO := src/usuarios/sessions/sessions.proto
OUT ?= src

proto: .venv/.stamp ## Generate the stubs of sessions over gRPC anew, beside their .proto
	@$(BIN)/python -m grpc_tools.protoc -I src --python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) $(PROTO)

fault-cases: .venv/.stamp ## The original workflow's fault cases in every setting, with a longer overload
	@FAULT_MODES="pulsar-3 pulsar-1 embedded-1" OVERLOAD_S=30 $(BIN)/pytest tests/faults/test_cases.py -s $(ARGS)

crash-matrix: .venv/.stamp ## Kill a process at every seam it passes, once and twice (MODE=embedded or pulsar, PAIRS=50)
	@$(BIN)/python -m tests.faults.crash_matrix --mode $(or $(MODE),embedded) --pairs $(or $(PAIRS),50) $(ARGS)

control-arms: .venv/.stamp ## Take each guard away and see its test go red
	@$(BIN)/python -m tests.faults.control_arms

mutate: .venv/.stamp ## Change the code in thousands of small ways and count what the tests see (ARGS="engine verify inbox outbox")
	@exec $(BIN)/python -m tests.mutation $(ARGS)

chaos: .venv/.stamp ## Storms over hundreds of sagas (MODE=pulsar|embedded SEED=7; ARGS="--help" says what else)
	@exec $(BIN)/python -m tests.faults.chaos --mode $(or $(MODE),pulsar) $(if $(SEED),--seed $(SEED)) $(ARGS)

schemathesis: .venv/.stamp ## Let schemathesis try the front door at length (EXAMPLES=100 SEED=7)
	@EXAMPLES=$(or $(EXAMPLES),100) SEED=$(or $(SEED),7) $(BIN)/pytest -q -s tests/outside/test_schemathesis.py $(ARGS)

outside: .venv/.stamp ## Send the outside suites through the front door and print the table of counts
	@exec $(BIN)/pytest -q tests/outside $(ARGS)

bench: .venv/.stamp ## Measure Protools beside the floor, 8 minutes (ARGS="--help" says more)
	@exec $(BIN)/python -m bench --only floor --only protools $(ARGS)

bench-peers: .venv/.stamp ## Measure Protools, the floor, DBOS, Restate and Temporal in one run, some 15 minutes
	@$(BIN)/python -m bench.peers.install
	@exec $(BIN)/python -m bench $(ARGS)

bench-embedded: .venv/.stamp ## Measure Protools on the embedded broker and SQLite alone, 2 minutes
	@exec $(BIN)/python -m bench --only embedded --out bench/out/embedded.json $(ARGS)

bench-history: .venv/.stamp ## Measure what a saga costs beside a million finished ones, 12 minutes (ARGS="--upto 100000": 5)
	@exec $(BIN)/python -m bench.history $(ARGS)

bench-timers: .venv/.stamp ## Measure running sagas beside 100,000 that wait, and 1,000 that are due at once, 8 minutes
	@exec $(BIN)/python -m bench.timers $(ARGS)

bench-items: .venv/.stamp ## Measure what an item of a ForEach costs in sagas of 1, 10, 100 and 1,000, 2 minutes (ARGS="--embedded")
	@exec $(BIN)/python -m bench.items $(ARGS)

bench-scale: .venv/.stamp ## Measure the same work on 1, 2 and 4 replicas of every worker: rate, and who waits for whom, 6 minutes
	@exec $(BIN)/python -m bench.scale $(ARGS)

bench-traces: .venv/.stamp ## Measure what tracing costs while it is off and at a tenth of all sagas, and lines of the log, 2 minutes
	@exec $(BIN)/python -m bench.traces $(ARGS)

bench-memory: .venv/.stamp ## Measure what every process grows by over 100,000 sagas, 5 minutes (ARGS="--sagas 1000000 --embedded")
	@exec $(BIN)/python -m bench.memory $(ARGS)

scenario-modifiability: .venv/.stamp ## Add a third wire format by the guide, use it, and count what was touched, 1 minute
	@exec $(BIN)/pytest -q tests/service/test_formats.py tests/system/test_adding.py $(ARGS)

scenario-scalability: .venv/.stamp k6-binary ## 200 users create products and orders, 200 list, on 1 and 2 replicas, 6 minutes
	@$(WITH_K6); exec $(BIN)/python -m bench.scenarios.scalability --draw $(ARGS)

scenario-availability: .venv/.stamp ## Each service, the broker and the databases away for 60 s under load, 20 minutes (ARGS="--only bff")
	@exec $(BIN)/python -m bench.scenarios.availability --draw $(ARGS)

bench-docs: .venv/.stamp ## Put the last run into docs/performance.md and docs/img
	@$(BIN)/python -m bench.peers.install plots
	@exec $(BIN)/python -m bench.publish

SEEDS ?= 1000
START ?= 0

simulate: .venv/.stamp ## Run schedules of faults through the real code, by seed (SEEDS=1000 START=0)
	@exec $(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START)

K6_VERSION := v1.8.1
WITH_K6 = export PATH="$$PATH:$$(go env GOPATH 2>/dev/null)/bin" K6_NO_USAGE_REPORT=true

k6-binary:
	@$(WITH_K6); command -v k6 >/dev/null || { \
		command -v go >/dev/null || { echo 'k6 is missing, and Go, which would build it, is missing too'; exit 1; }; \
		echo 'building k6 $(K6_VERSION), once: some minutes'; \
		GOBIN="$$(go env GOPATH)/bin" go install go.k6.io/k6@$(K6_VERSION); }

k6: k6-binary ## Load a running system (SCRIPT=password, orders, productos, pedidos or users, RATE=20 DURATION=30s BASE_URL=...)
	@$(WITH_K6); exec k6 run $(ARGS) k6/$(or $(SCRIPT),password).js

k6-overload: .venv/.stamp k6-binary ## Measure the capacity of a system of its own, then ask it for three times as much
	@$(WITH_K6); exec $(BIN)/python -m bench.overload overload $(ARGS)

k6-soak: .venv/.stamp k6-binary ## Keep a system of its own at 60 % of its capacity for ten minutes (ARGS="--minutes 2")
	@$(WITH_K6); exec $(BIN)/python -m bench.overload soak $(ARGS)
