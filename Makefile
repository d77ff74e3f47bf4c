# Everything is built by Meson and Ninja; this file only gives names to the usual things to do.
#   make            build/nixbox                     make bench   the measurements
#   make run        a sample box, start to end       make soak    many boots in a row (BOOTS=200)
#   make check      every test                       make fuzz    longer fuzzing (FUZZ_SECONDS=60 for each target)
#   make lint       format and static analysis       make install PREFIX=/usr/local DESTDIR=
BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
BOOTS ?= 200

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
$(BUILD)/build.ninja:
	@meson setup $(BUILD) >/dev/null

deps:
	@tools/install-deps build
deps-check:
	@tools/install-deps build check

run: deps
	@$(MAKE) --no-print-directory all
	@examples/run/run.sh $(BUILD)/nixbox
check: deps-check
	@tools/check
lint: deps-check
	@tools/lint
fuzz: deps-check
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/check fuzz
bench: deps-check
	@$(MAKE) --no-print-directory all
	@bench/run $(BUILD)/nixbox
soak: deps
	@$(MAKE) --no-print-directory all
	@tools/soak $(BUILD)/nixbox $(BOOTS)
install: $(BUILD)/build.ninja
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD) --quiet $(if $(DESTDIR),--destdir "$(abspath $(DESTDIR))")
clean:
	rm -rf build build-san

.PHONY: all deps deps-check run check lint fuzz bench soak install clean
