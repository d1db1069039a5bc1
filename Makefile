# Commands for developers. Nothing here but the cluster needs root; everything that is fetched or written is in .dev/ and target/.

HTTP_PORT ?= 8000
ADMIN_PORT ?= 9090
CONSUME_ADMIN_PORT ?= 9091
KAFKA_PORT ?= 9092
CLICKHOUSE_PORT ?= 9000

# Tests wait for servers more than they compute, so more of them run at once than there are processors.
TEST_THREADS ?= 6

FAULTS ?= 100
BROKERS ?= 1

RUNS ?= 1000000
FUZZERS := events websocket_frames kafka_responses clickhouse_packets

CARGO_CYCLONEDX := 0.5.7
CARGO_DENY := 0.20.2
CARGO_MACHETE := 0.9.2

ACTIONLINT := 1.7.12
HELM_VERSION := 4.3.2
# Version of the Go module: of Prometheus 3.16.
PROMETHEUS := 0.316.0

SERVER_PORTS = --kafka-port $(KAFKA_PORT) --clickhouse-port $(CLICKHOUSE_PORT)
CAPTCHA_PORTS = --http-port $(HTTP_PORT) --admin-port $(ADMIN_PORT) --consume-admin-port $(CONSUME_ADMIN_PORT)
TOOLS = .dev/tools/bin
VENV = .dev/venv
SHELL_SCRIPTS = .ci/run $(wildcard dev/*.sh k8s/*.sh tests/*/*.sh)

.DEFAULT_GOAL := help
.PHONY: help run up down test test-servers contract attacks proxies chaos rolls fuzz settings check lint k8s-check promtool helm actionlint cluster cluster-down cluster-test image release verify-release docs-check pictures architecture fmt bench-visible bench-consume bench-bytes bench-report bench-pairs bench-serve clean-data

help: ## show this list
	@echo "usage: make TARGET [HTTP_PORT=$(HTTP_PORT)] [ADMIN_PORT=$(ADMIN_PORT)] [CONSUME_ADMIN_PORT=$(CONSUME_ADMIN_PORT)] [KAFKA_PORT=$(KAFKA_PORT)] [CLICKHOUSE_PORT=$(CLICKHOUSE_PORT)]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: ## build captcha and run it with Kafka and ClickHouse until Ctrl-C; the data is kept; [PROFILE=release] as it is shipped, for measuring
	@exec python3 dev/stack.py run $(SERVER_PORTS) $(CAPTCHA_PORTS) $(PROFILE:%=--profile %)

up: ## start Kafka and ClickHouse in the background: eval "$(make -s up)"
	@exec python3 dev/stack.py up $(SERVER_PORTS)

down: ## stop what make up started
	@exec python3 dev/stack.py down

test: $(VENV)-schemathesis/stamp $(VENV)-manifests/stamp ## run every test against servers that are started for it
	cargo test --locked --all-targets --no-run
	python3 dev/stack.py with -- env RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --all-targets
	python3 -m tests.launcher.test_launcher
	python3 dev/stack.py with -- $(VENV)-schemathesis/bin/python -m tests.documents.contract
	python3 dev/stack.py with -- $(VENV)-manifests/bin/python -m dev.manifests --scraped
	@exec python3 -m tests.chaos --faults 20 --program target/debug/captcha

test-servers: ## run the tests that depend on a server against old and new Kafka and ClickHouse; ENDS=1: the oldest and the newest alone
	cargo test --locked --no-run --test e2e
	@RUST_TEST_THREADS=$(TEST_THREADS) exec python3 -m dev.test_servers $(if $(ENDS),--ends)

contract: $(VENV)-schemathesis/stamp ## hold the API against openapi.yaml with schemathesis; [CASES=500] [SEED=6]
	cargo build --locked
	@exec python3 dev/stack.py with -- $(VENV)-schemathesis/bin/python -m tests.documents.contract $(CASES:%=--cases %) $(SEED:%=--seed %)

attacks: ## attack the public port in every known way, and print what each takes in memory; some minutes
	@python3 dev/stack.py with -- cargo test --locked --test e2e -- attacks:: --ignored --nocapture --test-threads 1

proxies: ## send refused bodies through nginx and haproxy (Debian's), and look that every sender learns why; a minute
	cargo build --locked
	@exec python3 dev/stack.py with -- python3 -m tests.proxies

chaos: ## kill, freeze and cut off everything under load, then count: FAULTS=200 SEED=7 BROKERS=3 DRY_RUN=1
	@exec python3 -m tests.chaos --faults $(FAULTS) --brokers $(BROKERS) $(if $(SEED),--seed $(SEED)) $(if $(DRY_RUN),--dry-run)

rolls: ## kill a leader of three brokers, roll all, freeze one, leave one down; count, and time the answers: SEED=7; four minutes
	@exec python3 -m tests.chaos --rolls $(if $(SEED),--seed $(SEED))

