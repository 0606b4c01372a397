# The commands for developing embedmill. `make` lists them; the comment after `##` is the help text of a target.

PYTHON ?= python3
# The scripts that compare with sentence-transformers need a Python that has it installed: .venv, if it exists.
REFERENCE_PYTHON ?= $(firstword $(wildcard .venv/bin/python) $(PYTHON))
# These are evaluated only in the recipes that use them, so that `make help` needs no other tools.
MODEL ?= $(shell $(PYTHON) scripts/setup --print model)
BINARY ?= $(shell $(PYTHON) scripts/setup --print binary)
# The path of the binary, relative to this folder if it is below it.
EMBEDMILL = $(patsubst $(CURDIR)/%,%,$(BINARY))
ARGS ?=
# For quick: runs only tests whose name contains this.
FILTER ?=
# For quick: only embedmill is compiled without optimisation; third-party crates are shared with the release build.
QUICK = --config profile.release.package.embedmill.opt-level=0 --config profile.release.package.embedmill.codegen-units=256
# Evaluated only by msrv.
RUST_VERSION = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
ROUNDS ?= 1
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check quick lint doc msrv chaos golden compare bench bench-kafka memory clean-demo tools python test-chart test-packages manifests man dist deny

help: ## Lists the targets
	@printf 'embedmill: text records in, vectors out. Start with `make demo`.\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'
	@printf '\nVariables: PYTHON, MODEL (a model folder), ARGS (additional arguments for bench,\nmemory, golden, compare and dist), FILTER (for quick), ROUNDS and SEED (for chaos)\n'

setup: python ## Checks the tools, then downloads libtorch and a real model, once
	@$(PYTHON) scripts/setup

build: setup ## Builds the release binary
	cargo build --release --locked

demo: setup ## Embeds the documentation of the crates that were just built, and searches it
	cargo build --release --locked
	@$(PYTHON) scripts/corpus.py demo/corpus.jsonl
	$(call show,encode demo/corpus.jsonl --text text --id id --keep crate$(comma)title -o demo/vectors.arrow --model "$(MODEL)")
	$(call show,search demo/vectors.arrow "which time zone is this computer in?")
	$(call show,search demo/vectors.arrow "turn a date in a string into a timestamp")
	$(call show,search demo/vectors.arrow "decompress data while it is read")
	@printf '\nNext: ask something of your own with `%s search demo/vectors.arrow "..."`,\n' '$(EMBEDMILL)'
	@printf 'or embed your own files with `%s encode FILES -o out.arrow --model %s`.\n' '$(EMBEDMILL)' '$(MODEL)'

test: setup ## Runs all tests, including those with the real model and a real Kafka broker
	@$(PYTHON) scripts/kafka.py
	cargo test --release --locked

quick: tools ## Runs unit and integration tests without libtorch and Kafka, compiled incrementally; FILTER=name selects tests
	CARGO_INCREMENTAL=1 cargo test --release --no-default-features --locked $(QUICK) --lib --test it -- $(FILTER)

check: tools ## Checks formatting and lints, and runs the tests that need neither libtorch nor Kafka
	cargo fmt --all --check
	cargo clippy --release --no-default-features --all-targets --locked -- -D warnings
	cargo test --release --no-default-features --locked

lint: setup ## Lints with the other sets of features: libtorch, Kafka, both
	cargo clippy --release --no-default-features --features torch --all-targets --locked -- -D warnings
	cargo clippy --release --no-default-features --features kafka --all-targets --locked -- -D warnings
	cargo clippy --release --all-targets --locked -- -D warnings

doc: setup ## Builds the documentation of the library; warnings are errors
	RUSTDOCFLAGS='-D warnings' cargo doc --release --no-deps --locked --lib

msrv: tools ## Compiles with the oldest Rust that Cargo.toml promises, without libtorch and Kafka; needs rustup
	cargo +$(RUST_VERSION) check --release --no-default-features --locked

chaos: build ## Kills and stops instances and the broker in ROUNDS rounds, the first with the random seed SEED
	@$(PYTHON) scripts/kafka.py
	EMBEDMILL_CHAOS_ROUNDS=$(ROUNDS) EMBEDMILL_CHAOS_SEED=$(SEED) \
		cargo test --release --locked --test broker -- chaos --include-ignored --nocapture

