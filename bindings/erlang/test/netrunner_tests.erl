%% SPDX-License-Identifier: Apache-2.0
-module(netrunner_tests).
-include("support.hrl").
-import(support, [sh/1, until/1, marker/0, marked/1, gone/1, tree/1]).

all_test_() ->
    [
        ?T(output_and_status),
        ?T(status_of_a_signal),
        ?T(commands_that_make_no_sense),
        ?T(what_cannot_be_started_says_why),
        ?T(unknown_options_are_errors),
        ?T(input_of_all_kinds),
        ?T(more_input_than_any_pipe_holds),
        ?T(input_that_nobody_reads),
        ?T(input_that_fails),
        ?T(stderr_modes),
        ?T(timeout),
        ?T(timeout_of_one_that_ignores_it),
        ?T(too_much_output),
        ?T(background_jobs_die_and_hold_nothing_up),
        ?T(linger),
        ?T(environment),
        ?T(environment_is_exact),
        ?T(directory_and_names),
        ?T(descriptors),
        ?T(limits),
        ?T(terminal),
        ?T(isolation),
        ?T(mailbox_is_left_alone),
        ?T(fold_halts),
        ?T(fold_that_fails),
        ?T(stream_in_pieces),
        ?T(stream_holds_the_program_back),
        ?T(stream_that_is_forgotten),
        ?T(stream_whose_owner_dies),
        ?T(stream_that_is_closed),
        ?T(many_at_once),
        ?T(no_descriptor_is_left)
    ].

output_and_status() ->
    ?assertEqual({<<"hello\n">>, 0}, netrunner:run(["echo", "hello"])),
    ?assertEqual({<<"hello\n">>, 0}, netrunner:run([<<"echo">>, <<"hello">>])),
    ?assertEqual({<<>>, 7}, netrunner:run(sh("exit 7"))),
    ?assertEqual({<<0, 255, "\n">>, 0}, netrunner:run(sh("printf '\\000\\377\\n'"))),
    {Big, 0} = netrunner:run(["head", "-c", "5000000", "/dev/zero"]),
    ?assertEqual(<<0:5000000/unit:8>>, Big).

