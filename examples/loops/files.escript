#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%%
%% The job of job.h on the BEAM: an Erlang process for each program.
%%
%%     ERL_LIBS=... escript files.escript [-t MILLISECONDS] COMMAND FILE...
%%
%% The function that gives the input waits in Write while the program does not
%% read, and what nobody has taken from a program is not read from it.

main(["-t", Milliseconds | Rest]) -> run(list_to_integer(Milliseconds), Rest);
main(Arguments) -> run(infinity, Arguments).

run(Timeout, [Command | Files = [_ | _]]) ->
    {ok, _} = application:ensure_all_started(netrunner),
    Jobs = [spawn_monitor(fun() -> exit(job(Timeout, Command, File)) end) || File <- Files],
    Ended = [receive {'DOWN', Monitor, process, _, How} -> How end || {_, Monitor} <- Jobs],
    halt(case lists:all(fun(How) -> How =:= ok end, Ended) of true -> 0; false -> 1 end);
run(_, _) ->
    io:format(standard_error, "usage: files.escript [-t MILLISECONDS] COMMAND FILE...~n", []),
    halt(2).

job(Timeout, Command, File) ->
    case file:open(File, [read, binary]) of
        {ok, Source} ->
            Options = [{input, fun(Write) -> feed(Source, Write) end}, {timeout, Timeout}],
            Print = fun(stdout, Data, Rest) -> {cont, lines(File, <<Rest/binary, Data/binary>>)} end,
            Result = netrunner:fold(Print, <<>>, ["sh", "-c", Command], Options),
            ok = file:close(Source),
            report(File, Result);
        {error, Reason} ->
            io:format(standard_error, "~ts: ~ts~n", [File, file:format_error(Reason)]),
            failed
    end.

feed(Source, Write) ->
    case file:read(Source, 1 bsl 16) of
        {ok, Chunk} ->
            case Write(Chunk) of
                ok -> feed(Source, Write);
                {error, _} -> ok % it does not want more
            end;
        eof ->
            ok
    end.

%% Prints the whole lines, and returns the rest.
lines(File, Data) ->
    Parts = binary:split(Data, <<"\n">>, [global]),
    Lines = lists:droplast(Parts),
    ok = file:write(standard_io, [[File, ": ", Line, $\n] || Line <- Lines]),
    lists:last(Parts).

report(File, {ok, Rest, #{reason := Reason, code := Code, signal := Signal}}) ->
    _ = [ok = file:write(standard_io, [File, ": ", Rest, $\n]) || Rest =/= <<>>],
    How = case {Reason, Code} of
        {timeout, _} -> "out of time";
        {_, undefined} -> ["signal ", integer_to_list(Signal)];
        _ -> ["exit ", integer_to_list(Code)]
    end,
    io:format(standard_error, "~ts: ~s~n", [File, How]),
    case Code of 0 -> ok; _ -> failed end;
report(File, {error, Reason}) ->
    io:format(standard_error, "~ts: ~p~n", [File, Reason]),
    failed.
