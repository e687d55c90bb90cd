%% SPDX-License-Identifier: Apache-2.0
%%
%% @doc The settings and statistics of a cgroup as Erlang terms.
%%
%% Settings are a map whose keys are the names of the kernel's files with `_'
%% instead of `.': `#{memory_max => 268435456, cpu_max => {50000, 100000}}'.
-module(netrunner_cgroup).

-export([settings/1, config/1, statistics/1, of_program/2]).
-export_type([config/0, reader/0]).

-type config() :: #{
    cpu_weight => 1..10000,
    cpu_max => max | {QuotaMicroseconds :: non_neg_integer(), PeriodMicroseconds :: pos_integer()},
    cpu_idle => boolean(),
    memory_min => non_neg_integer(),
    memory_low => non_neg_integer(),
    memory_high => non_neg_integer() | max,
    memory_max => non_neg_integer() | max,
    memory_swap_max => non_neg_integer() | max,
    memory_oom_group => boolean(),
    pids_max => non_neg_integer() | max,
    io_weight => 1..10000,
    cpuset_cpus => unicode:chardata(),
    cpuset_mems => unicode:chardata()
}.
%% Reads one file of a cgroup.
-type reader() :: fun((File :: binary()) -> {ok, binary()} | {error, atom()}).

fields() ->
    [
        {cpu_weight, <<"cpu.weight">>, weight},
        {cpu_max, <<"cpu.max">>, cpu_max},
        {cpu_idle, <<"cpu.idle">>, boolean},
        {memory_min, <<"memory.min">>, amount},
        {memory_low, <<"memory.low">>, amount},
        {memory_high, <<"memory.high">>, limit},
        {memory_max, <<"memory.max">>, limit},
        {memory_swap_max, <<"memory.swap.max">>, limit},
        {memory_oom_group, <<"memory.oom.group">>, boolean},
        {pids_max, <<"pids.max">>, limit},
        {io_weight, <<"io.weight">>, weight},
        {cpuset_cpus, <<"cpuset.cpus">>, text},
        {cpuset_mems, <<"cpuset.mems">>, text}
    ].

