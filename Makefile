# embedmill's commands in one place. `make` lists them; a target's line is its help.

PYTHON ?= python3
# The scripts that compare with sentence-transformers need a Python that has it: .venv if there is one.
REFERENCE_PYTHON ?= $(firstword $(wildcard .venv/bin/python) $(PYTHON))
# Asked for only by the recipes that use them, so that `make help` needs nothing.
MODEL ?= $(shell $(PYTHON) scripts/setup --print model)
BINARY ?= $(shell $(PYTHON) scripts/setup --print binary)
# Short where it is short to type.
EMBEDMILL = $(patsubst $(CURDIR)/%,%,$(BINARY))
ARGS ?=
# Of quick: only tests whose name contains it.
FILTER ?=
# Of quick: embedmill alone is compiled fast rather than to be fast; third-party crates stay the release build's.
QUICK = --config profile.release.package.embedmill.opt-level=0 --config profile.release.package.embedmill.codegen-units=256
# Asked for only by msrv.
RUST_VERSION = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
ROUNDS ?= 1
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check quick lint doc msrv chaos golden compare bench bench-kafka memory clean-demo tools python test-chart test-packages manifests man dist deny

help: ## Lists these targets
	@printf 'embedmill: text records in, vectors out. Start with `make demo`.\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'
	@printf '\nVariables: PYTHON, MODEL (a model folder), ARGS (more arguments for bench,\nmemory and golden), ROUNDS and SEED (of chaos)\n'

setup: python ## Checks the tools, then fetches libtorch and a real model, once
	@$(PYTHON) scripts/setup

build: setup ## Builds the release binary
	cargo build --release --locked

demo: setup ## Embeds the documentation of the crates just built and searches it
	cargo build --release --locked
	@$(PYTHON) scripts/corpus.py demo/corpus.jsonl
	$(call show,encode demo/corpus.jsonl --text text --id id --keep crate$(comma)title -o demo/vectors.arrow --model "$(MODEL)")
	$(call show,search demo/vectors.arrow "which time zone is this computer in?")
	$(call show,search demo/vectors.arrow "turn a date in a string into a timestamp")
	$(call show,search demo/vectors.arrow "decompress data while it is read")
	@printf '\nNext: ask something of your own with `%s search demo/vectors.arrow "..."`,\n' '$(EMBEDMILL)'
	@printf 'or embed your own files with `%s encode FILES -o out.arrow --model %s`.\n' '$(EMBEDMILL)' '$(MODEL)'

test: setup ## Runs every test, those with the real model and a real Kafka broker too
	@$(PYTHON) scripts/kafka.py
	cargo test --release --locked

quick: tools ## The inner loop: unit and integration tests without libtorch and Kafka, compiled incrementally; FILTER=name
	CARGO_INCREMENTAL=1 cargo test --release --no-default-features --locked $(QUICK) --lib --test it -- $(FILTER)

check: tools ## Formatting, lints, and the tests that need neither libtorch nor Kafka
	cargo fmt --all --check
	cargo clippy --release --no-default-features --all-targets --locked -- -D warnings
	cargo test --release --no-default-features --locked

lint: setup ## Lints with every other set of features: libtorch, Kafka, both
	cargo clippy --release --no-default-features --features torch --all-targets --locked -- -D warnings
	cargo clippy --release --no-default-features --features kafka --all-targets --locked -- -D warnings
	cargo clippy --release --all-targets --locked -- -D warnings

doc: setup ## The library's documentation, without a warning
	RUSTDOCFLAGS='-D warnings' cargo doc --release --no-deps --locked --lib

msrv: tools ## Compiles with the oldest Rust that Cargo.toml promises, without libtorch and Kafka; needs rustup
	cargo +$(RUST_VERSION) check --release --no-default-features --locked

