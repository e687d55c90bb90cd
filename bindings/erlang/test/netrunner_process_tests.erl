%% SPDX-License-Identifier: Apache-2.0
-module(netrunner_process_tests).
-include("support.hrl").
-import(support, [sh/1, until/1, marker/0, marked/1, gone/1, tree/1, collect/1]).
-import(netrunner_process, [start/1, start/2, stop/1, read/1, write/2, await_exit/1]).

all_test_() ->
    [
        ?T(reads_and_writes),
        ?T(output_survives_the_program),
        ?T(reads_are_served_in_order),
        ?T(a_dead_reader_takes_nothing),
        ?T(writes_are_whole),
        ?T(a_dead_writer_is_forgotten),
        ?T(closed_streams),
        ?T(batches),
        ?T(any_of_both),
        ?T(stderr_is_consumed),
        ?T(stderr_of_one_s_own),
        ?T(stderr_to_stdout),
        ?T(many_await_one_end),
        ?T(await_with_timeouts_forgets),
        ?T(signals),
        ?T(nobody_else_is_hit),
        ?T(outcomes),
        ?T(shutdown_in_steps),
        ?T(stop_ends_the_tree),
        ?T(killed_server_ends_the_tree),
        ?T(owner_s_end),
        ?T(owner_handed_on),
        ?T(pipe_owner_s_end),
        ?T(linked),
        ?T(named),
        ?T(statistics),
        ?T(terminal),
        ?T(terminal_end_of_file_waits_its_turn),
        ?T(start_says_why),
        ?T(killed_shepherd),
        ?T(no_cgroup),
        ?T(cgroups)
    ].

reads_and_writes() ->
    {ok, Cat} = start(["cat"]),
    ok = write(Cat, "hello"),
    {ok, <<"hello">>} = read(Cat),
    ok = write(Cat, [<<"wor">>, "ld"]),
    {ok, <<"wor">>} = netrunner_process:read(Cat, 3),
    {ok, <<"ld">>} = netrunner_process:read(Cat, 3),
    ok = write(Cat, ""),
    ok = netrunner_process:close_stdin(Cat),
    eof = read(Cat),
    eof = read(Cat),
    {ok, 0} = await_exit(Cat),
    ?assertError(badarg, write(Cat, not_iodata)),
    ok = stop(Cat).

output_survives_the_program() ->
    {ok, P} = start(sh("echo out; exit 3")),
    {ok, 3} = await_exit(P),
    {ok, <<"out\n">>} = read(P),
    eof = read(P),
    ok = stop(P).

reads_are_served_in_order() ->
    {ok, Cat} = start(["cat"]),
    Self = self(),
    Readers = [
        begin
            Pid = spawn_link(fun() -> Self ! {self(), netrunner_process:read(Cat, 1)} end),
            until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
            Pid
        end
     || _ <- [1, 2, 3]
    ],
    ok = write(Cat, "abc"),
    Got = [
        receive
            {Pid, {ok, Data}} -> Data
        end
     || Pid <- Readers
    ],
    ?assertEqual([<<"a">>, <<"b">>, <<"c">>], Got),
    ok = stop(Cat).

a_dead_reader_takes_nothing() ->
    {ok, Cat} = start(["cat"]),
    {Reader, Monitor} = spawn_monitor(fun() -> read(Cat) end),
    until(fun() -> process_info(Reader, status) =:= {status, waiting} end),
    exit(Reader, kill),
    receive
        {'DOWN', Monitor, process, Reader, _} -> ok
    end,
    ok = write(Cat, "for the living"),
    {ok, <<"for the living">>} = read(Cat),
    ok = stop(Cat).

writes_are_whole() ->
    {ok, Cat} = start(["cat"]),
    Self = self(),
    Size = 300000,
    Writers = [
        spawn_link(fun() -> Self ! {self(), write(Cat, binary:copy(<<C>>, Size))} end)
     || C <- "abcd"
    ],
    Runs = runs(Cat, 4 * Size, []),
    [
        receive
            {Pid, Result} -> ?assertEqual(ok, Result)
        end
     || Pid <- Writers
    ],
    ?assertEqual([{C, Size} || C <- "abcd"], lists:sort(Runs)),
    #{stdin_bytes := In, stdout_bytes := Out} = netrunner_process:stats(Cat),
    ?assertEqual({4 * Size, 4 * Size}, {In, Out}),
    ok = stop(Cat).