%% @doc What nr_options.cgroup_set takes: `[<<"memory.max=268435456">>]'.
-spec settings(config()) ->
    {ok, [binary()]} | {error, {unknown, Key :: term()} | {invalid, Key :: atom(), Value :: term()}}.
settings(Config) when is_map(Config) ->
    settings(lists:sort(maps:to_list(Config)), []).

settings([], Lines) ->
    {ok, lists:reverse(Lines)};
settings([{Key, Value} | Rest], Lines) ->
    case lists:keyfind(Key, 1, fields()) of
        {_, File, Type} ->
            case format(Type, Value) of
                error -> {error, {invalid, Key, Value}};
                Text -> settings(Rest, [iolist_to_binary([File, $=, Text]) | Lines])
            end;
        false ->
            {error, {unknown, Key}}
    end.

format(weight, N) when is_integer(N), N >= 1, N =< 10000 -> integer_to_binary(N);
format(boolean, true) ->
    <<"1">>;
format(boolean, false) ->
    <<"0">>;
format(Type, N) when is_integer(N), N >= 0, (Type =:= amount orelse Type =:= limit) ->
    integer_to_binary(N);
format(limit, max) ->
    <<"max">>;
format(cpu_max, max) ->
    <<"max 100000">>;
format(cpu_max, {Quota, Period}) when
    is_integer(Quota), Quota >= 0, is_integer(Period), Period > 0
->
    [integer_to_binary(Quota), $\s, integer_to_binary(Period)];
format(text, Text) when is_binary(Text); is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) ->
            case binary:match(Binary, [<<0>>, <<"\n">>]) of
                nomatch -> Binary;
                _ -> error
            end;
        _ ->
            error
    catch
        error:badarg -> error
    end;
format(_, _) ->
    error.

%% @doc The settings of a cgroup; what it does not have is left out.
-spec config(reader()) -> config().
config(Read) ->
    maps:from_list(
        [{Key, V} || {Key, File, Type} <- fields(), {ok, V} <- [read(Read, File, Type)]]
    ).

%% @doc What the kernel counts of a cgroup, by the names of the files. What
%% is not there is left out.
-spec statistics(reader()) -> #{binary() => term()}.
statistics(Read) ->
    Files = [
        {<<"memory.current">>, amount},
        {<<"memory.peak">>, amount},
        {<<"memory.events">>, flat},
        {<<"memory.swap.current">>, amount},
        {<<"memory.pressure">>, pressure},
        {<<"cpu.stat">>, flat},
        {<<"cpu.pressure">>, pressure},
        {<<"pids.current">>, amount},
        {<<"pids.peak">>, amount},
        {<<"pids.events">>, flat},
        {<<"io.pressure">>, pressure},
        {<<"cgroup.stat">>, flat}
    ],
    maps:from_list([{File, V} || {File, Type} <- Files, {ok, V} <- [read(Read, File, Type)]]).

read(Read, File, Type) ->
    case Read(File) of
        {ok, Text} -> parse(Type, string:trim(Text));
        {error, _} = Error -> Error
    end.

parse(boolean, <<"0">>) ->
    {ok, false};
parse(boolean, <<"1">>) ->
    {ok, true};
parse(limit, <<"max">>) ->
    {ok, max};
parse(Type, Text) when Type =:= amount; Type =:= limit; Type =:= weight ->
    case number(Text) of
        N when is_integer(N) -> {ok, N};
        _ -> error
    end;
parse(cpu_max, Text) ->
    case binary:split(Text, <<" ">>) of
        [<<"max">>, _] ->
            {ok, max};
        [Quota, Period] ->
            case {number(Quota), number(Period)} of
                {Q, P} when is_integer(Q), is_integer(P) -> {ok, {Q, P}};
                _ -> error
            end;
        _ ->
            error
    end;
parse(text, Text) ->
    {ok, Text};
parse(flat, Text) ->
    Pairs = [binary:split(Line, <<" ">>) || Line <- lines(Text)],
    some(maps:from_list([{K, N} || [K, V] <- Pairs, N <- [number(V)], is_integer(N)]));
parse(pressure, Text) ->
    Lines = [binary:split(Line, <<" ">>, [global, trim_all]) || Line <- lines(Text)],
    some(maps:from_list([{Kind, averages(Fields)} || [Kind | Fields] <- Lines]));
parse(_, _) ->
    error.

averages(Fields) ->
    Pairs = [binary:split(Field, <<"=">>) || Field <- Fields],
    maps:from_list([{K, N} || [K, V] <- Pairs, N <- [number(V)], N =/= error]).

some(Map) when map_size(Map) =:= 0 -> error;
some(Map) -> {ok, Map}.

lines(Text) ->
    binary:split(Text, <<"\n">>, [global, trim_all]).

number(Text) ->
    try
        binary_to_integer(Text)
    catch
        error:badarg ->
            try
                binary_to_float(Text)
            catch
                error:badarg -> error
            end
    end.

%% @private
%% The cgroup of a program, below the mount point of cgroup v2. One that is made for it
%% has a name that only the kernel tells, as long as the program runs.
-spec of_program(netrunner_nif:spec(), OsPid :: pos_integer()) -> none | unknown | binary().
of_program(#{cgroup_path := Path}, _) ->
    Path;
of_program(#{cgroup_base := _}, OsPid) ->
    case file:read_file(["/proc/", integer_to_list(OsPid), "/cgroup"]) of
        {ok, Text} ->
            case [Path || <<"0::/", Path/binary>> <- lines(Text), Path =/= <<>>] of
                [Path | _] -> Path;
                [] -> unknown
            end;
        {error, _} ->
            unknown
    end;
of_program(_, _) ->
    none.
