# SPDX-License-Identifier: Apache-2.0

BEAM = NETRUNNER_BUILD="$(abspath $(BUILD))" NETRUNNER_INCLUDE="$(CURDIR)/include"

.PHONY: erlang
erlang: all ## build the Erlang application in bindings/erlang/
	@$(BEAM) $(MAKE) --no-print-directory -C bindings/erlang

.PHONY: beambench
beambench: erlang ## measure Erlang and Elixir beside ports and System.cmd
	@bindings/erlang/bench/run
	@cd bindings/elixir && $(BEAM) MIX_ENV=prod mix run bench/bench.exs
