# What there is to do, as short commands. Meson and ninja do the work underneath.
#
#   make          release build: build/oxbow
#   make run      installs what building needs, builds, starts a single broker on 127.0.0.1:9092 with its data in ./data
#   make test     installs what the tests need, builds with ASan and UBSan, runs every suite
#   make deps     only installs what is missing (Debian packages; the lists are in tools/deps)
#   make sim      runs the simulator for SIM_MINUTES (30) on all processors; make test runs SEEDS (1..300) of it
#   make soak     the release binary under real clients and real faults for SOAK_MINUTES; see tests/soak
#   make guard    instructions of fixed work beside the stored figures (make test does it, too); make guard-update stores them
#   make fmt lint clean install bench fuzz

BUILD      ?= build
BUILD_TEST ?= build-test
BUILD_FUZZ ?= build-fuzz
BUILD_GUARD ?= build-guard
PREFIX     ?= /usr/local
DESTDIR    ?=
JOBS       ?= $(shell nproc)
SUITES     ?=
SEEDS      ?= 1..300
FUZZ_SECONDS ?= 60
SIM_MINUTES ?= 30
SIM_OPTIONS ?=
SOAK_MINUTES ?= 10

MESON := $(shell command -v /usr/bin/meson || echo meson)
# Files that decide what is built: when one is new or changed, the build directories are configured again.
MESON_FILES := meson.build meson_options.txt $(wildcard src/meson.build src/*/meson.build tests/meson.build \
	tests/*/meson.build tests/unit/*/meson.build)
FORMATTED = $(shell find src tests bench -name '*.[ch]' 2>/dev/null)

.PHONY: all deps run test test-build fuzz-build guard-build guard guard-update sim fuzz soak bench bench-cost bench-object bench-peers fmt lint clean install
.DEFAULT_GOAL := all

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) oxbow

$(BUILD)/build.ninja: $(MESON_FILES)
	@$(MESON) setup $(if $(wildcard $(BUILD)/build.ninja),--reconfigure) $(BUILD) \
		--buildtype=debugoptimized -Db_lto=true -Dprefix=$(abspath $(PREFIX)) >$(BUILD).log 2>&1 \
		|| { cat $(BUILD).log; rm -f $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log; touch $@

# The dear assertions are on here, and a warning is an error.
$(BUILD_TEST)/build.ninja: $(MESON_FILES)
	@$(MESON) setup $(if $(wildcard $(BUILD_TEST)/build.ninja),--reconfigure) $(BUILD_TEST) \
		--buildtype=debugoptimized -Dc_args=-O1 -Dwerror=true -Dtests=true -Ddcheck=true \
		-Db_sanitize=address,undefined -Db_lundef=false >$(BUILD_TEST).log 2>&1 \
		|| { cat $(BUILD_TEST).log; rm -f $(BUILD_TEST).log; exit 1; }
	@rm -f $(BUILD_TEST).log; touch $@

$(BUILD_FUZZ)/build.ninja: $(MESON_FILES)
	@CC=clang-14 $(MESON) setup $(if $(wildcard $(BUILD_FUZZ)/build.ninja),--reconfigure) $(BUILD_FUZZ) \
		--buildtype=debugoptimized -Dc_args=-O1 -Dfuzz=true -Ddcheck=true \
		-Db_sanitize=address,undefined -Db_lundef=false >$(BUILD_FUZZ).log 2>&1 \
		|| { cat $(BUILD_FUZZ).log; rm -f $(BUILD_FUZZ).log; exit 1; }
	@rm -f $(BUILD_FUZZ).log; touch $@

# The release's optimisation, file by file: with LTO the linker would hide which function is which (tests/perf/README.md).
$(BUILD_GUARD)/build.ninja: $(MESON_FILES)
	@$(MESON) setup $(if $(wildcard $(BUILD_GUARD)/build.ninja),--reconfigure) $(BUILD_GUARD) \
		--buildtype=debugoptimized -Dtests=true >$(BUILD_GUARD).log 2>&1 \
		|| { cat $(BUILD_GUARD).log; rm -f $(BUILD_GUARD).log; exit 1; }
	@rm -f $(BUILD_GUARD).log; touch $@

test-build: $(BUILD_TEST)/build.ninja
	@ninja -C $(BUILD_TEST) -j $(JOBS)

fuzz-build: $(BUILD_FUZZ)/build.ninja
	@ninja -C $(BUILD_FUZZ) -j $(JOBS)

guard-build: $(BUILD_GUARD)/build.ninja
	@ninja -C $(BUILD_GUARD) -j $(JOBS) tests/guard_work

deps:
	@tools/deps build run test

run:
	@tools/deps build run
	@$(MAKE) --no-print-directory all
	@exec $(BUILD)/oxbow serve

test:
	@tools/deps build run test
	@$(MAKE) --no-print-directory test-build fuzz-build guard-build
	@BUILD_TEST=$(BUILD_TEST) BUILD_FUZZ=$(BUILD_FUZZ) BUILD_GUARD=$(BUILD_GUARD) tools/run-tests $(SUITES)

guard guard-update: guard-build
	@tools/deps build test
	@BUILD_GUARD=$(BUILD_GUARD) tests/perf/guard.py $(if $(filter guard-update,$@),--update)

# Runs long: new seeds on all processors, and at the end how often each fault was done.
sim: test-build
	@tools/sim --build $(BUILD_TEST) --minutes $(SIM_MINUTES) --jobs $(JOBS) $(SIM_OPTIONS)

fuzz: fuzz-build
	@BUILD_FUZZ=$(BUILD_FUZZ) tools/run-tests --fuzz-seconds $(FUZZ_SECONDS) fuzz

soak: all
	@tools/deps build run test
	@OXBOW=$(abspath $(BUILD)/oxbow) OXBOW_ROOT=$(CURDIR) /usr/bin/python3 tests/soak/soak.py --minutes $(SOAK_MINUTES)

bench: all
	@tools/deps build run bench
	@bench/run --oxbow $(BUILD)/oxbow

# What a GB costs in requests and bytes. COST are options of bench/cost.
bench-cost: all
	@tools/deps build run test
	@bench/cost --oxbow $(BUILD)/oxbow $(COST)

bench-object: all
	@tools/deps bench test
	@bench/object --oxbow $(BUILD)/oxbow

# Beside Apache Kafka, which comes from Maven. PEERS are options of bench/peers/run.
bench-peers: all
	@tools/deps build run test peers
	@bench/peers/run --oxbow $(BUILD)/oxbow $(PEERS)

fmt:
	@tools/deps lint
	clang-format-14 -i $(FORMATTED)

lint: test-build
	@tools/deps lint
	@tools/tidy
	clang-format-14 --dry-run $(FORMATTED)
	clang-tidy-14 --quiet -p $(BUILD_TEST) $(filter src/%.c,$(FORMATTED))
	cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr -Isrc -I$(BUILD_TEST)/src src

install: all
	install -D -m 755 -s $(BUILD)/oxbow $(DESTDIR)$(PREFIX)/bin/oxbow

clean:
	rm -rf $(BUILD) $(BUILD_TEST) $(BUILD_FUZZ) $(BUILD_GUARD)
