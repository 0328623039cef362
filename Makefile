# Everything is installed in .venv. A target downloads only what changed in pyproject.toml and
# constraints.txt since its last run.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
RUNTIME := .venv/installed-runtime
NATIVE := .venv/installed-native
ALL := .venv/installed-all
WHEEL := build/wheel
WHEEL_BIN := build/wheel-venv/bin
WHEEL_INSTALLED := build/wheel-venv/installed
NATIVE_BIN := build/native-venv/bin
SBOM_BIN := build/sbom-venv/bin
DOCS_BIN := build/docs-venv/bin
MERMAID := 11.17.2
MERMAID_SHA256 := 581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8
RELEASE := build/release
AUDIT_BIN := build/audit-venv/bin
FUZZED := decode native process json msgpack cbor json-schema senml avro protobuf
REQUIREMENTS := pyproject.toml constraints.txt

# The constraints are for build backends too; which of the two names works depends on pip's version.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Some images set it; tests start hundreds of processes, and each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test unit docs coverage faults fuzz recovery availability test-autoscaling chart tools lint types layers wheel image-test compose-test docs-site requirements native-wheel release dashboard dashboard-picture demo-pictures sbom audit train bench bench-peers bench-quick bench-model bench-gaps clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ARGS="..." is passed on to demo, test, unit, coverage, faults, fuzz, recovery, availability, test-autoscaling, tools, bench-gaps and train; PYTHON names the interpreter.'

demo: $(RUNTIME) ## simulated walkers and the consumer in one process, nothing else to install
	$(BIN)/stepstream demo $(ARGS)

test: $(ALL) ## all tests, three files at a time
	$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

unit: $(ALL) ## tests that need no broker, browser or other server: under a minute
	$(BIN)/pytest -q -n 2 -m "not kafka and not wheel and not image and not slow" $(ARGS)

docs: $(ALL) ## write the references of settings and metrics, and the AsyncAPI document
	$(BIN)/python -m stepstream.settings_reference > docs/settings.md
	$(BIN)/python -m stepstream.metrics.reference > docs/metrics.md
	STEPSTREAM_TOPICS__MINUTES=step-minutes STEPSTREAM_TOPICS__WALKS=step-walks STEPSTREAM_TOPICS__COUNTS=step-counts \
	  $(BIN)/stepstream schema > docs/asyncapi.json

coverage: $(ALL) ## all tests, and the lines that they don't reach; other processes are not measured
	$(BIN)/pytest -q --cov $(ARGS)

faults: $(ALL) ## a hundred rounds of faults on a real broker: half an hour or more
	$(BIN)/python -m tests.faults $(ARGS)

fuzz: $(ALL) ## a million inputs each for the plain form, every other format, and everything after decoding: three hours
	$(BIN)/python -m tests.fuzzing $(FUZZED) -runs=1000000 $(ARGS)

recovery: $(ALL) ## measure the time of recovery, and of reading a million step counts
	$(BIN)/python -m benchmarks.recovery $(ARGS)
	$(BIN)/python -m benchmarks.recovery --ledger 1000000

availability: $(ALL) ## measure how late events are while consumers, broker and network fail: five minutes a variant
	$(BIN)/python -m benchmarks.availability $(ARGS)

test-autoscaling: $(ALL) ## consumers follow the load, with KEDA and a real broker: four minutes
	$(BIN)/python -m tests.helm.autoscaling $(ARGS)

chart: $(ALL) ## write the generated parts of the chart: README, schema of the settings, rules, dashboard
	$(BIN)/python -m tests.helm.rules
	cp deploy/grafana/dashboards/stepstream.json helm/stepstream/files
	$(BIN)/python -m tests.helm.values_schema
	$(BIN)/python -m tests.helm.tools --run helm-docs --chart-search-root helm --sort-values-order file

tools: $(ALL) ## build helm, a Kubernetes control plane and KEDA for the tests, with Go: half an hour
	$(BIN)/python -m tests.helm.tools $(ARGS)

lint: $(ALL) ## style: ruff's rules and formatter
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check
	if command -v cargo-fmt >/dev/null; then cargo fmt --manifest-path native/Cargo.toml --check; fi

types: $(ALL) ## types: mypy, strict
	$(BIN)/mypy

layers: $(ALL) ## which module may import which
	$(BIN)/lint-imports --no-logo