status_of_a_signal() ->
    ?assertEqual({<<>>, 128 + 9}, netrunner:run(sh("kill -9 $$"))),
    ?assertEqual({<<>>, 128 + 10}, netrunner:run(sh("kill -USR1 $$"))),
    {ok, [], Outcome} = netrunner:fold(fun(_, _, Acc) -> {cont, Acc} end, [], sh("kill -9 $$"), []),
    ?assertMatch(#{signal := 9, code := undefined, reason := own}, Outcome).

commands_that_make_no_sense() ->
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run([""])),
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run([])),
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run("echo")),
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run(echo)),
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run(["ec\0ho"])),
    ?assertMatch({error, {invalid_cmd, _}}, netrunner:run([[16#110000]])),
    ?assertMatch({error, {invalid_args, _}}, netrunner:run(["echo", "a\0b"])),
    ?assertMatch({error, {invalid_args, _}}, netrunner:run(["echo", 1])),
    ?assertMatch({error, {invalid_args, _}}, netrunner:run(["echo" | "a"])).

what_cannot_be_started_says_why() ->
    {error, {enoent, Why}} = netrunner:run(["no-such-program"]),
    ?assertMatch({_, _}, binary:match(Why, <<"no-such-program">>)),
    {error, {eacces, _}} = netrunner:run(["/etc/passwd"]),
    {error, {enoent, Cd}} = netrunner:run(["true"], [{cd, "/no/such/directory"}]),
    ?assertMatch({_, _}, binary:match(Cd, <<"/no/such/directory">>)),
    {error, {e2big, _}} = netrunner:run(["true", lists:duplicate(3000000, $a)]),
    {error, {enopkg, _}} = netrunner:run(["true"], [{shepherd, "/no/such/shepherd"}, own_shepherd]).

unknown_options_are_errors() ->
    Bad = fun(Options) ->
        ?assertError({bad_option, _, _, _}, netrunner:run(["true"], Options)),
        ?assertError({bad_option, _, _, _}, netrunner:stream(["true"], Options))
    end,
    lists:foreach(Bad, [
        [{no_such_option, 1}],
        [no_such_option],
        [{timeout, 0}],
        [{timeout, -1}],
        [{timeout, soon}],
        [{kill_timeout, -1}],
        [{cd, ""}],
        [{cd, tmp}],
        [{env, [{"A=B", "c"}]}],
        [{env, [{"", "c"}]}],
        [{env, [{"A", 1}]}],
        [{env, [{"A", "b\0"}]}],
        [{env, [{"A", "b"} | improper]}],
        [{env, {overlay, []}}],
        [{env, "A=b"}],
        [{stdin, pipes}],
        [{stderr, nowhere}],
        [{stdout, stdout}],
        [{fds, [{1, 2}]}],
        [{fds, [{1, 5} | x]}],
        [{uid, -1}],
        [{uid, "no-such-user"}],
        [{gid, <<"no-such-group">>}],
        [{groups, [root, 1]}],
        [{umask, 8#1000}],
        [{nice, 20}],
        [{rlimits, #{nofile => many}}],
        [{rlimits, #{no_such_limit => 1}}],
        [{rlimits, [{nofile, 1}]}],
        [{cgroup, #{memory_max => 1}}],
        [{cgroup, #{no_such_key => 1}}, {cgroup_base, "x"}],
        [{cgroup, #{memory_max => -1}}, {cgroup_base, "x"}],
        [{cgroup_base, "x"}, {cgroup_path, "y"}],
        [{input, 1}],
        [{input, fun() -> ok end}],
        [{max_read, 0}],
        [{pty, maybe}],
        [{rows, 0}],
        [{output_limit, 0}],
        not_a_list,
        [1]
    ]),
    ?assertError({bad_option, _, _, _}, netrunner:run(["true"], [{max_output_size, 0}])),
    ?assertEqual({<<>>, 0}, netrunner:run(["true"], [{timeout, undefined}, {cd, nil}])),
    ?assertMatch({error, {invalid_cgroup_path, _}}, netrunner:run(["true"], [{cgroup_path, "/x"}])),
    ?assertMatch({error, {invalid_cgroup_path, _}}, netrunner:run(["true"], [{cgroup_base, "a/../b"}])).

input_of_all_kinds() ->
    ?assertEqual({<<>>, 0}, netrunner:run(["cat"])),
    ?assertEqual({<<>>, 0}, netrunner:run(["cat"], [{input, []}])),
    ?assertEqual({<<"hello">>, 0}, netrunner:run(["cat"], [{input, "hello"}])),
    ?assertEqual({<<"hello">>, 0}, netrunner:run(["cat"], [{input, [<<"he">>, ["l" | <<"lo">>]]}])),
    Self = self(),
    Fun = fun(Write) ->
        Self ! {writer, self()},
        [ok = Write(integer_to_list(N)) || N <- lists:seq(1, 5)]
    end,
    ?assertEqual({<<"12345">>, 0}, netrunner:run(["cat"], [{input, Fun}])),
    receive
        {writer, Pid} -> ?assertNotEqual(Self, Pid)
    end.

more_input_than_any_pipe_holds() ->
    Data = binary:copy(<<"0123456789abcdef">>, 1 bsl 20),
    {Same, 0} = netrunner:run(["cat"], [{input, Data}]),
    ?assert(Same =:= Data),
    Halves = [binary:part(Data, 0, 1000001), binary:part(Data, 1000001, byte_size(Data) - 1000001)],
    {Same2, 0} = netrunner:run(["cat"], [{input, fun(W) -> [W(H) || H <- Halves] end}]),
    ?assert(Same2 =:= Data),
    Small = [<<N:16>> || N <- lists:seq(0, 65535)],
    {Same3, 0} = netrunner:run(["cat"], [{input, Small}]),
    ?assertEqual(iolist_to_binary(Small), Same3).

input_that_nobody_reads() ->
    Data = binary:copy(<<"line\n">>, 1000000),
    ?assertEqual({<<"line\n">>, 0}, netrunner:run(["head", "-n", "1"], [{input, Data}])),
    Self = self(),
    Endless = fun(Write) -> Self ! {wrote, write_all(Write, Data)} end,
    ?assertEqual({<<"line\n">>, 0}, netrunner:run(["head", "-n", "1"], [{input, Endless}])),
    %% It either heard that nobody reads, or was ended with the program.
    receive
        {wrote, Result} -> ?assertMatch({error, _}, Result)
    after 0 -> ok
    end,
    %% Who does not read its input, and does not end, is not waited for by others.
    Blocked = fun(_) -> timer:sleep(infinity) end,
    ?assertEqual({<<"hi\n">>, 0}, netrunner:run(["echo", "hi"], [{input, Blocked}])).

write_all(Write, Data) ->
    case Write(Data) of
        ok -> write_all(Write, Data);
        Error -> Error
    end.

input_that_fails() ->
    Marker = marker(),
    Fails = fun(Write) ->
        ok = Write("some"),
        error(no_more)
    end,
    ?assertError(no_more, netrunner:run(sh("sleep " ++ Marker ++ "; cat"), [{input, Fails}])),
    ?assertEqual([], marked(Marker)),
    ?assertExit(gone, netrunner:run(["cat"], [{input, fun(_) -> exit(gone) end}])),
    ?assertThrow(up, netrunner:run(["cat"], [{input, fun(_) -> throw(up) end}])),
    ?assert(support:no_messages()).

stderr_modes() ->
    Both = sh("echo out; echo err >&2"),
    ?assertEqual({<<"out\n">>, 0}, netrunner:run(Both)),
    ?assertEqual({<<"out\n">>, 0}, netrunner:run(Both, [{stderr, disabled}])),
    ?assertEqual({<<"out\n">>, 0}, netrunner:run(Both, [{stderr, null}])),
    ?assertEqual({<<"out\nerr\n">>, 0}, netrunner:run(Both, [{stderr, redirect}])),
    ?assertEqual({<<"err\n">>, 0}, netrunner:run(Both, [{stdout, null}, {stderr, pipe}])),
    %% However much there is of it.
    ?assertEqual({<<"out\n">>, 0}, netrunner:run(sh("head -c 3000000 /dev/zero >&2; echo out"))),
    {ok, Acc, _} = netrunner:fold(
        fun(S, D, A) -> {cont, A#{S => D}} end, #{}, Both, [{stderr, pipe}]
    ),
    ?assertEqual(#{stdout => <<"out\n">>, stderr => <<"err\n">>}, Acc).

timeout() ->
    Marker = marker(),
    ?assertEqual({error, timeout}, netrunner:run(["sleep", Marker], [{timeout, 50}])),
    ?assertEqual([], marked(Marker)),
    ?assertEqual({<<"fast\n">>, 0}, netrunner:run(["echo", "fast"], [{timeout, 60000}])).

timeout_of_one_that_ignores_it() ->
    Marker = marker(),
    ?assertEqual(
        {error, timeout}, netrunner:run(tree(Marker), [{timeout, 500}, {kill_timeout, 100}])
    ),
    ?assertEqual([], marked(Marker)).

too_much_output() ->
    Marker = marker(),
    Command = sh("sleep " ++ Marker ++ " & yes"),
    {error, {max_output_exceeded, Partial}} = netrunner:run(Command, [{max_output_size, 100001}]),
    ?assertEqual(100001, byte_size(Partial)),
    ?assertEqual([], marked(Marker)),
    ?assertEqual({<<"12345">>, 0}, netrunner:run(["printf", "12345"], [{max_output_size, 5}])),
    ?assertEqual({error, efbig}, netrunner:run(["yes"], [{output_limit, 1000}])).

background_jobs_die_and_hold_nothing_up() ->
    Marker = marker(),
    Command = sh("setsid sleep " ++ Marker ++ " & echo done"),
    ?assertEqual({<<"done\n">>, 0}, netrunner:run(Command)),
    ?assertEqual([], marked(Marker)).

linger() ->
    Marker = marker(),
    {<<"done\n">>, 0} = netrunner:run(sh("sleep " ++ Marker ++ " & echo done"), [
        linger, {kill_timeout, 0}
    ]),
    %% Its stdout is still open, which nobody waits for. The release ends it.
    gone(Marker).

environment() ->
    os:putenv("NR_TEST_INHERITED", "from the node"),
    Show = sh("echo \"$NR_TEST_INHERITED|${NR_TEST_A-unset}|${NR_TEST_B-unset}\""),
    Run = fun(Env) ->
        {Output, 0} = netrunner:run(Show, [{env, Env}]),
        Output
    end,
    ?assertEqual({<<"from the node|unset|unset\n">>, 0}, netrunner:run(Show)),
    ?assertEqual(<<"from the node|1|unset\n">>, Run([{"NR_TEST_A", "1"}])),
    ?assertEqual(<<"from the node||2\n">>, Run(#{<<"NR_TEST_A">> => <<>>, "NR_TEST_B" => "2"})),
    ?assertEqual(<<"mine|unset|unset\n">>, Run([{"NR_TEST_INHERITED", "mine"}])),
    ?assertEqual(<<"|unset|unset\n">>, Run([{"NR_TEST_INHERITED", nil}])),
    ?assertEqual(<<"|unset|unset\n">>, Run([{"NR_TEST_INHERITED", false}])),
    ?assertEqual(<<"from the node|last|unset\n">>, Run([{"NR_TEST_A", "1"}, {"NR_TEST_A", "last"}])),
    os:unsetenv("NR_TEST_INHERITED"),
    ?assertEqual(<<"|unset|unset\n">>, Run([])),
    ?assertEqual(
        {<<"A=ä\n"/utf8>>, 0}, netrunner:run(["/usr/bin/env"], [{env, {replace, [{"A", "ä"}]}}])
    ),
    ?assertEqual({<<>>, 0}, netrunner:run(["/usr/bin/env"], [{env, {replace, #{}}}])),
    %% It is that environment in which the program is looked up.
    ?assertMatch({error, {enoent, _}}, netrunner:run(["env"], [{env, {replace, #{"PATH" => "/x"}}}])).

environment_is_exact() ->
    %% What no string of the emulator can hold.
    Raw = <<"NR_RAW=", 255, 254, "x">>,
    Code = "io:put_chars([base64:encode(element(1, netrunner:run([\"printenv\", \"NR_RAW\"])))]), halt().",
    {Output, 0} = netrunner:run(
        ["env", Raw, "erl", "-noshell", "-pa", filename:dirname(code:which(netrunner)), "-eval", Code],
        []
    ),
    ?assertEqual(<<255, 254, "x\n">>, base64:decode(Output)).

directory_and_names() ->
    ?assertEqual({<<"/\n">>, 0}, netrunner:run(["pwd"], [{cd, "/"}])),
    ?assertEqual({<<"/\n">>, 0}, netrunner:run(["pwd"], [{cwd, <<"/">>}])),
    ?assertEqual({<<"me\n">>, 0}, netrunner:run(["sh", "-c", "echo $0"], [{arg0, "me"}])).

descriptors() ->
    {Output, 0} = netrunner:run(["ls", "/proc/self/fd"]),
    %% The fourth one is that of the directory.
    ?assertEqual(<<"0\n1\n2\n3\n">>, Output).

limits() ->
    {Limits, 0} = netrunner:run(sh("ulimit -Sn; ulimit -Hn; ulimit -c; umask; nice"), [
        {rlimits, #{nofile => {64, 128}, core => 0}}, {umask, 8#27}, {nice, 5}
    ]),
    ?assertEqual(<<"64\n128\n0\n0027\n5\n">>, Limits).

terminal() ->
    {Output, 0} = netrunner:run(sh("tty >/dev/null && stty size"), [pty, {rows, 33}, {cols, 77}]),
    ?assertEqual(<<"33 77\r\n">>, Output).

isolation() ->
    ?assertEqual({<<"own\n">>, 0}, netrunner:run(["echo", "own"], [own_shepherd])),
    ?assertMatch({<<"NoNewPrivs:\t1\n">>, 0}, netrunner:run(["grep", "NoNewPrivs", "/proc/self/status"], [no_new_privs])),
    {Session, 0} = netrunner:run(sh("ps -o sid= -p $$; echo $$"), [session]),
    [Sid, Sid] = string:lexemes(Session, " \n"),
    case netrunner:run(sh("echo $$"), [pid_namespace]) of
        {Pid, 0} -> ?assert(binary_to_integer(string:trim(Pid)) < 10);
        {error, {Posix, Why}} -> io:format(user, "skip pid namespaces: ~p, ~s~n", [Posix, Why])
    end.

mailbox_is_left_alone() ->
    self() ! first,
    self() ! {select, not_ours, make_ref(), ready_input},
    [{_, 0} = netrunner:run(sh("echo out; echo err >&2"), [{stderr, pipe}]) || _ <- lists:seq(1, 20)],
    {messages, Messages} = process_info(self(), messages),
    ?assertMatch([first, {select, not_ours, _, _}], Messages),
    support:flush().

fold_halts() ->
    Marker = marker(),
    Command = sh("sleep " ++ Marker ++ " & yes"),
    ?assertEqual({halted, stop}, netrunner:fold(fun(_, _, _) -> {halt, stop} end, go, Command, [])),
    ?assertEqual([], marked(Marker)),
    ?assert(support:no_messages()),
    %% What has been selected for gets ready meanwhile.
    Late = fun(_, _, _) ->
        until(fun() -> not support:no_messages() end),
        {halt, late}
    end,
    Both = sh("sleep 0.1; echo out; sleep 0.1; echo err >&2; exec sleep 1000"),
    ?assertEqual({halted, late}, netrunner:fold(Late, go, Both, [{stderr, pipe}])),
    ?assert(support:no_messages()).

fold_that_fails() ->
    Marker = marker(),
    Command = sh("sleep " ++ Marker ++ " & yes"),
    ?assertThrow(oh, netrunner:fold(fun(_, _, _) -> throw(oh) end, go, Command, [])),
    ?assertEqual([], marked(Marker)),
    ?assert(support:no_messages()).

stream_in_pieces() ->
    {ok, S} = netrunner:stream(sh("echo a; read x; echo $x"), [{input, "b\n"}]),
    ?assertMatch({<<"a\nb\n">>, #{status := 0}}, rest(S, <<>>)),
    ?assert(support:no_messages()),
    {ok, Limited} = netrunner:stream(["printf", "abcdef"], [{max_read, 4}]),
    {stdout, <<"abcd">>, Rest} = netrunner:next(Limited),
    {stdout, <<"ef">>, Last} = netrunner:next(Rest),
    {eof, _} = netrunner:next(Last),
    ?assertMatch({error, {enoent, _}}, netrunner:stream(["no-such-program"])).

rest(S, Data) ->
    case netrunner:next(S) of
        {stdout, More, Next} -> rest(Next, <<Data/binary, More/binary>>);
        {eof, Outcome} -> {Data, Outcome}
    end.

stream_holds_the_program_back() ->
    {ok, File} = tmp(),
    Count = "i=0; while :; do head -c 100000 /dev/zero; i=$((i+1)); echo $i > " ++ File ++ "; done",
    {ok, S} = netrunner:stream(sh(Count)),
    %% It gets no further than its pipe is large, however long that is.
    support:until(fun() -> stable(File) end),
    {ok, Text} = file:read_file(File),
    ?assert(byte_size(Text) < 4),
    netrunner:close(S),
    file:delete(File).

stable(File) ->
    Before = file:read_file(File),
    timer:sleep(300),
    Before =:= file:read_file(File).

tmp() ->
    {ok, File} = {ok, "/tmp/netrunner_tests." ++ marker()},
    ok = file:write_file(File, <<"0">>),
    {ok, File}.

stream_that_is_forgotten() ->
    Marker = marker(),
    (fun() -> {ok, _} = netrunner:stream(["sleep", Marker]) end)(),
    until(fun() ->
        erlang:garbage_collect(),
        marked(Marker) =:= []
    end),
    ?assert(support:no_messages()).

stream_whose_owner_dies() ->
    Marker = marker(),
    Self = self(),
    Owner = spawn(fun() ->
        {ok, S0} = netrunner:stream(tree(Marker)),
        {stdout, <<"up\n">>, S1} = netrunner:next(S0),
        Self ! up,
        netrunner:next(S1)
    end),
    receive
        up -> ok
    end,
    ?assertNotEqual([], marked(Marker)),
    exit(Owner, kill),
    gone(Marker).

stream_that_is_closed() ->
    Marker = marker(),
    {ok, S0} = netrunner:stream(tree(Marker), [{kill_timeout, 50}]),
    {stdout, <<"up\n">>, S1} = netrunner:next(S0),
    ok = netrunner:close(S1),
    ?assertEqual([], marked(Marker)).

many_at_once() ->
    Self = self(),
    Pids = [
        spawn_link(fun() ->
            Text = integer_to_binary(N),
            [{Text, 0} = netrunner:run(["cat"], [{input, Text}]) || _ <- lists:seq(1, 5)],
            Self ! {done, self()}
        end)
     || N <- lists:seq(1, 40)
    ],
    [
        receive
            {done, Pid} -> ok
        end
     || Pid <- Pids
    ].

no_descriptor_is_left() ->
    netrunner:run(["true"]),
    until(fun() ->
        erlang:garbage_collect(),
        Before = support:descriptors(),
        [netrunner:run(["echo", "x"], [{stderr, pipe}, {input, "y"}]) || _ <- lists:seq(1, 20)],
        %% Those of the tests before go when their owners are collected.
        support:descriptors() =:= Before
    end).
