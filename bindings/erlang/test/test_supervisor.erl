%% SPDX-License-Identifier: Apache-2.0
-module(test_supervisor).
-behaviour(supervisor).
-export([init/1]).

init([Specs]) -> {ok, Specs}.
