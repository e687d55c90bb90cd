%% SPDX-License-Identifier: Apache-2.0
-module(watchdog_app).
-behaviour(application).
-export([start/2, stop/1]).

start(_, _) -> watchdog_sup:start_link().

stop(_) -> ok.
