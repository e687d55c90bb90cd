%% SPDX-License-Identifier: Apache-2.0
%%
%% Hosts in Erlang, one by the name of each function: erl ... -run beam_host storm
-module(beam_host).
-behaviour(gen_event).

-export([storm/0, killed/0]).
-export([init/1, handle_event/2, handle_call/2]).

-define(SIGNALS, [sigusr1, sigusr2, sigchld, sigalrm, sighup]).
-define(TREE, ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; wait"]).

%% Counts signals, in place of the handler that ends the node by some of them.
count_signals() ->
    _ = gen_event:delete_handler(erl_signal_server, erl_signal_handler, []),
    ok = gen_event:add_handler(erl_signal_server, ?MODULE, #{}),
    [ok = os:set_signal(Signal, handle) || Signal <- ?SIGNALS],
    ok.

init(Seen) -> {ok, Seen}.
handle_event(Signal, Seen) -> {ok, maps:update_with(Signal, fun(N) -> N + 1 end, 1, Seen)}.
handle_call(Signal, Seen) -> {ok, maps:get(Signal, Seen, 0), Seen}.

seen(Signal) -> gen_event:call(erl_signal_server, ?MODULE, Signal, infinity).

send(Signal) ->
    "sig" ++ Name = atom_to_list(Signal),
    [] = os:cmd("kill -" ++ string:uppercase(Name) ++ " " ++ os:getpid()).

handled(Signal) ->
    Before = seen(Signal),
    send(Signal),
    until(fun() -> seen(Signal) > Before end).

until(Condition) ->
    case Condition() of
        true -> ok;
        false -> timer:sleep(5), until(Condition)
    end.

%% Runs each function in a process of its own, until all have ended well.
together(Functions) ->
    Monitors = [element(2, spawn_monitor(F)) || F <- Functions],
    [receive {'DOWN', M, process, _, Reason} -> normal = Reason end || M <- Monitors],
    ok.

programs(0) ->
    ok;
programs(N) ->
    Text = bytes(N * 3000),
    {Text, 0} = netrunner:run(["cat"], [{input, Text}]),
    {<<>>, N} = netrunner:run(["sh", "-c", "exit " ++ integer_to_list(N)]),
    {ok, {0, 0, _}} = netrunner_nif:user(<<"root">>), % on a dirty scheduler
    {ok, Cat} = netrunner_process:start(["cat"]),
    ok = netrunner_process:write(Cat, Text),
    {ok, <<_/binary>>} = netrunner_process:read(Cat),
    ok = netrunner_process:kill(Cat, sigterm),
    {ok, 143} = netrunner_process:await_exit(Cat),
    ok = netrunner_process:stop(Cat),
    erlang:garbage_collect(),
    programs(N - 1).

bytes(N) -> << <<(rand:uniform(256) - 1)>> || _ <- lists:seq(1, N) >>.

%% Until it is told to stop, again and again.
noise(Work) ->
    spawn_monitor(fun Loop() ->
        receive stop -> ok after 0 -> Work(), Loop() end
    end).

%% What is loaded anew takes over the programs of the old code, when that is gone.
reload() ->
    {netrunner_nif, Binary, File} = code:get_object_code(netrunner_nif),
    code:soft_purge(netrunner_nif) andalso
        ({module, netrunner_nif} = code:load_binary(netrunner_nif, File, Binary)),
    timer:sleep(20).

%% Programs, the emulator's own ports, dirty schedulers and new code, under a storm of signals.
storm() ->
    ok = count_signals(),
    Sender = "while kill -USR1 $0 && kill -CHLD $0 && kill -ALRM $0; do sleep 0.001; done 2>/dev/null",
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Sender, os:getpid()]}]),
    %% OTP 25's code:load_binary() never returns if the module is being loaded already.
    {module, netrunner_nif} = code:ensure_loaded(netrunner_nif),
    Noise = [
        noise(fun reload/0),
        noise(fun() -> "own\n" = os:cmd("echo own") end),
        noise(fun() -> [] = send(sigusr2_or_hup()) end)
    ],
    ok = together([fun() -> programs(4) end || _ <- lists:seq(1, 40)]),
    [begin
        Pid ! stop,
        receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end
     end || {Pid, Monitor} <- Noise],
    {os_pid, Shell} = erlang:port_info(Port, os_pid),
    [] = os:cmd("kill -KILL " ++ integer_to_list(Shell)),
    [ok = handled(Signal) || Signal <- ?SIGNALS],
    io:put_chars("survived\n"),
    init:stop().

sigusr2_or_hup() -> lists:nth(rand:uniform(2), [sigusr2, sighup]).

%% To be killed while it starts and ends programs.
killed() ->
    ok = count_signals(),
    [begin
        {ok, Tree} = netrunner_process:start(?TREE),
        {ok, <<"ready\n">>} = netrunner_process:read(Tree)
     end || _ <- lists:seq(1, 5)],
    [noise(fun() -> {_, 0} = netrunner:run(["sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0"]) end)
     || _ <- lists:seq(1, 4)],
    io:put_chars("ready\n"),
    timer:sleep(infinity).
