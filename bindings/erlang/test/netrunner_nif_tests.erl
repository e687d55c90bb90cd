%% SPDX-License-Identifier: Apache-2.0
-module(netrunner_nif_tests).
-include("support.hrl").
-import(support, [sh/1, until/1, marker/0, marked/1, gone/1]).

all_test_() ->
    [
        ?T(random_terms),
        ?T(random_options),
        ?T(released_programs),
        ?T(select_and_close_race),
        ?T(owner_races),
        ?T(large_writes_yield),
        ?T(schedulers_are_free_while_programs_start),
        ?T(collected_programs),
        ?T(reload_and_purge),
        ?T(signal_names),
        ?T(no_thread_and_no_descriptor_is_left)
    ].

program(Options) ->
    Spec = maps:merge(#{argv => [<<"sleep">>, <<"1000">>], env => [<<"PATH=/usr/bin:/bin">>]}, Options),
    {ok, Program} = netrunner_nif:spawn_program(Spec, self()),
    Program.

%% Whatever is passed: a result or badarg, and the node lives.

random_terms() ->
    Seed = rand:seed(exsss),
    Programs = [program(#{}), program(#{flags => [pty]}), program(#{stdout => null, stderr => pipe})],
    ok = netrunner_nif:release(program(#{})),
    Functions = [F || {Name, Arity} = F <- netrunner_nif:module_info(exports), Name =/= module_info, Arity > 0],
    try
        [fuzz(lists:nth(rand:uniform(length(Functions)), Functions), Programs) || _ <- lists:seq(1, 20000)]
    catch
        Class:Reason:Stack -> error({Class, Reason, Stack, seed, rand:export_seed_s(Seed)})
    end,
    [netrunner_nif:release(P) || P <- Programs],
    support:flush().

fuzz({Name, Arity}, Programs) ->
    Program =
        case rand:uniform(4) of
            1 -> term(3);
            _ -> lists:nth(rand:uniform(length(Programs)), Programs)
        end,
    Args = [Program | [term(3) || _ <- lists:seq(2, Arity)]],
    try
        apply(netrunner_nif, Name, Args)
    catch
        error:badarg -> badarg
    end.

term(0) ->
    simple(rand:uniform(16));
term(Depth) ->
    case rand:uniform(24) of
        1 -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(4))];
        2 -> list_to_tuple([term(Depth - 1) || _ <- lists:seq(1, rand:uniform(4))]);
        3 -> #{term(Depth - 1) => term(Depth - 1)};
        4 -> [term(Depth - 1) | term(Depth - 1)];
        5 -> [<<"a">>, <<>>, binary:copy(<<"b">>, rand:uniform(100000))];
        _ -> simple(rand:uniform(16))
    end.

simple(1) -> stdin;
simple(2) -> stdout;
simple(3) -> stderr;
simple(4) -> self();
simple(5) -> make_ref();
simple(6) -> <<>>;
simple(7) -> <<1:3>>;
simple(8) -> <<"memory.max", 0>>;
simple(9) -> rand:uniform(200) - 100;
simple(10) -> 1 bsl (rand:uniform(130));
simple(11) -> -(1 bsl 64);
simple(12) -> rand:uniform();
simple(13) -> fun() -> ok end;
simple(14) -> <<"root">>;
simple(15) -> [];
simple(16) -> [<<"PATH">>, <<"NO_SUCH">>].

%% Options that netrunner_options would never let pass.
random_options() ->
    Keys = [
        argv, file, env, cd, stdin, stdout, stderr, fds, pipe_size, rows, cols, umask, timeout,
        kill_timeout, output_limit, uid, gid, groups, rlimits, cgroup_base, cgroup_path,
        cgroup_set, nice, shepherd, flags, kill_on_down
    ],
    Values = fun() ->
        case rand:uniform(8) of
            1 -> {fd, rand:uniform(100) - 50};
            2 -> [{rand:uniform(60) - 10, rand:uniform(60) - 10}];
            3 -> [{nofile, 1, infinity}, {core, 2, 1}];
            4 -> [pty, session];
            5 -> [<<"x">>, <<"y">>];
            6 -> [1, 2, 3];
            _ -> term(2)
        end
    end,
    [
        begin
            Spec = maps:from_list(
                [{argv, [<<"true">>]}] ++
                    [{lists:nth(rand:uniform(length(Keys)), Keys), Values()} || _ <- [1, 2]]
            ),
            try netrunner_nif:spawn_program(Spec, self()) of
                {ok, Program} -> netrunner_nif:release(Program);
                {error, {Posix, Why}} -> ?assert(is_atom(Posix) andalso is_binary(Why))
            catch
                error:badarg -> ok
            end
        end
     || _ <- lists:seq(1, 500)
    ],
    support:flush().

released_programs() ->
    P = program(#{}),
    {select, _} = netrunner_nif:wait(P),
    ok = netrunner_nif:release(P),
    ok = netrunner_nif:release(P),
    {error, epipe} = netrunner_nif:read(P, stdout, 10),
    {error, epipe} = netrunner_nif:write(P, [<<"x">>]),
    {error, {ebadf, _}} = netrunner_nif:wait(P),
    {error, ebadf} = netrunner_nif:pid(P),
    {error, ebadf} = netrunner_nif:kill(P, 9),
    {error, ebadf} = netrunner_nif:stats(P),
    {error, ebadf} = netrunner_nif:winsize(P, 1, 1),
    {error, ebadf} = netrunner_nif:set_owner(P, self()),
    {error, ebadf} = netrunner_nif:cgroup_get(P, <<"memory.max">>),
    ok = netrunner_nif:stop(P),
    ok = netrunner_nif:close(P, stdin),
    ok = netrunner_nif:unselect(P),
    support:flush().

%% Some select, read and write what others close.
select_and_close_race() ->
    [
        begin
            P = program(#{argv => [<<"yes">>], stderr => pipe, flags => Flags}),
            Users = [
                spawn_monitor(fun() -> use(P, rand:uniform(200)) end)
             || _ <- lists:seq(1, 6)
            ],
            case rand:uniform(2) of
                1 -> [netrunner_nif:close(P, S) || S <- [stdout, stdin, stderr]];
                2 -> ok
            end,
            ok = netrunner_nif:release(P),
            [
                receive
                    {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
                end
             || {Pid, Monitor} <- Users
            ]
        end
     || _ <- lists:seq(1, 60), Flags <- [[], [pty]]
    ].

use(_, 0) ->
    ok;
use(P, Left) ->
    case rand:uniform(6) of
        1 -> netrunner_nif:read(P, stdout, 100);
        2 -> netrunner_nif:read(P, stderr, 100);
        3 -> netrunner_nif:write(P, [binary:copy(<<"x">>, 10000)]);
        4 -> netrunner_nif:wait(P);
        5 -> netrunner_nif:unselect(P);
        6 -> netrunner_nif:set_owner(P, self())
    end,
    use(P, Left - 1).

%% A program whose owner is dead before it is there, or gives it away and dies.
owner_races() ->
    Marker = marker(),
    Spec = #{argv => [<<"sleep">>, list_to_binary(Marker)], env => [<<"PATH=/usr/bin:/bin">>], kill_on_down => true},
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Monitor, process, Dead, _} -> ok
    end,
    {ok, Orphan} = netrunner_nif:spawn_program(Spec, Dead),
    gone(Marker),
    {error, ebadf} = netrunner_nif:pid(Orphan),
    [
        begin
            Self = self(),
            Giver = spawn(fun() ->
                {ok, P} = netrunner_nif:spawn_program(Spec, self()),
                Self ! {mine, netrunner_nif:set_owner(P, Self), P}
            end),
            receive
                {mine, ok, P} ->
                    until(fun() -> not is_process_alive(Giver) end),
                    {ok, _} = started(P),
                    ok = netrunner_nif:release(P)
            end
        end
     || _ <- lists:seq(1, 20)
    ],
    ?assertEqual({error, esrch}, netrunner_nif:set_owner(program(#{}), Dead)),
    gone(Marker),
    support:flush().

started(P) ->
    _ = netrunner_nif:wait(P),
    case netrunner_nif:pid(P) of
        {error, eagain} ->
            receive
                {select, P, _, _} -> ok
            after 100 -> ok
            end,
            started(P);
        Result ->
            Result
    end.

large_writes_yield() ->
    P = program(#{argv => [<<"cat">>], stdout => null, pipe_size => 1048576}),
    {ok, _} = started(P),
    Data = binary:copy(<<"x">>, 900000),
    {more, Rest} = netrunner_nif:write(P, [Data]),
    ?assertEqual(900000 - 256 * 1024, iolist_size(Rest)),
    {more, Many} = netrunner_nif:write(P, [<<"y">> || _ <- lists:seq(1, 1000)]),
    ?assertEqual(1000 - 128, length(Many)),
    ?assertError(badarg, netrunner_nif:write(P, [<<"z">>, no_binary])),
    ok = netrunner_nif:release(P),
    support:flush().

%% No scheduler is held while programs are started, not even by the first one.
schedulers_are_free_while_programs_start() ->
    Self = self(),
    Flag = erlang:system_flag(scheduler_wall_time, true),
    Starters = [
        spawn_link(fun() ->
            [netrunner_nif:release(program(#{})) || _ <- lists:seq(1, 20)],
            Self ! {done, self()}
        end)
     || _ <- lists:seq(1, 8)
    ],
    %% Nothing to measure that would not depend on the machine: they do get along.
    [
        receive
            {done, Pid} -> ok
        end
     || Pid <- Starters
    ],
    {dirty_io, _} = {dirty_io, erlang:system_flag(scheduler_wall_time, Flag)},
    ok.

collected_programs() ->
    Marker = marker(),
    (fun() ->
        [program(#{argv => [<<"sleep">>, list_to_binary(Marker)]}) || _ <- lists:seq(1, 5)]
    end)(),
    until(fun() ->
        erlang:garbage_collect(),
        marked(Marker) =:= []
    end).

%% New code takes over the programs of the old one, also when that is purged.
reload_and_purge() ->
    {ok, Cat} = netrunner_process:start(["cat"]),
    Module = netrunner_nif,
    {Module, Binary, File} = code:get_object_code(Module),
    [
        begin
            {module, Module} = code:load_binary(Module, File, Binary),
            ok = netrunner_process:write(Cat, "still there"),
            {ok, <<"still there">>} = netrunner_process:read(Cat),
            _ = code:purge(Module),
            ok = netrunner_process:write(Cat, "and now"),
            {ok, <<"and now">>} = netrunner_process:read(Cat)
        end
     || _ <- lists:seq(1, 3)
    ],
    {<<"new\n">>, 0} = netrunner:run(["echo", "new"]),
    ok = netrunner_process:stop(Cat).

signal_names() ->
    ?assertEqual({ok, 15}, netrunner_signal:number(sigterm)),
    ?assertEqual({ok, 1}, netrunner_signal:number(1)),
    ?assertEqual({ok, 64}, netrunner_signal:number(64)),
    [?assertEqual({error, unknown_signal}, netrunner_signal:number(S)) || S <- [0, 65, sig, "sigterm", 1.0]],
    ?assertEqual(sigkill, netrunner_signal:name(9)),
    ?assertEqual(sigio, netrunner_signal:name(29)),
    ?assertEqual(50, netrunner_signal:name(50)).

no_thread_and_no_descriptor_is_left() ->
    Threads = fun() ->
        {ok, All} = file:list_dir("/proc/self/task"),
        length(All)
    end,
    Round = fun() ->
        [
            begin
                {ok, P} = netrunner_process:start(["cat"], [{stderr, pipe}]),
                ok = netrunner_process:write(P, "x"),
                {ok, _} = netrunner_process:read(P),
                netrunner_process:stop(P)
            end
         || _ <- lists:seq(1, 10)
        ],
        erlang:garbage_collect(),
        {support:descriptors(), Threads()}
    end,
    until(fun() -> Round() =:= Round() end).