fuzz: ## feed what reads bodies, frames, responses of Kafka and packets of ClickHouse with what coverage finds: RUNS=1000000 inputs each, or [SECONDS=60] each; [ONLY=NAME]
	@cd dev/fuzz && target=$$(rustc --print host-tuple) && cargo build --locked --release --target $$target && \
	bin=../../target/fuzz/$$target/release && $$bin/seeds ../../target/fuzz/seeds && \
	echo "fuzz: $(or $(ONLY),$(FUZZERS)), two at once; logs in target/fuzz/" && \
	printf '%s\n' $(or $(ONLY),$(FUZZERS)) | xargs -P 2 -I NAME sh -c 'mkdir -p ../../target/fuzz/found/NAME && \
		if '"$$bin"'/NAME $(if $(SECONDS),-max_total_time=$(SECONDS),-runs=$(RUNS)) -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
			-dict=events.dict -artifact_prefix=../../target/fuzz/ -print_final_stats=1 \
			../../target/fuzz/found/NAME ../../target/fuzz/seeds/NAME >../../target/fuzz/NAME.log 2>&1; \
		then echo "NAME: $$(grep -a -o "^Done [0-9]* runs" ../../target/fuzz/NAME.log), nothing found"; \
		else tail -n 40 ../../target/fuzz/NAME.log; exit 255; fi'

settings: ## try every setting of ClickHouse as a profile, and write tests/settings/found.tsv; 35 minutes; [ONLY=PATTERN] [AGAIN=PATTERN]
	cargo build --locked
	@exec python3 dev/stack.py with -- python3 -m tests.settings.survey $(ONLY:%=--only '%') $(AGAIN:%=--again '%')

check: $(TOOLS)/cargo-deny-$(CARGO_DENY) $(TOOLS)/cargo-machete-$(CARGO_MACHETE) lint ## format, lints, docs, dependencies and Kubernetes files; [ADVISORY_DB=FOLDER], a clone of the RustSec database
	cargo fmt --check --all
	cargo fmt --check --manifest-path dev/fuzz/Cargo.toml
	cargo metadata --locked --format-version 1 --manifest-path dev/fuzz/Cargo.toml >/dev/null
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	$(TOOLS)/cargo-deny-$(CARGO_DENY) --locked check bans licenses sources
	@dev/advisories.sh $(TOOLS)/cargo-deny-$(CARGO_DENY) $(ADVISORY_DB)
	$(TOOLS)/cargo-machete-$(CARGO_MACHETE)
	@$(MAKE) --no-print-directory k8s-check

lint: $(VENV)-lint/stamp ## check Python with ruff and shell scripts with shellcheck
	$(VENV)-lint/bin/ruff check
	$(VENV)-lint/bin/ruff format --check
	$(VENV)-lint/bin/shellcheck $(SHELL_SCRIPTS)

k8s-check: $(VENV)-manifests/stamp $(VENV)-checkov/stamp ## check the Kubernetes files
	cargo build --locked
	$(VENV)-manifests/bin/python -m dev.manifests

cluster: $(VENV)-manifests/stamp ## build and start a real Kubernetes on this machine (Linux, as root) and install an overlay: [OVERLAY=local] [CRDS=FOLDER] [IMAGE=FILE of make image]
	@exec $(VENV)-manifests/bin/python -m dev.cluster up $(OVERLAY:%=--overlay %) $(CRDS:%=--crds %) $(IMAGE:%=--image %)

cluster-down: ## end what make cluster started; [DATA=remove] forgets its data
	@exec python3 -m dev.cluster down $(if $(filter remove,$(DATA)),--remove-data)

cluster-test: $(VENV)-manifests/stamp ## run every check of k8s/ in a real Kubernetes; half an hour: CRDS=FOLDER [IMAGE=FILE of make image] [ONLY=NAME] [DAMAGE=NAME] [QUICK=1]
	@exec $(VENV)-manifests/bin/python -m tests.cluster $(CRDS:%=--crds %) $(IMAGE:%=--image %) $(ONLY:%=--only %) $(DAMAGE:%=--damage %) $(if $(QUICK),--quick)

promtool: .dev/promtool/promtool-$(PROMETHEUS) ## build promtool with Go, so that make check tests the alerts; some minutes

helm: $(TOOLS)/helm-$(HELM_VERSION) ## build helm with Go, so that make check tests the chart; some minutes

actionlint: $(TOOLS)/actionlint-$(ACTIONLINT) ## check the workflow files of .github/; builds actionlint with Go the first time
	$<

image: $(TOOLS)/cargo-cyclonedx-$(CARGO_CYCLONEDX) ## build the container image with buildah, without a daemon, and the list of what is in it
	@dev/image.sh $<

release: image ## put the executable, the image, the list of what is in it and the Helm chart into target/release-VERSION/, with checksums and their signature: SIGNING_KEY=FILE of minisign
	@dev/release.sh $(SIGNING_KEY)

verify-release: ## verify a release: DIR=FOLDER PUBLIC_KEY=FILE, or the key itself
	@dev/verify.sh "$(DIR)" "$(PUBLIC_KEY)"

