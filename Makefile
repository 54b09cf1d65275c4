# SPDX-License-Identifier: MIT
# What people type. Meson and ninja do the building, tools/ the rest. `make help` lists the targets.

SETUP_ASAN = -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dwerror=false \
             -Dc_args=-fno-sanitize-recover=all
SETUP_TSAN = -Db_sanitize=thread -Db_lundef=false -Doptimization=1 -Dwerror=false

.PHONY: all asan tsan install deb demo run check check-long lint format bench fault sim fuzz mutants deb-test newcomer deps clean help

all: build/build.ninja ## build build/posthaste, optimised
	ninja -C build

asan: build-asan/build.ninja ## build build-asan/ with the address and undefined behaviour sanitizers
	ninja -C build-asan

tsan: build-tsan/build.ninja ## build build-tsan/ with the thread sanitizer
	ninja -C build-tsan

install: build/build.ninja ## install what docs/PACKAGING.md lists: make install prefix=/usr DESTDIR=/tmp/root
	$(if $(prefix),meson configure build --prefix $(abspath $(prefix)))
	ninja -C build
	meson install -C build --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

deb: ## build Debian packages into build/deb
	tools/deps build deb
	tools/deb

demo: ## install what the build needs, build, and watch one message travel
	tools/deps build
	@$(MAKE) --no-print-directory all
	tools/demo

run: all ## keep a relay in the foreground and print how to send through it
	tools/demo --run

check: ## install what the tests need, build, and run them all (under 15 minutes)
	tools/deps build check
	tools/check

check-long: ## what check does, and the tests that take longer
	tools/deps build check bench fuzz deb deb-test
	tools/check --long

lint: build/build.ninja ## layout, clang-tidy, layers, undocumented functions, banned calls
	tools/lint

format: ## lay out all C files as lint wants them
	git ls-files -co --exclude-standard 'src/*.[ch]' 'test/*.[ch]' 'bench/*.[ch]' | xargs clang-format -i

config-doc: all ## write the configuration's keys into docs/INTERFACE.md
	build/src/conf/conf_doc_test docs/INTERFACE.md --write

bench: ## measure against Postfix, side by side: make bench CASES=relay_4k ROUNDS=3; CASES=growth
	tools/deps build check bench
	@$(MAKE) --no-print-directory all
	tools/peers
	bench/run CASES=$(CASES) ROUNDS=$(ROUNDS) SCALE=$(SCALE)

fault: ## one fault test, or check for all: make fault T=kill ROUNDS=100 FS=xfs SEED=1 PEER=exim
	tools/deps build check
	@$(MAKE) --no-print-directory all
	$(if $(PEER),tools/peers $(filter-out postfix,$(PEER)))
	@tools/fault $(T) $(foreach o,ROUNDS FS SEED MINUTES PEER,$(if $($o),$o=$($o)))

sim: all ## the simulator's laws over many seeds: make sim SEEDS=500 SEED0=1
	@ninja -C build sim
	@build/sim --json --seeds $(or $(SEEDS),500) --seed0 $(or $(SEED0),1)

fuzz: ## fuzz every parser and session, T seconds each: make fuzz T=60 [ONLY=smtp_model]
	tools/deps build fuzz
	tools/fuzz --seconds $(or $(T),60) $(ONLY)

mutants: all ## plant bugs that break the laws; each must be caught
	tools/mutants

deb-test: ## the packages judged, and lived with in a fresh Debian root
	tools/deps build check deb deb-test
	tools/deb-test

newcomer: ## both README commands in a fresh Debian root, as proof
	tools/newcomer

deps: ## install what the build needs
	tools/deps build

clean: ## remove what was built, but keep the peers' roots
	rm -rf build-asan build-tsan build-fuzz
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name 'peers*' -exec rm -rf {} +

help:
	@sed -n 's/^\([a-z-]*\):.*## /    make \1|/p' Makefile | column -t -s'|'

build/build.ninja:
	@tools/deps --check build
	meson setup build

build-asan/build.ninja:
	meson setup build-asan $(SETUP_ASAN)

build-tsan/build.ninja:
	meson setup build-tsan $(SETUP_TSAN)
