%% SPDX-License-Identifier: Apache-2.0
%%
%% @doc Signals by name, such as `sigterm', and by number, 1 to 64.
-module(netrunner_signal).

-export([number/1, name/1]).
-export_type([signal/0]).

-type signal() :: atom() | 1..64.

%% @doc The number of a signal on this system.
-spec number(term()) -> {ok, 1..64} | {error, unknown_signal}.
number(Number) when is_integer(Number), Number >= 1, Number =< 64 ->
    {ok, Number};
number(Name) when is_atom(Name) ->
    case netrunner_nif:signals() of
        #{Name := Number} -> {ok, Number};
        #{} -> {error, unknown_signal}
    end;
number(_) ->
    {error, unknown_signal}.

%% @doc The name of a signal, or its number if it has none.
-spec name(1..64) -> signal().
name(Number) when is_integer(Number), Number >= 1, Number =< 64 ->
    %% sigio before sigpoll, its other name.
    Names = [Name || {Name, N} <- maps:to_list(netrunner_nif:signals()), N =:= Number],
    hd(lists:sort(Names) ++ [Number]).