docs-check: ## look at the docs page and the dashboard in Chromium; [SCREENSHOTS=FOLDER]
	cargo build --locked
	python3 -m tests.documents.page $(SCREENSHOTS:%=--screenshots %)
	@exec python3 dev/stack.py with -- python3 -m tests.documents.dashboard $(SCREENSHOTS:%=--screenshots %/dashboard)

pictures: ## make the pictures of README and docs/: the dashboard in Chromium, and a recording of the report in a terminal
	cargo build --locked
	@exec python3 dev/stack.py with -- python3 -m dev.pictures

architecture: ## draw the rooms of src/ into docs/architecture.md
	UPDATE_ARCHITECTURE=1 cargo test --locked --test house the_picture_of_the_rooms

fmt: $(VENV)-lint/stamp ## format Rust and Python
	cargo fmt --all
	cargo fmt --manifest-path dev/fuzz/Cargo.toml
	$(VENV)-lint/bin/ruff format

bench-visible: ## measure receipt to visible on a running make run PROFILE=release; adds 200 events
	@exec python3 -m dev.bench.visible 127.0.0.1:$(HTTP_PORT)

bench-consume: ## measure draining a backlog against ClickHouse's Kafka engine; [ROUNDS=3] [EVENTS=2000000] [PROGRAM=FILE]
	@exec python3 -m dev.bench.consume $(PROGRAM:%=--program %) $(EVENTS:%=--events %) $(ROUNDS:%=--rounds %)

bench-bytes: ## measure the bytes stored for each event, by column; [EVENTS=10000000] [FILLED=1] makes them inside ClickHouse [PROGRAM=FILE]
	@exec python3 -m dev.bench.stored $(PROGRAM:%=--program %) $(EVENTS:%=--events %) $(if $(FILLED),--filled)

bench-report: ## measure how long reports take: HTTP, command, ClickHouse, readers at once; [EVENTS=10000000], 100000000 takes half an hour and 6 GB; [SECONDS=2] [PROGRAM=FILE]
	@exec python3 -m dev.bench.report $(PROGRAM:%=--program %) $(EVENTS:%=--events %) $(SECONDS:%=--seconds %)

bench-pairs: ## measure two executables of captcha against each other, in turns: BEFORE=FILE AFTER=FILE [PAIRS=7]
	@exec python3 -m dev.bench.pairs $(PAIRS:%=--pairs %) "$(BEFORE)" "$(AFTER)"

bench-serve: $(VENV)-fastapi/stamp ## measure POST /v1/events against FastAPI and against librdkafka; [ROUNDS=3] [SECONDS=8] [PROGRAM=FILE]
	@exec $(VENV)-fastapi/bin/python -m dev.bench.serve $(PROGRAM:%=--program %) $(ROUNDS:%=--rounds %) $(SECONDS:%=--seconds %)

clean-data: ## remove the data of make run and make up
	@exec python3 dev/stack.py clean-data

# Built once; the version in the name makes a newer pin build again.
$(TOOLS)/cargo-cyclonedx-$(CARGO_CYCLONEDX): ; @$(call install,cargo-cyclonedx,$(CARGO_CYCLONEDX))
$(TOOLS)/cargo-deny-$(CARGO_DENY): ; @$(call install,cargo-deny,$(CARGO_DENY))
$(TOOLS)/cargo-machete-$(CARGO_MACHETE): ; @$(call install,cargo-machete,$(CARGO_MACHETE))
$(TOOLS)/actionlint-$(ACTIONLINT):
	GOBIN=$(abspath $(@D)) GOTOOLCHAIN=auto go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT)
	@mv $(@D)/actionlint $@
$(TOOLS)/helm-$(HELM_VERSION):
	@echo "build helm $(HELM_VERSION) (once, some minutes)" >&2
	GOBIN=$(abspath $(@D)) GOTOOLCHAIN=auto go install -trimpath -ldflags '-s -w' helm.sh/helm/v4/cmd/helm@v$(HELM_VERSION)
	@mv $(@D)/helm $@

# Without the discovery of clouds, which nobody asks it for, it compiles in less than half the time. Go fetches a newer Go of itself, where it must.
.dev/promtool/promtool-$(PROMETHEUS):
	@echo "build promtool of Prometheus $(PROMETHEUS) (once, some minutes)" >&2
	GOBIN=$(abspath $(@D)) GOTOOLCHAIN=auto go install -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool@v$(PROMETHEUS)
	@mv $(@D)/promtool $@

# Made again when a pin changes; what is not whole has no stamp.
$(VENV)-checkov/stamp: dev/manifests/checkov.txt
$(VENV)-fastapi/stamp: dev/bench/fastapi/requirements.txt
$(VENV)-lint/stamp: dev/lint.txt
$(VENV)-manifests/stamp: dev/manifests/requirements.txt
$(VENV)-schemathesis/stamp: tests/documents/requirements.txt
$(VENV)-%/stamp:
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Without optimisation: a third of the time to compile, and they run for seconds.
define install
echo "install $(1) $(2) (once, a minute or two)" >&2 && \
cargo install --locked --force --debug --config profile.dev.debug=0 --root .dev/tools --version $(2) $(1) && \
mv .dev/tools/bin/$(1) $@
endef
