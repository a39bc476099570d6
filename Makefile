# For people: each target is one or two commands you could type. CMake and Ninja do the work.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
TEXT ?=
SHELL := /bin/bash
.DEFAULT_GOAL := all
.PHONY: help all deps run test check bench fuzz portable cuda install clean lines floors docs-check

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 20

all:             ## build build/loam and the library
	@cmake --preset release >/dev/null && cmake --build build -j $(JOBS) -- --quiet

deps:            ## install what is missing (Debian)
	@tools/install-deps.sh

run: deps        ## build, then adapt a small model to a text here and let it write: make run [TEXT=file]
	@$(MAKE) --no-print-directory all
	build/loam quickstart $(TEXT)

test: deps       ## build and run all tests; the last line is the total
	@$(MAKE) --no-print-directory all
	@tools/run-tests.sh build -j $(JOBS)

check:           ## all tests under address+undefined sanitizers, thread tests under the thread sanitizer
	@cmake --preset asan >/dev/null && cmake --build build-asan -j $(JOBS) -- --quiet && tools/run-tests.sh build-asan -j $(JOBS) -t 900
	@tools/check-threads.sh

bench:           ## benchmark programs and suites
	@tools/install-deps.sh --bench
	@$(MAKE) --no-print-directory all && cmake --build build --target benches -- --quiet
	build/loam bench

fuzz:            ## build the libFuzzer programs and run each for 30 s: make fuzz [SECONDS_EACH=30]
	@tools/install-deps.sh --fuzz
	@tools/fuzz.sh $(or $(SECONDS_EACH),30)

portable:        ## build-portable/loam: needs only glibc
	@cmake --preset portable >/dev/null && cmake --build build-portable -j $(JOBS) -- --quiet && ls -l build-portable/loam

cuda:            ## build-cuda/loam: with CUDA kernels (needs nvcc)
	@cmake --preset cuda >/dev/null && cmake --build build-cuda -j $(JOBS) -- --quiet && ls -l build-cuda/loam

install: all     ## into PREFIX (default /usr/local)
	@cmake --install build --prefix $(PREFIX)

floors:          ## do the rooms include only lower floors?
	@tools/floors.sh

docs-check:      ## do links and commands in the docs exist?
	@tools/check-docs.sh

lines:           ## lines of code per room
	@tools/lines.sh

clean:           ## remove all build folders
	rm -rf build build-*