runs(_, 0, Runs) ->
    Runs;
runs(Cat, Left, Runs) ->
    {ok, Data} = read(Cat),
    New = lists:foldl(
        fun
            (C, [{C, N} | Others]) -> [{C, N + 1} | Others];
            (C, Others) -> [{C, 1} | Others]
        end,
        Runs,
        binary_to_list(Data)
    ),
    runs(Cat, Left - byte_size(Data), New).

a_dead_writer_is_forgotten() ->
    {ok, Cat} = start(["cat"]),
    Self = self(),
    Waits = fun(Data) ->
        Pid = spawn(fun() -> Self ! {self(), write(Cat, Data)} end),
        until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
        Pid
    end,
    First = Waits(binary:copy(<<"a">>, 3000000)),
    Second = Waits(<<"b">>),
    Third = Waits(<<"c">>),
    Monitor = monitor(process, Second),
    exit(Second, kill),
    receive
        {'DOWN', Monitor, process, Second, _} -> ok
    end,
    %% Others are served meanwhile.
    ?assert(netrunner_process:is_alive(Cat)),
    ?assertEqual([{$a, 3000000}, {$c, 1}], lists:sort(runs(Cat, 3000001, []))),
    [
        receive
            {Pid, Result} -> ?assertEqual(ok, Result)
        end
     || Pid <- [First, Third]
    ],
    ok = stop(Cat).

closed_streams() ->
    {ok, Cat} = start(["cat"]),
    ok = netrunner_process:close_stdin(Cat),
    ok = netrunner_process:close_stdin(Cat),
    {error, closed} = write(Cat, "more"),
    {ok, 0} = await_exit(Cat),
    ok = stop(Cat),
    {ok, True} = start(["true"]),
    {ok, 0} = await_exit(True),
    {error, epipe} = write(True, "more"),
    ok = stop(True),
    {ok, Yes} = start(["yes"]),
    ok = netrunner_process:close(Yes, stdout),
    {error, closed} = read(Yes),
    {ok, 141} = await_exit(Yes),
    ok = stop(Yes),
    %% Who waits to write is told.
    {ok, Sleep} = start(["sleep", "1000"]),
    Self = self(),
    Writer = spawn_link(fun() -> Self ! {wrote, write(Sleep, binary:copy(<<"x">>, 3000000))} end),
    until(fun() -> process_info(Writer, status) =:= {status, waiting} end),
    ok = netrunner_process:close_stdin(Sleep),
    receive
        {wrote, Result} -> ?assertEqual({error, closed}, Result)
    end,
    ok = stop(Sleep).

batches() ->
    {ok, Cat} = start(["cat"]),
    ok = write(Cat, "abcdef"),
    {ok, [<<"ab">>, <<"cd">>]} = netrunner_process:read_batch(Cat, 2, 2),
    {ok, [<<"ef">>]} = netrunner_process:read_batch(Cat, 2, 2),
    Self = self(),
    spawn_link(fun() -> Self ! {batch, netrunner_process:read_batch(Cat)} end),
    ok = write(Cat, "later"),
    receive
        {batch, Batch} -> ?assertEqual({ok, [<<"later">>]}, Batch)
    end,
    ok = netrunner_process:close_stdin(Cat),
    eof = netrunner_process:read_batch(Cat),
    ok = stop(Cat).

any_of_both() ->
    {ok, P} = start(sh("echo out; echo err >&2"), [{stderr, pipe}]),
    {ok, A} = netrunner_process:read_any(P),
    {ok, B} = netrunner_process:read_any(P),
    ?assertEqual([{stderr, <<"err\n">>}, {stdout, <<"out\n">>}], lists:sort([A, B])),
    eof = netrunner_process:read_any(P),
    ok = stop(P),
    {ok, Late} = start(sh("exec 2>&-; sleep 0.1; printf foo"), [{stderr, pipe}]),
    {ok, {stdout, <<"foo">>}} = netrunner_process:read_any(Late),
    eof = netrunner_process:read_any(Late),
    ok = stop(Late).

