# SPDX-License-Identifier: Apache-2.0
#
#     make install PREFIX=/usr DESTDIR=/tmp/package LIBDIR=/usr/lib/x86_64-linux-gnu

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
# Where the library looks for the shepherd, from where it is itself.
LIBEXECDIR ?= $(abspath $(LIBDIR)/../libexec/netrunner)
# A tree that can be moved: netrunner.pc says where it is from where it is itself.
RELOCATABLE ?=

INSTALL ?= install
MANUALS := $(wildcard man/*.[1-8])
# Each function's name is one more name of netrunner(3).
FUNCTIONS := $(shell grep -oE "nr_[a-z_]+" capi/exports.map)

# ldconfig tells the dynamic linker; of a DESTDIR there is nothing to tell.
define tell_linker
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi
endef

.PHONY: install
install: all ## install: PREFIX=/usr/local, DESTDIR=, LIBDIR= and others
ifeq ($(filter $(abspath $(LIBDIR) $(LIBDIR)/../libexec/netrunner),$(abspath $(LIBEXECDIR))),)
	$(error LIBEXECDIR: the library looks for the shepherd in $(LIBDIR) and in $(abspath $(LIBDIR)/../libexec/netrunner), and nowhere else)
endif
	$(INSTALL) -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(LIBEXECDIR)" "$(DESTDIR)$(INCLUDEDIR)" "$(DESTDIR)$(BINDIR)"
	$(INSTALL) -m 755 $(BUILD)/libnetrunner.so "$(DESTDIR)$(LIBDIR)/libnetrunner.so.$(VERSION)"
	ln -sf libnetrunner.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libnetrunner.so"
	if [ -e $(BUILD)/libnetrunner.a ]; then $(INSTALL) -m 644 $(BUILD)/libnetrunner.a "$(DESTDIR)$(LIBDIR)/"; fi
	$(INSTALL) -m 755 $(BUILD)/netrunner-shepherd "$(DESTDIR)$(LIBEXECDIR)/"
	$(INSTALL) -m 755 $(BUILD)/nrun "$(DESTDIR)$(BINDIR)/"
	$(INSTALL) -m 644 include/netrunner.h "$(DESTDIR)$(INCLUDEDIR)/"
	sed -e 's|@PREFIX@|$(if $(RELOCATABLE),$${pcfiledir}/../..,$(PREFIX))|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
		-e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
		packaging/netrunner.pc.in >"$(DESTDIR)$(LIBDIR)/pkgconfig/netrunner.pc"
	chmod 644 "$(DESTDIR)$(LIBDIR)/pkgconfig/netrunner.pc"
	for page in $(MANUALS); do \
		$(INSTALL) -D -m 644 $$page "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	for name in $(FUNCTIONS); do ln -sf netrunner.3 "$(DESTDIR)$(MANDIR)/man3/$$name.3" || exit 1; done
	$(tell_linker)

.PHONY: uninstall
uninstall: ## remove what `make install` with the same variables has put there
	rm -f "$(DESTDIR)$(LIBDIR)/libnetrunner.so" "$(DESTDIR)$(LIBDIR)/$(SONAME)" \
		"$(DESTDIR)$(LIBDIR)/libnetrunner.so.$(VERSION)" "$(DESTDIR)$(LIBDIR)/libnetrunner.a" \
		"$(DESTDIR)$(LIBDIR)/pkgconfig/netrunner.pc" "$(DESTDIR)$(INCLUDEDIR)/netrunner.h" \
		"$(DESTDIR)$(LIBEXECDIR)/netrunner-shepherd" "$(DESTDIR)$(BINDIR)/nrun"
	for page in $(MANUALS); do rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; done
	for name in $(FUNCTIONS); do rm -f "$(DESTDIR)$(MANDIR)/man3/$$name.3"; done
	if [ "$(notdir $(LIBEXECDIR))" = netrunner ]; then rmdir "$(DESTDIR)$(LIBEXECDIR)" 2>/dev/null || :; fi
	$(tell_linker)

.PHONY: release
release: ## source and binary tarballs of HEAD, checksums, contents, in build/release/
	@BUILD=$(BUILD) packaging/release.sh
