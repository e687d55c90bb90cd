# SPDX-License-Identifier: Apache-2.0
#
# make            build the library, the shepherd and nrun into build/
# make help       list the targets

VERSION := $(shell sed -n 's/^\#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/netrunner.h | paste -sd.)
SONAME := libnetrunner.so.$(firstword $(subst ., ,$(VERSION)))

BUILD ?= build
GO ?= go
ifeq ($(origin CC),default)
CC := gcc
endif
OBJCOPY ?= objcopy
AR ?= ar
SANITIZE := address,undefined

CFLAGS ?= -O2 -g
C_WARNINGS := -std=gnu11 -Wall -Wextra -Werror
# What is built does not tell where, or from what kind of a copy.
C_PATHS := -ffile-prefix-map='$(CURDIR)'=.
GO_PATHS := -trimpath -buildvcs=false
GO_SOURCES := $(wildcard go.mod go.sum core/*.go core/wire/*.go)
CAPI_SOURCES := $(GO_SOURCES) $(wildcard capi/*.go capi/*.c capi/*.h capi/*.inc) include/netrunner.h
SHEPHERD_SOURCES := $(GO_SOURCES) $(wildcard shepherd/*.go shepherd/*.s) include/netrunner.h

# What the linker of a host's program has to know too. Nothing is unloaded: a
# Go runtime can't be.
LINK := -shared -Wl,-soname,$(SONAME) -Wl,--version-script=capi/exports.map \
	-Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-Bsymbolic -Wl,--no-undefined

.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/libnetrunner.so $(BUILD)/netrunner-shepherd $(BUILD)/nrun ## build the library, the shepherd and nrun (the default)

# The library is linked by hand from a c-archive: Go's .init_array, by which the
# dynamic linker would start the runtime, is renamed for capi/guest.c to find,
# and runtime.sigtable is made visible to it. See docs/decisions/0001.
#
# $(1): environment and $(2): flags of go build
define compile_objects
	rm -rf $@.objects && mkdir -p $@.objects
	CGO_ENABLED=1 CC="$(CC)" $(1) $(GO) build $(2) $(GO_PATHS) -buildmode=c-archive -o $@.objects/go.a ./capi
	cd $@.objects && $(AR) x go.a && rm go.a go.h
	$(OBJCOPY) --rename-section .init_array=nr_go_init --globalize-symbol=runtime.sigtable $@.objects/go.o
endef

# $(1) and $(2) likewise, $(3): flags of the linker
define link_library
	$(call compile_objects,$(1),$(2))
	$(CC) $(3) $(LINK) -o $@ $@.objects/*.o -lpthread -ldl
	rm -r $@.objects
	ln -sf $(@F) $(@D)/$(SONAME)
endef

$(BUILD)/libnetrunner.so: $(CAPI_SOURCES) capi/exports.map Makefile
	@mkdir -p $(@D)
	$(call link_library,,-ldflags "-s -w",)

$(BUILD)/netrunner-shepherd: $(SHEPHERD_SOURCES) Makefile
	@mkdir -p $(@D)
	CGO_ENABLED=0 $(GO) build $(GO_PATHS) -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./shepherd

# nrun finds the library beside itself, and where `make install` puts it; $LIB
# is lib, lib64 or lib/x86_64-linux-gnu, as the system has it.
define link_nrun
	$(CC) $(CFLAGS) $(C_PATHS) $(C_WARNINGS) $(1) -I include -o $@ $(sort $(wildcard nrun/*.c)) -L $(@D) -lnetrunner \
		-Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib:$$ORIGIN/../$$LIB'
endef

$(BUILD)/nrun: $(wildcard nrun/*.[ch]) include/netrunner.h $(BUILD)/libnetrunner.so Makefile
	$(call link_nrun,)

# The same as one object, in which only the functions of netrunner.h are visible.
# (-d: also what would become common symbols is put into it.)
.PHONY: static
static: $(BUILD)/libnetrunner.a $(BUILD)/netrunner-shepherd ## build libnetrunner.a; CC=musl-gcc for musl

$(BUILD)/libnetrunner.a: $(CAPI_SOURCES) capi/exports.map Makefile
	@mkdir -p $(@D)
	$(call compile_objects,,-ldflags "-s -w")
	$(CC) -r -nostdlib -Wl,-d -o $@.objects/netrunner.o $@.objects/*.o
	grep -o 'nr_[a-z_]*' capi/exports.map >$@.objects/exports
	$(OBJCOPY) --keep-global-symbols=$@.objects/exports $@.objects/netrunner.o
	rm -f $@ && $(AR) rcs $@ $@.objects/netrunner.o
	rm -r $@.objects

# The same under AddressSanitizer and UndefinedBehaviorSanitizer, for tests.
ASAN := $(BUILD)/asan
$(ASAN)/libnetrunner.so: $(CAPI_SOURCES) capi/exports.map Makefile
	@mkdir -p $(@D)
	$(call link_library,CGO_CFLAGS="-g -O1 -fno-omit-frame-pointer -fsanitize=$(SANITIZE)",-asan,-fsanitize=$(SANITIZE))

$(ASAN)/netrunner-shepherd: $(BUILD)/netrunner-shepherd
	@mkdir -p $(@D)
	cp $< $@

$(ASAN)/nrun: $(wildcard nrun/*.[ch]) include/netrunner.h $(ASAN)/libnetrunner.so Makefile
	$(call link_nrun,-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)

# C tests. SANITIZED ones run against the sanitized library.
TEST_NAMES := $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_*.c))
TEST_SUPPORT := $(filter-out tests/c/test_%.c,$(wildcard tests/c/*.c))
TEST_HEADERS := $(wildcard tests/c/*.h tests/c/helpers/*.h) include/netrunner.h

# $(1): directory of the library, $(2): more flags
define link_test
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) $(2) -I include -I tests/c -o $@ $< $(TEST_SUPPORT) \
		-L $(1) -lnetrunner -lpthread -Wl,-rpath,'$$ORIGIN/..'
endef

$(BUILD)/tests/test_%: tests/c/test_%.c $(TEST_SUPPORT) $(TEST_HEADERS) $(BUILD)/libnetrunner.so
	$(call link_test,$(BUILD),)

$(ASAN)/tests/test_%: tests/c/test_%.c $(TEST_SUPPORT) $(TEST_HEADERS) $(ASAN)/libnetrunner.so
	$(call link_test,$(ASAN),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)

# Static: they also run where there is nothing else.
%/tests/testprog: tests/c/helpers/testprog.c $(wildcard tests/c/helpers/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -static -o $@ $<

%/tests/hostile: tests/c/helpers/hostile.c $(wildcard tests/c/helpers/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -static -o $@ $<

# A Go library that is not ours, as Go makes them.
%/tests/gohelper.so: tests/c/helpers/gohelper/main.go
	@mkdir -p $(@D)
	CGO_ENABLED=1 CC="$(CC)" $(GO) build -trimpath -buildmode=c-shared -o $@ ./tests/c/helpers/gohelper
	rm -f $(@:.so=.h)

$(BUILD)/tests/chaos: tests/chaos/chaos.c tests/c/proc.c $(TEST_HEADERS) $(BUILD)/libnetrunner.so
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -I include -I tests/c -o $@ $< tests/c/proc.c \
		-L $(BUILD) -lnetrunner -lpthread -Wl,-rpath,'$$ORIGIN/..'

# A host of chaos in Go. The race detector watches the core there.
$(BUILD)/tests/chaos-gohost: $(GO_SOURCES) $(wildcard tests/chaos/gohost/*.go) include/netrunner.h
	@mkdir -p $(@D)
	CGO_ENABLED=1 CC="$(CC)" $(GO) build -race -trimpath -ldflags "-X main.version=$(VERSION)" -o $@ ./tests/chaos/gohost

HELPERS := testprog hostile gohelper.so
BENCHES := $(addprefix $(BUILD)/bench/,spawn stream idle start teardown program)

.PHONY: tests
tests: all $(TEST_NAMES:%=$(BUILD)/tests/%) $(HELPERS:%=$(BUILD)/tests/%) \
	$(BUILD)/tests/chaos $(BUILD)/tests/chaos-gohost $(BENCHES) \
	$(ASAN)/netrunner-shepherd $(ASAN)/nrun $(TEST_NAMES:%=$(ASAN)/tests/%) $(HELPERS:%=$(ASAN)/tests/%) ## build the C tests

.PHONY: test
test: test-deps ## run all tests; ends with a line that counts them
	@$(MAKE) --no-print-directory tests
	@tests/run.sh

# `make test` runs a choice of them there.
.PHONY: test-arm64
test-arm64: ## all C tests on an emulated arm64, half an hour
	tests/vm/arm64.sh -a

N ?= 1000
SEED ?=
.PHONY: chaos
chaos: tests ## N rounds of random trees, hosts and faults; SEED= replays one
	$(BUILD)/tests/chaos -n $(N) $(if $(SEED),-s $(SEED))

# What measures, see tests/bench/run.py.
BENCH_SUPPORT := tests/bench/bench.c tests/bench/proc.c
$(BUILD)/bench/%: tests/bench/%.c $(BENCH_SUPPORT) $(wildcard tests/bench/*.h) $(BUILD)/libnetrunner.so include/netrunner.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -I include -o $@ $< $(BENCH_SUPPORT) -L $(BUILD) -lnetrunner -lutil \
		-Wl,-rpath,'$$ORIGIN/..'

# Not linked with the library: it loads it.
$(BUILD)/bench/start: tests/bench/start.c tests/bench/proc.c tests/bench/proc.h include/netrunner.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -I include -o $@ $< tests/bench/proc.c -ldl

$(BUILD)/bench/program: tests/bench/program.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(C_WARNINGS) -static -o $@ $<

ONLY ?=
.PHONY: bench
bench: all $(BENCHES) ## measure, beside peers; ONLY=spawn one part; on a machine that has nothing else to do
	@BUILD=$(BUILD) tests/bench/prepare.sh
	@BUILD=$(BUILD) python3 tests/bench/run.py $(ONLY)

.PHONY: benchdocs
benchdocs: ## put what was measured last into docs/performance.md and the README
	@BUILD=$(BUILD) python3 tests/bench/report.py

.PHONY: benchexpect
benchexpect: all $(BENCHES) ## store what tests/bench/counts.py counts now as what is to be expected
	@BUILD=$(BUILD) python3 tests/bench/counts.py --expect

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME
	@tests/fuzz.sh $(FUZZTIME)

.PHONY: check
check: all ## formatting and static checks
	@tests/check.sh

.PHONY: examples
examples: all ## build the programs in examples/ into build/examples/
	@mkdir -p $(BUILD)/examples
	@for name in run pipeline terminal; do \
		$(CC) -std=c11 $(CFLAGS) -Wall -Wextra -Werror -I include examples/$$name.c -o $(BUILD)/examples/$$name \
			-L $(BUILD) -lnetrunner -Wl,-rpath,'$$ORIGIN/..' || exit 1; \
	done

.PHONY: demo
demo: deps ## install what is missing, build, and run the main job on real input
	@$(MAKE) --no-print-directory examples
	@BUILD=$(BUILD) examples/demo.sh

.PHONY: deps
deps: ## install what building and testing need
	@tests/deps.sh

.PHONY: test-deps
test-deps:
	@tests/deps.sh --optional

include packaging/packaging.mk

# What only one binding knows: how its package is made.
include $(wildcard bindings/*/*.mk)

.PHONY: clean
clean: ## remove what has been built
	rm -rf $(BUILD)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | sort | while IFS='|' read -r target text; do \
		printf '%-15s %s\n' "$$target" "$$text"; done