stderr_is_consumed() ->
    Errors = "yes errline 2>/dev/null | head -c 1000000 >&2",
    {ok, P} = start(sh(Errors), [{stderr_tail_bytes, 80}]),
    {ok, 0} = await_exit(P),
    ?assertEqual(binary:copy(<<"errline\n">>, 10), netrunner_process:stderr_tail(P)),
    ?assertMatch(#{stderr_bytes := 1000000}, netrunner_process:stats(P)),
    ok = stop(P),
    {ok, None} = start(sh(Errors), [{stderr_tail_bytes, 0}]),
    {ok, 0} = await_exit(None),
    ?assertEqual(<<>>, netrunner_process:stderr_tail(None)),
    ok = stop(None),
    ?assertError({bad_option, stderr_tail_bytes, -1, _}, start(["true"], [{stderr_tail_bytes, -1}])).

stderr_of_one_s_own() ->
    [
        begin
            {ok, P} = start(sh("echo err >&2"), [{stderr, Mode}]),
            {ok, <<"err\n">>} = netrunner_process:read_stderr(P),
            eof = netrunner_process:read_stderr(P),
            ?assertEqual(<<>>, netrunner_process:stderr_tail(P)),
            ok = stop(P)
        end
     || Mode <- [pipe, disabled]
    ],
    {ok, Null} = start(sh("head -c 1000000 /dev/zero >&2; echo out"), [{stderr, null}]),
    {ok, <<"out\n">>} = read(Null),
    {error, closed} = netrunner_process:read_stderr(Null),
    ok = stop(Null).

stderr_to_stdout() ->
    {ok, P} = start(sh("echo out; echo err >&2"), [{stderr, redirect}]),
    ?assertEqual(<<"out\nerr\n">>, collect(P)),
    ok = stop(P).

many_await_one_end() ->
    {ok, P} = start(sh("read x; exit 5")),
    Self = self(),
    Waiters = [spawn_link(fun() -> Self ! {self(), await_exit(P)} end) || _ <- lists:seq(1, 20)],
    [until(fun() -> process_info(W, status) =:= {status, waiting} end) || W <- Waiters],
    ok = write(P, "go\n"),
    [
        receive
            {W, Result} -> ?assertEqual({ok, 5}, Result)
        end
     || W <- Waiters
    ],
    {ok, 5} = await_exit(P),
    ok = stop(P).

await_with_timeouts_forgets() ->
    support:flush(),
    {ok, P} = start(["sleep", "1000"]),
    Size = fun() -> erts_debug:flat_size(sys:get_state(P)) end,
    Before = Size(),
    [?assertExit({timeout, _}, netrunner_process:await_exit(P, 1)) || _ <- lists:seq(1, 50)],
    until(fun() -> Size() =:= Before end),
    ?assert(support:no_messages()),
    ok = stop(P).

signals() ->
    [
        begin
            {ok, P} = start(["sleep", "1000"]),
            ok = netrunner_process:kill(P, Signal),
            ?assertEqual({Signal, {ok, 128 + Number}}, {Signal, await_exit(P)}),
            ok = stop(P)
        end
     || {Signal, Number} <- [{sigterm, 15}, {sigkill, 9}, {sigusr1, 10}, {15, 15}, {64, 64}]
    ],
    {ok, P} = start(sh("trap 'echo usr1' USR1; trap 'echo winch' WINCH; echo up; while :; do sleep 0.01; done")),
    {ok, <<"up\n">>} = read(P),
    ok = netrunner_process:kill(P, sigusr1),
    {ok, <<"usr1\n">>} = read(P),
    ok = netrunner_process:kill(P, sigwinch),
    {ok, <<"winch\n">>} = read(P),
    [
        ?assertEqual({error, unknown_signal}, netrunner_process:kill(P, Bad))
     || Bad <- [0, 65, -1, sigwhatever, "sigterm", nil]
    ],
    ?assert(netrunner_process:is_alive(P)),
    ok = stop(P).

nobody_else_is_hit() ->
    {ok, P} = start(["true"]),
    {ok, 0} = await_exit(P),
    ?assertEqual({error, not_running}, netrunner_process:kill(P, sigkill)),
    ?assertNot(netrunner_process:is_alive(P)),
    ok = stop(P).

outcomes() ->
    Outcome = fun(Command, Options) ->
        {ok, P} = start(Command, Options),
        {ok, Outcome} = netrunner_process:await_outcome(P),
        Outcome = netrunner_process:outcome(P),
        ok = stop(P),
        Outcome
    end,
    ?assertMatch(#{status := 3, code := 3, signal := undefined, reason := own}, Outcome(sh("exit 3"), [])),
    ?assertMatch(#{status := 138, signal := 10, reason := own}, Outcome(sh("kill -10 $$"), [])),
    ?assertMatch(#{status := 143, reason := timeout}, Outcome(["sleep", "1000"], [{timeout, 50}])),
    {ok, P} = start(["sleep", "1000"]),
    undefined = netrunner_process:outcome(P),
    ok = netrunner_process:terminate_program(P),
    {ok, #{signal := 15, reason := killed}} = netrunner_process:await_outcome(P),
    ok = stop(P).

shutdown_in_steps() ->
    {ok, P} = start(["sleep", "1000"]),
    ?assertEqual({ok, 143}, netrunner_process:shutdown(P, 30000, 0)),
    ok = stop(P),
    ?assertEqual(timeout, netrunner_process:shutdown(P, 50, 0)),
    {ok, Deaf} = start(sh("trap '' TERM; echo up; while :; do sleep 0.1; done")),
    {ok, <<"up\n">>} = read(Deaf),
    ?assertEqual({ok, 137}, netrunner_process:shutdown(Deaf, 100, 30000)),
    ok = stop(Deaf).

stop_ends_the_tree() ->
    Marker = marker(),
    {ok, P} = start(tree(Marker), [{kill_timeout, 50}]),
    {ok, <<"up\n">>} = read(P),
    ok = stop(P),
    ?assertEqual([], marked(Marker)).

killed_server_ends_the_tree() ->
    Marker = marker(),
    {ok, P} = start(tree(Marker), [{kill_timeout, 50}]),
    {ok, <<"up\n">>} = read(P),
    exit(P, kill),
    gone(Marker).

owner_s_end() ->
    Marker = marker(),
    Owner = spawn(fun() ->
        receive
            stop -> ok
        end
    end),
    {ok, P} = start(tree(Marker), [{owner, Owner}]),
    {ok, <<"up\n">>} = read(P),
    Monitor = monitor(process, P),
    Owner ! stop,
    receive
        {'DOWN', Monitor, process, P, Reason} -> ?assertEqual(normal, Reason)
    end,
    ?assertEqual([], marked(Marker)),
    %% Linked, too: it does not get the grace that it has when it is stopped.
    Self = self(),
    Linked = spawn(fun() ->
        Options = [{owner, self()}, {kill_timeout, 3600000}],
        {ok, Q} = netrunner_process:start_link(tree(Marker), Options),
        {ok, <<"up\n">>} = read(Q),
        Self ! {up, self()}
    end),
    receive
        {up, Linked} -> gone(Marker)
    end.

owner_handed_on() ->
    Owner = fun() -> spawn(fun() -> timer:sleep(infinity) end) end,
    {A, B} = {Owner(), Owner()},
    {ok, P} = start(["sleep", "1000"], [{owner, A}]),
    ok = netrunner_process:set_owner(P, B),
    Down = monitor(process, A),
    exit(A, kill),
    receive
        {'DOWN', Down, process, A, _} -> ok
    end,
    ?assert(netrunner_process:is_alive(P)),
    Monitor = monitor(process, P),
    exit(B, kill),
    receive
        {'DOWN', Monitor, process, P, _} -> ok
    end.

pipe_owner_s_end() ->
    {ok, Cat} = start(["cat"]),
    Owner = spawn(fun() ->
        receive
            stop -> ok
        end
    end),
    ok = netrunner_process:set_pipe_owner(Cat, stdin, Owner),
    ok = write(Cat, "still open"),
    {ok, <<"still open">>} = read(Cat),
    Owner ! stop,
    eof = read(Cat),
    {ok, 0} = await_exit(Cat),
    {error, closed} = write(Cat, "more"),
    ok = stop(Cat).

linked() ->
    Marker = marker(),
    Self = self(),
    Parent = spawn(fun() ->
        {ok, P} = netrunner_process:start_link(["sleep", Marker]),
        Self ! {started, P},
        timer:sleep(infinity)
    end),
    P =
        receive
            {started, Pid} -> Pid
        end,
    Monitor = monitor(process, P),
    exit(Parent, kill),
    receive
        {'DOWN', Monitor, process, P, killed} -> ok
    end,
    ?assertEqual([], marked(Marker)).

named() ->
    {ok, P} = start(["cat"], [{name, netrunner_test_name}]),
    ok = write(netrunner_test_name, "hi"),
    {ok, <<"hi">>} = read(netrunner_test_name),
    ?assertEqual({error, {already_started, P}}, start(["cat"], [{name, netrunner_test_name}])),
    ok = stop(netrunner_test_name).

statistics() ->
    {ok, Cat} = start(["cat"]),
    ok = write(Cat, "hello"),
    {ok, <<"hello">>} = read(Cat),
    #{status := undefined, wall_ns := Soon} = netrunner_process:stats(Cat),
    ok = netrunner_process:close_stdin(Cat),
    {ok, 0} = await_exit(Cat),
    Stats = netrunner_process:stats(Cat),
    ?assertMatch(
        #{status := 0, stdin_bytes := 5, stdout_bytes := 5, stderr_bytes := 0, reads := 1, writes := 1},
        Stats
    ),
    #{wall_ns := Wall, memory_peak := Peak, started_at := Start} = Stats,
    ?assert(Wall >= Soon),
    ?assert(Peak > 0),
    ?assert(is_integer(Start)),
    ?assert(is_integer(netrunner_process:os_pid(Cat))),
    ok = stop(Cat).

terminal() ->
    {ok, P} = start(sh("stty -echo; tty > /dev/null && echo up; while read l; do stty size; done"), [
        pty, {rows, 30}, {cols, 90}
    ]),
    <<"up\r\n">> = support:line(P),
    ok = write(P, "\n"),
    <<"30 90\r\n">> = support:line(P),
    ok = netrunner_process:set_window_size(P, 40, 120),
    ok = write(P, "\n"),
    <<"40 120\r\n">> = support:line(P),
    ok = netrunner_process:close_stdin(P),
    eof = read(P),
    {ok, 0} = await_exit(P),
    ok = stop(P),
    {ok, Cat} = start(["cat"], [pty, {echo, false}]),
    ok = write(Cat, "no echo\n"),
    <<"no echo\r\n">> = support:line(Cat),
    ok = stop(Cat),
    {ok, Pipe} = start(["cat"]),
    ?assertEqual({error, enotty}, netrunner_process:set_window_size(Pipe, 1, 1)),
    ok = stop(Pipe).

terminal_end_of_file_waits_its_turn() ->
    {ok, P} = start(sh("stty -echo; echo up; read go; wc -l"), [pty]),
    <<"up\r\n">> = support:line(P),
    Lines = binary:copy(<<"line of a text that does not fit in the terminal\n">>, 2000),
    Self = self(),
    Writer = spawn_link(fun() -> Self ! {wrote, write(P, ["go\n", Lines])} end),
    until(fun() -> process_info(Writer, status) =/= {status, runnable} end),
    ok = netrunner_process:close_stdin(P),
    receive
        {wrote, Wrote} -> ?assertEqual(ok, Wrote)
    end,
    ?assertEqual(<<"2000\r\n">>, collect(P)),
    {ok, 0} = await_exit(P),
    ok = stop(P).

start_says_why() ->
    ?assertMatch({error, {enoent, _}}, start(["no-such-program"])),
    ?assertMatch({error, {invalid_cmd, _}}, start([""])),
    ?assertError({bad_option, no_such_option, 1, _}, start(["true"], [{no_such_option, 1}])),
    process_flag(trap_exit, true),
    ?assertMatch({error, {enoent, _}}, netrunner_process:start_link(["no-such-program"])),
    receive
        {'EXIT', _, {enoent, _}} -> ok
    end,
    process_flag(trap_exit, false).

killed_shepherd() ->
    Marker = marker(),
    {ok, P} = start(["sleep", Marker], [own_shepherd]),
    Pid = netrunner_process:os_pid(P),
    {ok, Status} = file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/status"),
    {match, [Shepherd]} = re:run(Status, "PPid:\\s+(\\d+)", [{capture, all_but_first, list}]),
    {<<>>, 0} = netrunner:run(["kill", "-9", Shepherd]),
    ?assertMatch({ok, #{status := 137, reason := unknown}}, netrunner_process:await_outcome(P)),
    gone(Marker),
    ok = stop(P).

no_cgroup() ->
    {ok, P} = start(["sleep", "1000"]),
    ?assertEqual({error, no_cgroup}, netrunner_process:cgroup_get(P, "memory.max")),
    ?assertEqual({error, no_cgroup}, netrunner_process:cgroup_set(P, "memory.max", "1")),
    ?assertEqual(undefined, netrunner_process:cgroup_path(P)),
    ok = stop(P).

cgroups() ->
    {ok, Mounts} = file:read_file("/proc/self/mounts"),
    case re:run(Mounts, "^\\S+ (\\S+) cgroup2 ", [multiline, {capture, all_but_first, list}]) of
        {match, [Mount]} ->
            Base = "netrunner_tests_" ++ os:getpid(),
            Dir = filename:join(Mount, Base),
            case file:make_dir(Dir) of
                ok ->
                    try
                        in_cgroup(Mount, Base)
                    after
                        ok = file:del_dir(Dir)
                    end;
                {error, Reason} ->
                    io:format(user, "skip cgroups: ~s: ~p~n", [Dir, Reason])
            end;
        nomatch ->
            io:format(user, "skip cgroups: there is no cgroup v2~n", [])
    end.

in_cgroup(Mount, Base) ->
    Marker = marker(),
    {ok, P} = start(tree(Marker), [{cgroup_base, Base}, {kill_timeout, 50}]),
    {ok, <<"up\n">>} = read(P),
    Path = netrunner_process:cgroup_path(P),
    ?assertEqual(Base, filename:dirname(binary_to_list(Path))),
    {ok, Members} = netrunner_process:cgroup_get(P, "cgroup.procs"),
    Pids = [binary_to_integer(Pid) || Pid <- binary:split(Members, <<"\n">>, [global, trim_all])],
    ?assertEqual([], marked(Marker) -- Pids),
    ok = netrunner_process:cgroup_set(P, "cgroup.max.depth", "5"),
    ?assertEqual({ok, <<"5\n">>}, netrunner_process:cgroup_get(P, "cgroup.max.depth")),
    {error, enoent} = netrunner_process:cgroup_get(P, "no.such.file"),
    ok = stop(P),
    ?assertEqual([], marked(Marker)),
    ?assertNot(filelib:is_dir(filename:join(Mount, Path))),
    {ok, D} = netrunner_daemon:start_link(["sleep", "1000"], [{cgroup_path, Base ++ "/mine"}]),
    ?assertEqual(list_to_binary(Base ++ "/mine"), netrunner_daemon:cgroup_path(D)),
    #{cgroup := #{<<"cgroup.stat">> := Stat}} = netrunner_daemon:statistics(D),
    ?assertMatch(#{<<"nr_descendants">> := 0}, Stat),
    ok = netrunner_daemon:stop(D),
    _ = file:del_dir(filename:join([Mount, Base, "mine"])).
