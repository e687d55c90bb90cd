# SPDX-License-Identifier: Apache-2.0
#
# make            build the library and the shepherd into build/
# make help       list the targets

VERSION := $(shell sed -n 's/^\#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/netrunner.h | paste -sd.)
SONAME := libnetrunner.so.$(firstword $(subst ., ,$(VERSION)))

BUILD ?= build
GO ?= go
CC ?= cc
OBJCOPY ?= objcopy
AR ?= ar
SANITIZE := address,undefined

CFLAGS ?= -O2 -g
C_WARNINGS := -std=gnu11 -Wall -Wextra -Werror
GO_SOURCES := $(wildcard go.mod go.sum core/*.go core/wire/*.go)
CAPI_SOURCES := $(GO_SOURCES) $(wildcard capi/*.go capi/*.c capi/*.h capi/*.inc) include/netrunner.h
SHEPHERD_SOURCES := $(GO_SOURCES) $(wildcard shepherd/*.go shepherd/*.s) include/netrunner.h

# What the linker of a host's program has to know too. Nothing is unloaded: a
# Go runtime can't be.
LINK := -shared -Wl,-soname,$(SONAME) -Wl,--version-script=capi/exports.map \
	-Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-Bsymbolic -Wl,--no-undefined

.PHONY: all
all: $(BUILD)/libnetrunner.so $(BUILD)/netrunner-shepherd ## build the library and the shepherd (the default)

# The library is linked by hand from a c-archive: Go's .init_array, by which the
# dynamic linker would start the runtime, is renamed for capi/guest.c to find,
# and runtime.sigtable is made visible to it. See docs/decisions/0001.
#
# $(1): flags of go build, $(2): flags of the linker
define link_library
	rm -rf $(@D)/objects && mkdir -p $(@D)/objects
	CGO_ENABLED=1 CC="$(CC)" $(GO) build $(1) -trimpath -buildmode=c-archive -o $(@D)/objects/go.a ./capi
	cd $(@D)/objects && $(AR) x go.a && rm go.a go.h
	$(OBJCOPY) --rename-section .init_array=nr_go_init --globalize-symbol=runtime.sigtable $(@D)/objects/go.o
	$(CC) $(2) $(LINK) -o $@ $(@D)/objects/*.o -lpthread -ldl
	rm -r $(@D)/objects
	ln -sf $(@F) $(@D)/$(SONAME)
endef

$(BUILD)/libnetrunner.so: $(CAPI_SOURCES) capi/exports.map Makefile
	@mkdir -p $(@D)
	$(call link_library,-ldflags "-s -w",)

$(BUILD)/netrunner-shepherd: $(SHEPHERD_SOURCES) Makefile
	@mkdir -p $(@D)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./shepherd

# The same under AddressSanitizer and UndefinedBehaviorSanitizer, for tests.
ASAN := $(BUILD)/asan
$(ASAN)/libnetrunner.so: $(CAPI_SOURCES) capi/exports.map Makefile
	@mkdir -p $(@D)
	$(call link_library,-asan,-fsanitize=$(SANITIZE))

$(ASAN)/netrunner-shepherd: $(BUILD)/netrunner-shepherd
	@mkdir -p $(@D)
	cp $< $@
