%% SPDX-License-Identifier: Apache-2.0
%%
%% Spawn latency, throughput and memory per idle program, beside those of a port.
%% What is compared is measured in turns, and medians are shown.
-module(netrunner_bench).
-export([main/1]).

main(Size) ->
    {Spawns, Bytes, Rounds, Idle} =
        case Size of
            short -> {5, 10000000, 2, 10};
            long -> {25, 1000000000, 9, 200}
        end,
    table(
        "spawn of /bin/true to its end seen, us",
        [{"netrunner:run", fun run_true/0}, {"netrunner_process", fun process_true/0}],
        fun(F) -> spawns(F, Spawns) end,
        {"port", fun port_true/0},
        Rounds
    ),
    [
        table(
            "MB/s from " ++ lists:concat([Cmd, " ", Arg]),
            [
                {"netrunner:fold", fun() -> fold(Command(Bytes)) end},
                {"netrunner:run", fun() -> run(Command(Bytes)) end},
                {"netrunner_process:read", fun() -> process(Command(Bytes)) end}
            ],
            fun(F) -> rate(F) end,
            {"port", fun() -> port(Command(Bytes)) end},
            Rounds
        )
     || {Cmd, Arg, Command} <- [
            {head, "-c", fun(N) -> ["head", "-c", integer_to_list(N), "/dev/zero"] end},
            {dd, "bs=64k", fun(N) -> dd("64k", N div 65536) end},
            {dd, "bs=1M", fun(N) -> dd("1M", N div 1048576) end}
        ]
    ],
    io:format("memory of the node per idle program, bytes~n"),
    [
        io:format("  ~-24s ~10b~n", [Name, idle(Start, Stop, Idle)])
     || {Name, Start, Stop} <- [
            {"port", fun() -> open_port({spawn_executable, "/bin/cat"}, [binary]) end, fun port_close/1},
            {"netrunner_process", fun() -> element(2, {ok, _} = netrunner_process:start(["/bin/cat"])) end,
                fun netrunner_process:stop/1},
            {"netrunner_daemon", fun() -> element(2, {ok, _} = netrunner_daemon:start_link(["/bin/cat"])) end,
                fun netrunner_daemon:stop/1}
        ]
    ].

dd(Block, Count) ->
    ["dd", "if=/dev/zero", "status=none", "bs=" ++ Block, "count=" ++ integer_to_list(Count)].

table(Title, Others, Measure, {BaseName, Base}, Rounds) ->
    All = [{BaseName, Base} | Others],
    Samples = [[{Name, Measure(Fun)} || {Name, Fun} <- All] || _ <- lists:seq(1, Rounds)],
    Medians = [{Name, median([proplists:get_value(Name, S) || S <- Samples])} || {Name, _} <- All],
    Reference = proplists:get_value(BaseName, Medians),
    io:format("~s~n", [Title]),
    [
        io:format("  ~-24s ~10.1f  x ~.2f~n", [Name, M * 1.0, M / Reference])
     || {Name, M} <- Medians
    ].

median(List) ->
    lists:nth((length(List) + 1) div 2, lists:sort(List)).

spawns(Fun, Count) ->
    {Time, _} = timer:tc(fun() -> [Fun() || _ <- lists:seq(1, Count)] end),
    Time / Count.

rate(Fun) ->
    {Time, Bytes} = timer:tc(Fun),
    Bytes / Time.

run_true() ->
    {<<>>, 0} = netrunner:run(["/bin/true"]).

process_true() ->
    {ok, P} = netrunner_process:start(["/bin/true"]),
    {ok, 0} = netrunner_process:await_exit(P),
    netrunner_process:stop(P).

port_true() ->
    port(["/bin/true"]).

port([Cmd | Args]) ->
    Port = open_port({spawn_executable, os:find_executable(Cmd)}, [
        binary, exit_status, {args, Args}
    ]),
    port(Port, 0).

port(Port, Bytes) ->
    receive
        {Port, {data, Data}} -> port(Port, Bytes + byte_size(Data));
        {Port, {exit_status, 0}} -> Bytes
    end.

fold(Command) ->
    {ok, Bytes, _} = netrunner:fold(
        fun(_, Data, Sum) -> {cont, Sum + byte_size(Data)} end, 0, Command, []
    ),
    Bytes.

run(Command) ->
    {Data, 0} = netrunner:run(Command),
    byte_size(Data).

process(Command) ->
    {ok, P} = netrunner_process:start(Command),
    Bytes = read(P, 0),
    netrunner_process:stop(P),
    Bytes.

read(P, Bytes) ->
    case netrunner_process:read(P) of
        {ok, Data} -> read(P, Bytes + byte_size(Data));
        eof -> Bytes
    end.

idle(Start, Stop, Count) ->
    Stop(Start()),
    timer:sleep(100),
    Before = memory(),
    Programs = [Start() || _ <- lists:seq(1, Count)],
    %% Until they hibernate.
    timer:sleep(1500),
    After = memory(),
    lists:foreach(Stop, Programs),
    (After - Before) div Count.

%% Resident, of the whole node: the emulator does not count all that it has.
memory() ->
    erlang:garbage_collect(),
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [Kilobytes]} = re:run(Text, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kilobytes) * 1024.
