# Everything is built by Meson and Ninja; this file only gives names to the usual things to do.
#   make            build/nixbox                     make bench   the measurements
#   make run        a sample box, start to end       make soak    an hour of fuzzing, faults, many boots (SOAK_MINUTES, FAULTS, BOOTS)
#   make check      every test                       make fuzz    longer fuzzing (FUZZ_SECONDS=60 for each target)
#   make lint       format and static analysis       make install PREFIX=/usr/local DESTDIR=
BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
BOOTS ?= 200
FAULTS ?= 250
SOAK_MINUTES ?= 60

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
$(BUILD)/build.ninja:
	@meson setup $(BUILD) >/dev/null

deps:
	@tools/install-deps build
deps-check:
	@tools/install-deps build check

deps-bench:
	@tools/install-deps build check bench

run: deps
	@$(MAKE) --no-print-directory all
	@examples/run/run.sh $(BUILD)/nixbox
check: deps-check
	@tools/check
lint: deps-check
	@tools/lint
fuzz: deps-check
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/check fuzz
bench: deps-bench
	@$(MAKE) --no-print-directory all
	@bench/run $(BUILD)/nixbox
	@NIXBOX_TEST_BUILD=$(abspath $(BUILD)) bench/load
soak: deps-check
	@$(MAKE) --no-print-directory all
	@FUZZ_SECONDS=1 tools/check build fuzz
	@tools/soak-fuzz $(SOAK_MINUTES)
	@tools/fuzz-coverage --check
	@NIXBOX_TEST_AGENTS=1 NIXBOX_TEST_IMAGES=0 NIXBOX_TEST_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -k agent tests/e2e/test_npm.py
	@NIXBOX_FAULT_ROUNDS=$(FAULTS) NIXBOX_TEST_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -s tests/e2e/test_faults.py
	@NIXBOX_RAW_SEEDS="$$(seq -s' ' $(FAULTS))" NIXBOX_TEST_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -k random tests/escape/test_raw_fuse.py
	@tools/soak $(BUILD)/nixbox $(BOOTS)
install: $(BUILD)/build.ninja
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD) --quiet $(if $(DESTDIR),--destdir "$(abspath $(DESTDIR))")
clean:
	rm -rf build build-san

.PHONY: all deps deps-check deps-bench run check lint fuzz bench soak install clean