chaos: build ## Kills and stops copies and the broker: ROUNDS rounds from SEED on
	@$(PYTHON) scripts/kafka.py
	EMBEDMILL_CHAOS_ROUNDS=$(ROUNDS) EMBEDMILL_CHAOS_SEED=$(SEED) \
		cargo test --release --locked --test broker -- chaos --include-ignored --nocapture

test-packages: setup ## Compiles models with PyTorch (AOTInductor) and holds them to sentence-transformers'
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	for model in tiny/mean families/roberta families/eurobert; do \
		$(REFERENCE_PYTHON) scripts/export_package.py tests/golden/$$model "$$folder/$${model#*/}.pt2" || exit 1; done && \
	$(REFERENCE_PYTHON) scripts/export_package.py tests/golden/tiny/cls "$$folder/cls-text.pt2" --text-vectors && \
	EMBEDMILL_TEST_PACKAGES="$$folder" cargo test --release --locked --test model -- packages --include-ignored

golden: setup ## Makes the golden vectors again, with sentence-transformers
	@$(REFERENCE_PYTHON) tests/golden/generate.py $(ARGS)
	@$(REFERENCE_PYTHON) tests/golden/families.py
	@for part in scripts precision vocabulary tokens; do $(REFERENCE_PYTHON) tests/golden/$$part.py || exit 1; done

compare: build ## Holds embedmill's vectors of MODEL, any folder or id, to sentence-transformers'
	@$(REFERENCE_PYTHON) tests/golden/compare.py $(MODEL) --binary $(BINARY) $(ARGS)

bench: build ## Compares speed and vectors with sentence-transformers, in one run
	@$(REFERENCE_PYTHON) benches/compare.py --binary $(BINARY) --model $(MODEL) $(ARGS)

memory: build ## Peak memory for 200,000 records against 20,000
	@$(PYTHON) benches/memory.py --binary $(BINARY) --model $(MODEL) $(ARGS)

bench-kafka: build ## From topic to topic: records/s, memory, and speed against the bare encoder
	@$(PYTHON) scripts/kafka.py
	cargo test --release --locked --test broker -- speed --ignored --nocapture --test-threads 1

test-chart: ## Installs the chart on a real Kubernetes API server, with every switch in turn, and runs a job
	@$(PYTHON) tests/chart/run.py

manifests: ## Renders deploy/kubernetes from the chart again
	@$(PYTHON) tests/chart/render.py

man: build ## Writes the manual's pages and the shells' completions beside the binary
	@mkdir -p '$(dir $(BINARY))completions'
	@$(BINARY) man '$(dir $(BINARY))man'
	@for shell in bash zsh fish; do $(BINARY) completions $$shell > "$(dir $(BINARY))completions/embedmill.$$shell"; done
	@printf '%s\n' '$(dir $(BINARY))man' '$(dir $(BINARY))completions'

dist: build ## An archive, and a Debian package, for machines without Rust: into dist/
	@$(PYTHON) scripts/dist.py $(ARGS)

deny: ## Licences, sources and bans of all dependencies; advisories where their database can be had
	@command -v cargo-deny >/dev/null 2>&1 || { echo 'make: cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny --all-features check licenses bans sources
	@if cargo deny --all-features fetch db; then cargo deny --all-features check advisories; \
	else echo 'make: the advisories were not checked: their database cannot be had; the reason is above' >&2; fi

clean-demo: ## Removes what the demo made
	rm -rf demo

# A comma would end an argument of `call`.
comma := ,

# The command as a user would type it, then its output.
define show
@printf '\n$$ %s %s\n' '$(EMBEDMILL)' '$(1)'; '$(EMBEDMILL)' $(1)
endef

# scripts/setup names everything that is missing. This is for machines where it cannot start, and for targets that do not run it.
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

# Where Python is installed, scripts/setup checks the other tools, and more.
python:
	$(if $(shell command -v $(PYTHON) 2>/dev/null),,$(call require,$(PYTHON) cargo c++))
