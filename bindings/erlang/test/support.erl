%% SPDX-License-Identifier: Apache-2.0
%%
%% What the tests have in common.
-module(support).

-export([until/1, until/2, marker/0, marked/1, is_running/1, gone/1, descriptors/0]).
-export([sh/1, flush/0, no_messages/0, tree/1, collect/1, line/1]).

%% Waits for a condition. It fails only if that takes very long.
until(Fun) ->
    until(Fun, 30000).

until(Fun, Timeout) when Timeout > 0 ->
    case Fun() of
        true ->
            ok;
        _ ->
            timer:sleep(10),
            until(Fun, Timeout - 10)
    end;
until(Fun, _) ->
    error({never, Fun, Fun()}).

%% An argument of sleep(1) by which its process is found again.
marker() ->
    "1000." ++ integer_to_list(erlang:unique_integer([positive])) ++ os:getpid().

%% The processes with an argument, but zombies.
marked(Marker) ->
    Wanted = unicode:characters_to_binary(Marker),
    {ok, Entries} = file:list_dir("/proc"),
    [
        list_to_integer(Entry)
     || Entry = [C | _] <- Entries,
        C >= $0,
        C =< $9,
        {ok, Cmdline} <- [file:read_file("/proc/" ++ Entry ++ "/cmdline")],
        lists:member(Wanted, binary:split(Cmdline, <<0>>, [global]))
    ].

is_running(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} ->
            %% The name before may hold anything but ends with the last parenthesis.
            [_, <<" ", State, _/binary>>] = string:split(Stat, ")", trailing),
            State =/= $Z andalso State =/= $X;
        {error, _} ->
            false
    end.

gone(Marker) ->
    until(fun() -> marked(Marker) =:= [] end).

descriptors() ->
    {ok, All} = file:list_dir("/proc/self/fd"),
    length(All).

sh(Script) ->
    ["sh", "-c", Script].

%% A program that has what it starts leave its process group, its session and its
%% environment, and ignores SIGTERM. It writes "up" when all are there.
tree(Marker) ->
    sh(
        "trap '' TERM; sleep " ++ Marker ++ " & setsid sleep " ++ Marker ++ " & (setsid sleep " ++
            Marker ++ " &) ; (env -i setsid sleep " ++ Marker ++ " & ) ; "
            "until [ $(pgrep -fc '^sleep " ++ Marker ++ "') -ge 4 ]; do sleep 0.01; done; echo up; "
            "while :; do sleep " ++ Marker ++ "; done"
    ).

flush() ->
    receive
        _ -> flush()
    after 0 -> ok
    end.

no_messages() ->
    {messages, Messages} = process_info(self(), messages),
    Messages =:= [].

collect(Process) ->
    case netrunner_process:read(Process) of
        {ok, Data} -> <<Data/binary, (collect(Process))/binary>>;
        eof -> <<>>
    end.

%% A terminal may deliver a line in pieces.
line(Process) ->
    {ok, Data} = netrunner_process:read(Process),
    case binary:last(Data) of
        $\n -> Data;
        _ -> <<Data/binary, (line(Process))/binary>>
    end.