wheel: $(ALL) $(WHEEL_INSTALLED) ## build the wheel and test it as installed
	rm -rf $(WHEEL)
	$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEEL) . > build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	$(WHEEL_BIN)/pip install --quiet --no-deps --no-index --force-reinstall $(WHEEL)/*.whl
	WHEEL_PYTHON=$(CURDIR)/$(WHEEL_BIN)/python $(BIN)/pytest -q -m wheel tests/test_wheel.py

image-test: $(ALL) ## build the image, without a daemon, and run it on a real broker: some minutes
	$(BIN)/pytest -q -rA -m image tests/deploy/test_image.py $(ARGS)

compose-test: $(ALL) ## docker-compose.yml up, scaled and down, without a daemon, with images made here: ten minutes
	$(BIN)/pytest -q -rA -m image tests/deploy/test_compose_up.py $(ARGS)

docs-site: $(DOCS_BIN)/mkdocs build/mermaid.min.js ## the documentation as pages, in build/site
	$(BIN)/python .ci/site.py build/site-source build/mermaid.min.js
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build

# A script of the pages is served with them; npm checks the hash of what it fetches, and this the file.
build/mermaid.min.js:
	mkdir -p build/mermaid
	cd build/mermaid && npm pack --silent mermaid@$(MERMAID) && tar xzf mermaid-$(MERMAID).tgz
	echo "$(MERMAID_SHA256)  build/mermaid/package/dist/mermaid.min.js" | sha256sum --check --quiet
	cp build/mermaid/package/dist/mermaid.min.js $@

# In an environment of its own: the pages need none of the product's packages.
$(DOCS_BIN)/mkdocs: .venv/created $(REQUIREMENTS)
	$(BIN)/python -m venv --clear build/docs-venv
	$(DOCS_BIN)/pip install --quiet $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")')
	@touch $@

dashboard: $(ALL) ## write the Grafana dashboard from its code
	$(BIN)/python deploy/grafana/dashboard.py > deploy/grafana/dashboards/stepstream.json

dashboard-picture: $(ALL) ## draw the dashboard of a real run for the docs: three minutes
	$(BIN)/python -m tests.deploy.draw_dashboard $(ARGS)

demo-pictures: $(ALL) ## draw the demo and its live page for the README: a minute and a half
	$(BIN)/python -m tests.simulation.draw_demo

sbom: build/sbom.cdx.json ## what is installed at run time, as CycloneDX

build/sbom.cdx.json: $(WHEEL_INSTALLED) $(SBOM_BIN)/cyclonedx-py
	$(SBOM_BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.cdx.json $(WHEEL_BIN)/python

requirements: .venv/created ## write the packages of the image with the hashes of their files: some minutes
	mkdir -p build
	$(BIN)/python .ci/requirements.py > build/requirements.txt
	mv build/requirements.txt deploy/image/requirements.txt

native-wheel: $(NATIVE_BIN)/maturin ## build the wheel of the compiled decoder for this kind of machine, in build/native
	@if ! command -v cargo >/dev/null; then \
	  echo "make: there is no cargo, so the wheel of the compiled decoder is not built" >&2; \
	else \
	  PATH="$(CURDIR)/$(NATIVE_BIN):$$PATH" maturin build --quiet --release --zig --compatibility manylinux_2_28 \
	    --manifest-path native/Cargo.toml --out build/native --sdist; \
	fi

# Zig links against an older C library than this machine has.
$(NATIVE_BIN)/maturin: .venv/created constraints.txt
	$(BIN)/python -m venv --clear build/native-venv
	$(NATIVE_BIN)/pip install --quiet maturin ziglang
	@touch $@

release: $(ALL) build/sbom.cdx.json native-wheel ## make everything that a release publishes, in build/release, and publish nothing
	$(BIN)/python .ci/release.py $(RELEASE)

audit: $(AUDIT_BIN)/pip-audit ## known vulnerabilities of the packages; fails if the database can't be asked
	$(AUDIT_BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

train: $(ALL) ## train a model on labelled recordings
	$(BIN)/stepstream train $(ARGS)

bench: $(ALL) ## throughput, forms of messages, devices, consumers, low load, overload and backfill: about 40 minutes
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.forms
	$(BIN)/python -m benchmarks.binary_forms
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.loads
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.backfill
	$(BIN)/python -m benchmarks.report

bench-peers: $(ALL) ## the same work in other stream processors, latency, and requests over HTTP (needs wrk): about 40 minutes
	$(BIN)/python -m benchmarks.peers_throughput
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.report

bench-quick: $(ALL) ## single readings compared with a bare loop, a minute; fails below 50 % of it
	$(BIN)/python -m benchmarks.throughput --quick

bench-model: $(ALL) ## measure what a window costs: Keras, LiteRT, float32, int8
	$(BIN)/python -m benchmarks.model $(ARGS)

bench-gaps: $(ALL) ## cut gaps into labelled recordings, and measure the steps around them
	$(BIN)/python -m benchmarks.gaps $(ARGS)

clean: ## remove all that these targets made
	rm -rf native/target .venv .cache build .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "make: stepstream needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is not one of them: make PYTHON=python3.12 ..."; exit 1; } >&2
	$(PYTHON) -m venv .venv
	@touch $@

$(RUNTIME): .venv/created $(REQUIREMENTS)
	$(BIN)/pip install --quiet -e .
	@touch $@

# Optional: Python decodes the same, and the tests of it say that they are skipped.
$(NATIVE): .venv/created constraints.txt $(wildcard native/*.toml native/src/*.rs)
	@if ! command -v cargo >/dev/null; then \
	  echo "make: there is no cargo, so the compiled decoder is not built: Python decodes" >&2; \
	elif ! $(BIN)/pip install --quiet --no-deps --force-reinstall ./native; then \
	  echo "make: the compiled decoder can't be built: Python decodes" >&2; \
	fi
	@touch $@

$(ALL): .venv/created $(REQUIREMENTS) $(NATIVE)
	$(BIN)/pip install --quiet -e '.[dev,plot,train,cbor]'
	@touch $(RUNTIME) $@

$(WHEEL_INSTALLED): .venv/created $(REQUIREMENTS)
	$(BIN)/python -m venv --clear build/wheel-venv
	$(WHEEL_BIN)/pip install --quiet .
	@touch $@

$(AUDIT_BIN)/pip-audit: .venv/created
	$(BIN)/python -m venv --clear build/audit-venv
	PIP_CONSTRAINT= $(AUDIT_BIN)/pip install --quiet pip-audit
	@touch $@

# In an environment of its own, so that it doesn't list its own packages.
$(SBOM_BIN)/cyclonedx-py: .venv/created constraints.txt
	$(BIN)/python -m venv --clear build/sbom-venv
	$(SBOM_BIN)/pip install --quiet cyclonedx-bom
	@touch $@