test-packages: setup ## Compiles models with PyTorch (AOTInductor) and compares their vectors with sentence-transformers
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	for model in tiny/mean families/roberta families/eurobert; do \
		$(REFERENCE_PYTHON) scripts/export_package.py tests/golden/$$model "$$folder/$${model#*/}.pt2" || exit 1; done && \
	$(REFERENCE_PYTHON) scripts/export_package.py tests/golden/tiny/cls "$$folder/cls-text.pt2" --text-vectors && \
	EMBEDMILL_TEST_PACKAGES="$$folder" cargo test --release --locked --test model -- packages --include-ignored

golden: setup ## Regenerates the golden vectors with sentence-transformers
	@$(REFERENCE_PYTHON) tests/golden/generate.py $(ARGS)
	@$(REFERENCE_PYTHON) tests/golden/families.py
	@for part in scripts precision vocabulary tokens; do $(REFERENCE_PYTHON) tests/golden/$$part.py || exit 1; done

compare: build ## Compares embedmill's vectors of MODEL (a folder or an id) with sentence-transformers
	@$(REFERENCE_PYTHON) tests/golden/compare.py $(MODEL) --binary $(BINARY) $(ARGS)

bench: build ## Compares speed and vectors with sentence-transformers in one run
	@$(REFERENCE_PYTHON) benches/compare.py --binary $(BINARY) --model $(MODEL) $(ARGS)

memory: build ## Compares the peak memory for 200,000 records with that for 20,000
	@$(PYTHON) benches/memory.py --binary $(BINARY) --model $(MODEL) $(ARGS)

bench-kafka: build ## Measures topic-to-topic speed and memory, and the ratio to the speed of encode alone
	@$(PYTHON) scripts/kafka.py
	cargo test --release --locked --test broker -- speed --ignored --nocapture --test-threads 1

test-chart: ## Installs the chart on a real Kubernetes API server, with every option in turn, and runs a Job
	@$(PYTHON) tests/chart/run.py

manifests: ## Regenerates deploy/kubernetes from the chart
	@$(PYTHON) tests/chart/render.py

man: build ## Writes manual pages and shell completions beside the binary
	@mkdir -p '$(dir $(BINARY))completions'
	@$(BINARY) man '$(dir $(BINARY))man'
	@for shell in bash zsh fish; do $(BINARY) completions $$shell > "$(dir $(BINARY))completions/embedmill.$$shell"; done
	@printf '%s\n' '$(dir $(BINARY))man' '$(dir $(BINARY))completions'

dist: build ## Makes an archive and a Debian package in dist/, for machines without Rust
	@$(PYTHON) scripts/dist.py $(ARGS)

deny: ## Checks licences, sources and bans of all dependencies, and advisories if their database is available
	@command -v cargo-deny >/dev/null 2>&1 || { echo 'make: cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny --all-features check licenses bans sources
	@if cargo deny --all-features fetch db; then cargo deny --all-features check advisories; \
	else echo 'make: the advisories were not checked: their database could not be downloaded; the reason is above' >&2; fi

clean-demo: ## Removes the files of the demo
	rm -rf demo

# A literal comma would end an argument of `call`.
comma := ,

# Prints the command as a user would type it, then its output.
define show
@printf '\n$$ %s %s\n' '$(EMBEDMILL)' '$(1)'; '$(EMBEDMILL)' $(1)
endef

# scripts/setup names all missing tools. This is for machines on which it cannot start, and for targets that do not run it.
define require
@missing=''; \
for tool in $(1); do command -v "$$tool" >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
if [ -n "$$missing" ]; then \
	echo "make: missing on this machine:$$missing" >&2; \
	for tool in $$missing; do case "$$tool" in \
		cargo) echo "  cargo:   curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$$HOME/.cargo/env\"" >&2 ;; \
		c++) echo "  c++:     apt-get install -y build-essential   (Fedora: dnf install -y gcc-c++, macOS: xcode-select --install)" >&2 ;; \
		*) echo "  python3: apt-get install -y python3 python3-pip   (Fedora: dnf install -y python3-pip, macOS: brew install python3)" >&2 ;; \
	esac; done; \
	exit 1; \
fi
endef

tools:
	$(call require,cargo c++)

# If Python is installed, scripts/setup checks the other tools, among other things.
python:
	$(if $(shell command -v $(PYTHON) 2>/dev/null),,$(call require,$(PYTHON) cargo c++))
