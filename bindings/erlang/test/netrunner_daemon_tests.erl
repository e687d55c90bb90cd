%% SPDX-License-Identifier: Apache-2.0
-module(netrunner_daemon_tests).
-include("support.hrl").
-import(support, [sh/1, until/1, marker/0, marked/1, gone/1, tree/1]).
-import(netrunner_daemon, [start_link/2, stop/1]).
-export([handler/2, log/2]).

all_test_() ->
    {setup,
        fun() ->
            #{level := Level} = logger:get_primary_config(),
            {ok, Config} = logger:get_handler_config(default),
            _ = logger:remove_handler(default),
            Level = logger:get_primary_config() =:= undefined orelse Level,
            ok = logger:set_primary_config(level, debug),
            {Level, Config}
        end,
        fun({Level, #{id := Id, module := Module} = Config}) ->
            ok = logger:set_primary_config(level, Level),
            ok = logger:add_handler(Id, Module, Config)
        end,
        [
            ?T(end_is_the_daemon_s_end),
            ?T(reasons),
            ?T(lines_and_chunks),
            ?T(all_output_is_handled_before_the_end),
            ?T(handlers_that_fail),
            ?T(handlers_that_are_slow_hold_the_program_back),
            ?T(logs),
            ?T(both_outputs),
            ?T(no_output_at_all),
            ?T(writes),
            ?T(idle_processes_wake_up),
            ?T(wait_for),
            ?T(stop_is_graceful),
            ?T(stop_of_one_that_ignores_it),
            ?T(killed_daemon),
            ?T(supervised),
            ?T(start_says_why),
            ?T(secrets_are_not_logged),
            ?T(statistics)
        ]}.

log(#{msg := Msg, meta := Meta, level := Level}, #{config := #{to := Pid}}) ->
    Pid ! {log, Level, Msg, Meta}.

with_log(Fun) ->
    ok = logger:add_handler(netrunner_test, ?MODULE, #{config => #{to => self()}}),
    try
        Fun()
    after
        logger:remove_handler(netrunner_test)
    end.

trapping(Fun) ->
    process_flag(trap_exit, true),
    try
        Fun()
    after
        process_flag(trap_exit, false)
    end.

reason(Daemon) ->
    receive
        {'EXIT', Daemon, Reason} -> Reason
    end.

end_is_the_daemon_s_end() ->
    trapping(fun() ->
        {ok, D} = start_link(sh("read x; exit 0"), []),
        ?assert(netrunner_daemon:is_alive(D)),
        ok = netrunner_daemon:write(D, "go\n"),
        ?assertEqual(normal, reason(D))
    end).

reasons() ->
    trapping(fun() ->
        {ok, A} = start_link(sh("exit 7"), []),
        ?assertEqual(error_exit_status, reason(A)),
        {ok, B} = start_link(sh("kill -9 $$"), [
            {exit_status_to_reason, fun(S) -> {status, S} end}
        ]),
        ?assertEqual({status, 137}, reason(B))
    end).

handler(Data, To) ->
    To ! {handled, Data}.

handled() ->
    receive
        {handled, Data} -> [Data | handled()];
        {'EXIT', _, _} -> []
    end.

lines_and_chunks() ->
    trapping(fun() ->
        Self = self(),
        Command = sh("printf 'one\\ntw'; sleep 0.05; printf 'o\\n\\nlast'"),
        {ok, _} = start_link(Command, [{output, {lines, {?MODULE, handler, [Self]}}}]),
        ?assertEqual([<<"one">>, <<"two">>, <<>>, <<"last">>], handled()),
        Fun = fun(Data) -> handler(Data, Self) end,
        {ok, _} = start_link(Command, [{output, {chunks, Fun}}]),
        ?assertEqual(<<"one\ntwo\n\nlast">>, iolist_to_binary(handled())),
        %% Nothing of a very long line is lost.
        {ok, _} = start_link(["head", "-c", "200000", "/dev/zero"], [{output, {lines, Fun}}]),
        Pieces = handled(),
        ?assert(length(Pieces) > 1),
        ?assertEqual(200000, iolist_size(Pieces))
    end).

all_output_is_handled_before_the_end() ->
    trapping(fun() ->
        Self = self(),
        Slow = fun(Line) ->
            timer:sleep(1),
            handler(Line, Self)
        end,
        {ok, _} = start_link(["seq", "1", "300"], [{output, {lines, Slow}}]),
        ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, 300)], handled())
    end).

handlers_that_fail() ->
    trapping(fun() ->
        Self = self(),
        Fails = fun(Line) ->
            Self ! {handled, Line},
            error(oh)
        end,
        {ok, _} = start_link(["seq", "1", "3"], [{output, {lines, Fails}}]),
        ?assertEqual([<<"1">>, <<"2">>, <<"3">>], handled())
    end).

handlers_that_are_slow_hold_the_program_back() ->
    Self = self(),
    Stuck = fun(_) ->
        Self ! {stuck, self()},
        receive
            go -> ok
        end
    end,
    {ok, D} = start_link(["yes"], [{output, {chunks, Stuck}}]),
    Drainer =
        receive
            {stuck, Pid} -> Pid
        end,
    %% The daemon answers all the same.
    ?assertMatch(#{output_byte_count := 0}, netrunner_daemon:statistics(D)),
    ?assert(netrunner_daemon:is_alive(D)),
    #{stdout_bytes := Read} = netrunner_daemon:stats(D),
    ?assert(Read =< 65536),
    Drainer ! go,
    receive
        {stuck, Drainer} -> ok
    end,
    ?assertMatch(#{output_byte_count := Read}, netrunner_daemon:statistics(D)),
    ok = stop(D).

logs() ->
    with_log(fun() ->
        trapping(fun() ->
            {ok, A} = start_link(sh("echo hello; printf '\\377\\n'; exit 3"), [
                {output, {log, notice}}, {log_metadata, #{my => key}}
            ]),
            ?assertMatch({"~ts~ts", [_, <<"hello">>]}, log_of(notice, key)),
            {Format, Args} = log_of(notice, key),
            ?assertEqual("sh: \x{fffd}", lists:flatten(io_lib:format(Format, Args))),
            {EndFormat, EndArgs} = log_of(error, key),
            ?assertEqual(
                "sh: Process exited with status 3", lists:flatten(io_lib:format(EndFormat, EndArgs))
            ),
            _ = reason(A),
            {ok, B} = start_link(["echo", "hello"], [
                {output, {log, error}},
                {log_prefix, "says: "},
                {log_transform, fun string:uppercase/1},
                {log_metadata, #{my => other}}
            ]),
            {F2, A2} = log_of(error, other),
            ?assertEqual("says: HELLO", lists:flatten(io_lib:format(F2, A2))),
            _ = reason(B)
        end)
    end),
    support:flush().

log_of(Level, Mine) ->
    receive
        {log, Level, Msg, #{my := Mine}} -> Msg
    end.

both_outputs() ->
    trapping(fun() ->
        Self = self(),
        Fun = fun(Line) -> handler(Line, Self) end,
        Script = sh("for i in 1 2 3; do echo out; echo err >&2; done"),
        Run = fun(Options) ->
            {ok, _} = start_link(Script, [{output, {lines, Fun}} | Options]),
            lists:sort(handled())
        end,
        Err = lists:duplicate(3, <<"err">>),
        Out = lists:duplicate(3, <<"out">>),
        ?assertEqual(Err ++ Out, Run([])),
        ?assertEqual(Err ++ Out, Run([{stderr, redirect}])),
        ?assertEqual(Out, Run([{stderr, null}])),
        ?assertEqual(Err, Run([{stdout, null}])),
        %% One that is busy does not keep the other one waiting.
        {ok, D} = start_link(sh("yes out & sleep 0.1; echo err >&2; wait"), [
            {output,
                {lines, fun
                    (<<"err">>) -> Self ! err;
                    (_) -> ok
                end}}
        ]),
        receive
            err -> ok
        end,
        stop(D),
        reason(D)
    end).

no_output_at_all() ->
    trapping(fun() ->
        {ok, D} = start_link(sh("read x"), [{stdout, null}, {stderr, null}]),
        ?assert(netrunner_daemon:is_alive(D)),
        ok = netrunner_daemon:close_stdin(D),
        ?assertEqual(error_exit_status, reason(D)),
        %% A program that closes its outputs runs on.
        Marker = marker(),
        {ok, E} = start_link(sh("exec >&- 2>&-; exec sleep " ++ Marker), []),
        until(fun() -> marked(Marker) =/= [] end),
        ?assert(netrunner_daemon:is_alive(E)),
        ok = stop(E),
        ?assertEqual(normal, reason(E))
    end).

writes() ->
    Self = self(),
    {ok, D} = start_link(["cat"], [{output, {chunks, fun(X) -> Self ! {cat, X} end}}]),
    ok = netrunner_daemon:write(D, "hello"),
    receive
        {cat, Data} -> ?assertEqual(<<"hello">>, Data)
    end,
    ok = stop(D),
    %% Who does not read its input stops nobody else.
    {ok, E} = start_link(["sleep", "1000"], []),
    Writer = spawn(fun() -> netrunner_daemon:write(E, binary:copy(<<0>>, 4000000)) end),
    until(fun() -> process_info(Writer, status) =:= {status, waiting} end),
    ?assert(is_integer(netrunner_daemon:os_pid(E))),
    ok = stop(E).

idle_processes_wake_up() ->
    Self = self(),
    Options = [{output, {lines, fun(Line) -> Self ! {line, Line} end}}, {stderr, consume}],
    {ok, D} = start_link(sh("while read x; do echo $x; echo $x >&2; done"), Options),
    [
        begin
            {links, Links} = process_info(D, links),
            Hibernates = fun(Pid) ->
                process_info(Pid, current_function) =:= {current_function, {erlang, hibernate, 3}}
            end,
            until(fun() -> lists:all(Hibernates, [D | Links -- [self()]]) end),
            ok = netrunner_daemon:write(D, "hello\n"),
            [
                receive
                    {line, <<"hello">>} -> ok
                end
             || _ <- [out, err]
            ]
        end
     || _ <- [1, 2]
    ],
    ok = stop(D).

wait_for() ->
    trapping(fun() ->
        Self = self(),
        Wait = fun() ->
            Self ! {waiting, self()},
            receive
                go -> ok
            end
        end,
        {ok, D} = start_link(["cat"], [{wait_for, Wait}]),
        Waiter =
            receive
                {waiting, Pid} -> Pid
            end,
        undefined = netrunner_daemon:os_pid(D),
        ?assertNot(netrunner_daemon:is_alive(D)),
        ?assertEqual({error, not_running}, netrunner_daemon:write(D, "x")),
        ?assertEqual({error, not_running}, netrunner_daemon:kill(D)),
        ?assertEqual({error, not_running}, netrunner_daemon:close_stdin(D)),
        ?assertEqual(#{}, netrunner_daemon:stats(D)),
        Waiter ! go,
        until(fun() -> netrunner_daemon:is_alive(D) end),
        ok = stop(D),
        normal = reason(D),
        {ok, E} = start_link(["cat"], [{wait_for, fun() -> error(boom) end}]),
        ?assertMatch({boom, _}, reason(E)),
        {ok, F} = start_link(["cat"], [{wait_for, Wait}]),
        Waiter2 =
            receive
                {waiting, Pid2} -> Pid2
            end,
        Monitor = monitor(process, Waiter2),
        ok = stop(F),
        receive
            {'DOWN', Monitor, process, Waiter2, _} -> ok
        end,
        normal = reason(F),
        {ok, G} = start_link(["no-such-program"], [{wait_for, fun() -> ok end}]),
        ?assertMatch({enoent, _}, reason(G))
    end).

stop_is_graceful() ->
    Self = self(),
    Script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done",
    {ok, D} = start_link(sh(Script), [{output, {lines, fun(L) -> Self ! {line, L} end}}]),
    receive
        {line, <<"up">>} -> ok
    end,
    Pid = netrunner_daemon:os_pid(D),
    ok = stop(D),
    ?assertNot(support:is_running(Pid)),
    receive
        {line, <<"bye">>} -> ok
    after 0 -> error(no_last_words)
    end.

stop_of_one_that_ignores_it() ->
    Marker = marker(),
    Self = self(),
    {ok, D} = start_link(tree(Marker), [
        {kill_timeout, 100}, {output, {lines, fun(L) -> Self ! {line, L} end}}
    ]),
    receive
        {line, <<"up">>} -> ok
    end,
    ok = stop(D),
    ?assertEqual([], marked(Marker)).

killed_daemon() ->
    trapping(fun() ->
        Marker = marker(),
        {ok, D} = start_link(["sleep", Marker], []),
        until(fun() -> marked(Marker) =/= [] end),
        exit(D, kill),
        killed = reason(D),
        gone(Marker)
    end).

supervised() ->
    trapping(fun() ->
        Marker = marker(),
        Spec = fun(Restart, Command) ->
            #{id => d, start => {netrunner_daemon, start_link, [Command]}, restart => Restart, shutdown => 6000}
        end,
        Start = fun(Restart, Command) ->
            {ok, Sup} = supervisor:start_link(test_supervisor, [
                {#{intensity => 100, period => 1}, [Spec(Restart, Command)]}
            ]),
            Sup
        end,
        Child = fun(Sup) ->
            [{d, Pid, _, _}] = supervisor:which_children(Sup),
            Pid
        end,
        Stop = fun(Sup) ->
            exit(Sup, shutdown),
            shutdown = reason(Sup)
        end,
        Permanent = Start(permanent, ["sleep", Marker]),
        First = Child(Permanent),
        Pid = netrunner_daemon:os_pid(First),
        {<<>>, 0} = netrunner:run(["kill", "-9", integer_to_list(Pid)]),
        until(fun() -> is_pid(Child(Permanent)) andalso Child(Permanent) =/= First end),
        until(fun() -> length(marked(Marker)) =:= 1 end),
        Stop(Permanent),
        ?assertEqual([], marked(Marker)),
        Transient = Start(transient, ["true"]),
        until(fun() -> Child(Transient) =:= undefined end),
        Stop(Transient)
    end).

start_says_why() ->
    trapping(fun() ->
        ?assertMatch({error, {enoent, _}}, start_link(["no-such-program"], [])),
        ?assertMatch({error, {invalid_args, _}}, start_link(["echo", "a\0b"], [])),
        lists:foreach(
            fun(Option) ->
                ?assertError({bad_option, _, _, _}, start_link(["true"], [Option]))
            end,
            [
                {no_such_option, 1},
                {output, screen},
                {output, {log, loud}},
                {output, {lines, fun() -> ok end}},
                {output, {lines, {m, f, a}}},
                {log_metadata, []},
                {log_transform, fun() -> ok end},
                {log_prefix, 1},
                {stderr, pipe},
                {exit_status_to_reason, ok},
                {wait_for, fun(_) -> ok end}
            ]
        )
    end),
    support:flush().

secrets_are_not_logged() ->
    with_log(fun() ->
        trapping(fun() ->
            {ok, D} = start_link(["cat"], [
                {env, [{"SECRET", "xyzzy"}]}, {wait_for, fun() -> timer:sleep(infinity) end}
            ]),
            D ! {'EXIT', self(), oh},
            _ = reason(D),
            receive
                {log, error, Report, _} ->
                    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Report]), "xyzzy"))
            end
        end)
    end),
    support:flush().

statistics() ->
    {ok, D} = start_link(sh("echo 12345; sleep 1000"), []),
    until(fun() -> netrunner_daemon:statistics(D) =:= #{output_byte_count => 6, cgroup => #{}} end),
    ?assertMatch(#{stdout_bytes := 6}, netrunner_daemon:stats(D)),
    ?assertEqual({error, no_cgroup}, netrunner_daemon:cgroup_get(D, "memory.max")),
    ?assertEqual({error, no_cgroup}, netrunner_daemon:cgroup_set(D, "memory.max", "max")),
    ?assertEqual(#{}, netrunner_daemon:cgroup_config(D)),
    ?assertEqual(undefined, netrunner_daemon:cgroup_path(D)),
    ok = stop(D).
