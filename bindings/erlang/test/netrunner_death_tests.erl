%% SPDX-License-Identifier: Apache-2.0
%%
%% A node dies, in each of the ways it can, and nothing survives of what it has
%% started: by run, a stream, a process, a daemon.
-module(netrunner_death_tests).
-include("support.hrl").
-import(support, [until/1, marker/0, marked/1, gone/1]).
-export([node/1]).

all_test_() ->
    [
        ?T(sigkill),
        ?T(sigterm),
        ?T(halt),
        ?T(abort),
        ?T(init_stop),
        ?T(crash),
        ?T(heart),
        ?T(sigkill_with_a_fork)
    ].

sigkill() -> dies(fun({_, Pid}) -> signal("KILL", Pid) end).
sigterm() -> dies(fun({_, Pid}) -> signal("TERM", Pid) end).
halt() -> dies(tells("halt")).
abort() -> dies(tells("abort")).
init_stop() -> dies(tells("stop")).
crash() -> dies(fun({_, Pid}) -> signal("SEGV", Pid) end).

%% heart(3) kills a node that does not answer, and starts it again: here a command
%% that does nothing.
heart() ->
    Marker = marker(),
    {Port, Pid} = start(Marker, ["-heart", "-env", "HEART_COMMAND", "true", "-env", "HEART_BEAT_TIMEOUT", "11"]),
    signal("STOP", Pid),
    %% heart takes a node that is stopped for dead after its timeout.
    until(fun() -> not support:is_running(Pid) end),
    gone(Marker),
    catch port_close(Port).

%% A child of the node holds copies of all descriptors.
sigkill_with_a_fork() ->
    Marker = marker(),
    {Port, Pid} = start(Marker, []),
    port_command(Port, "port\n"),
    receive
        {Port, {data, {eol, <<"ready">>}}} -> ok
    end,
    signal("KILL", Pid),
    gone(Marker),
    catch port_close(Port).

tells(What) ->
    fun({Port, _}) -> port_command(Port, What ++ "\n") end.

dies(How) ->
    Marker = marker(),
    {Port, Pid} = start(Marker, []),
    ?assert(length(marked(Marker)) >= 15),
    _ = How({Port, Pid}),
    until(fun() -> not support:is_running(Pid) end),
    gone(Marker),
    catch port_close(Port),
    support:flush().

signal(Name, Pid) when is_integer(Pid) ->
    {<<>>, 0} = netrunner:run(["kill", "-" ++ Name, integer_to_list(Pid)]),
    ok.

%% A node that has programs of all kinds. This node's library is not to end them.
start(Marker, Args) ->
    Paths = lists:append([["-pa", filename:dirname(code:which(M))] || M <- [netrunner, ?MODULE]]),
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noshell", "-env", "ERL_CRASH_DUMP", "/dev/null"] ++ Args ++ Paths ++
            ["-eval", "netrunner_death_tests:node(\"" ++ Marker ++ "\")"]},
        {line, 1000},
        binary,
        exit_status
    ]),
    receive
        {Port, {data, {eol, <<"pid ", Pid/binary>>}}} -> {Port, binary_to_integer(Pid)}
    end.

%% In that node.
node(Marker) ->
    Spawn = fun(Fun) ->
        spawn(fun() ->
            Fun(),
            timer:sleep(infinity)
        end)
    end,
    Plain = support:tree(Marker),
    Spawn(fun() -> netrunner:run(Plain) end),
    Spawn(fun() ->
        {ok, S} = netrunner:stream(Plain),
        {stdout, <<"up\n">>, Next} = netrunner:next(S),
        netrunner:next(Next)
    end),
    Spawn(fun() -> {ok, _} = netrunner_process:start(["sleep", Marker]) end),
    Spawn(fun() -> {ok, _} = netrunner_daemon:start_link(["sleep", Marker]) end),
    Spawn(fun() -> {ok, _} = netrunner_process:start(["sleep", Marker], [own_shepherd]) end),
    Spawn(fun() -> netrunner:run(support:sh("sleep " ++ Marker ++ " & sleep " ++ Marker), [linger]) end),
    until(fun() -> length(marked(Marker)) >= 15 end),
    io:format("pid ~s~n", [os:getpid()]),
    Spawn(fun() -> commands(Marker) end).

commands(Marker) ->
    case io:get_line("") of
        "halt\n" -> erlang:halt(0, [{flush, false}]);
        "abort\n" -> erlang:halt(abort);
        "stop\n" -> init:stop();
        "port\n" ->
            %% Outside of all care; it is not marked, but ends with its input.
            open_port({spawn, "cat"}, []),
            io:format("ready~n"),
            commands(Marker);
        eof -> ok
    end.
