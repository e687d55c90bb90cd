%% SPDX-License-Identifier: Apache-2.0
%%
%% @private
%%
%% A program whose streams one process moves: the common part of
%% netrunner:run/2, netrunner:fold/4 and netrunner:stream/2.
%%
%% next/1 feeds the input, reads the outputs and waits for the end, whichever is
%% possible, in the calling process. It waits only in one receive, for what it
%% has selected for; other messages stay where they are.
-module(netrunner_stream).

-export([open/2, started/1, next/1, take/1, close/1, close/2, park/1, own/1, is_broken/1]).
-export_type([t/0, input/0, outcome/0]).

-record(stream, {
    program :: netrunner_nif:program(),
    input :: none | {data, [binary()]} | {writer, fun(), undefined | {pid(), reference()}},
    outputs :: [stdout | stderr],
    %% What has been selected for, and has not been ready since.
    waiting = #{} :: #{stdin | stdout | stderr | exit => reference()},
    outcome :: undefined | outcome() | {error, netrunner_nif:failure()},
    max :: pos_integer(),
    %% Output is kept for take/1, so many bytes.
    collect :: undefined | pos_integer(),
    patience :: timeout(),
    broken = false :: boolean()
}).

-opaque t() :: #stream{}.

%% none: the program's stdin is at its end, or as the option stdin says. A
%% function runs in a process of its own and writes with the one it is given.
-type input() ::
    undefined | iodata() | fun((fun((iodata()) -> ok | {error, closed | epipe})) -> term()).

-type outcome() :: #{
    status := 0..255,
    code := 0..255 | undefined,
    signal := 1..64 | undefined,
    %% unknown: the shepherd was killed, and the program with it.
    reason := own | killed | timeout | output | oom | unknown,
    core := boolean()
}.

%% How long close/1 waits beyond the grace that the program has.
-define(PATIENCE, 5000).

%% The program is killed when the calling process dies. If it can't be executed, the
%% error may come from next/1.
-spec open(netrunner_nif:spec(), #{input => input(), max_read => pos_integer(), collect => pos_integer()}) ->
    {ok, t()} | {error, netrunner_nif:failure()}.
open(Spec, Settings) ->
    case netrunner_nif:spawn_program(Spec#{kill_on_down => true}, self()) of
        {ok, Program} ->
            Terminal = lists:member(pty, maps:get(flags, Spec, [])),
            {ok, #stream{
                program = Program,
                input = input(maps:get(input, Settings, undefined)),
                outputs = [
                    S
                 || {S, Mode} <- [
                        {stdout, maps:get(stdout, Spec, terminal)},
                        {stderr, maps:get(stderr, Spec, none)}
                    ],
                    Mode =:= pipe orelse (Terminal andalso Mode =:= terminal)
                ],
                max = maps:get(max_read, Settings, 256 * 1024),
                collect = maps:get(collect, Settings, undefined),
                patience = netrunner_options:kill_timeout(Spec) + ?PATIENCE
            }};
        {error, _} = Error ->
            Error
    end.

input(undefined) -> none;
input(Fun) when is_function(Fun, 1) -> {writer, Fun, undefined};
input(Data) -> {data, erlang:iolist_to_iovec(Data)}.

%% Waits until the program has been executed, or that has failed. This is the first
%% news of a program.
-spec started(t()) -> {ok, t()} | {error, netrunner_nif:failure()}.
started(#stream{outcome = {error, _} = Error} = Stream) ->
    release(Stream),
    Error;
started(#stream{outcome = #{}} = Stream) ->
    {ok, Stream};
started(#stream{waiting = #{exit := _}, program = Program} = Stream) ->
    case netrunner_nif:pid(Program) of
        {ok, _} -> {ok, Stream};
        {error, _} -> started(receive_ready(Stream))
    end;
started(Stream) ->
    started(wait(Stream)).

%% A stream that is not used for now sends its process nothing. Without any
%% reference to it, its program is ended.
-spec park(t()) -> t().
park(#stream{program = Program} = Stream) ->
    case netrunner_nif:unselect(Program) of
        ok ->
            flush(Program),
            Stream#stream{waiting = #{}};
        again ->
            erlang:yield(),
            park(Stream)
    end.

%% The calling process takes over a parked stream.
-spec own(t()) -> ok | {error, netrunner_nif:posix()}.
own(#stream{program = Program}) ->
    netrunner_nif:set_owner(Program, self()).

%% Whether the program did not take all of its input.
-spec is_broken(t()) -> boolean().
is_broken(#stream{input = Input, broken = Broken}) ->
    Broken orelse Input =/= none.

%% What has been collected. After an error, too.
-spec take(t()) -> binary().
take(#stream{program = Program, collect = Max}) ->
    netrunner_nif:take(Program, Max).

%% eof: the outputs are at their end, the program and all that it had started
%% is dead. A stream that has failed has been closed.
-spec next(t()) ->
    {data, stdout | stderr, binary(), t()}
    | {eof, outcome(), t()}
    | {error, netrunner_nif:failure() | netrunner_nif:posix() | full | {input, Reason :: term()}}.
next(Stream0) ->
    Stream = feed(Stream0),
    case read(Stream#stream.outputs, Stream) of
        {data, _, _, _} = Data -> Data;
        {more, Read} -> next(Read);
        {none, #stream{outputs = []} = Read} -> ended(wait(Read));
        {none, Read} -> ended(Read);
        {error, Reason} -> fail(Stream, Reason)
    end.

ended(#stream{outcome = {error, Reason}} = Stream) ->
    fail(Stream, Reason);
ended(#stream{outcome = #{} = Outcome, outputs = []} = Stream) ->
    %% The writer's last words: why there was not more input.
    case stop_writer(Stream) of
        {ok, Stopped} ->
            release(Stopped),
            {eof, Outcome, Stopped};
        {error, Reason} ->
            fail(Stream, Reason)
    end;
ended(#stream{outcome = #{}, waiting = Waiting} = Stream) ->
    %% Nobody writes any more. What there is to read is read now, and to have to
    %% wait is the end: somebody may have got hold of the other side.
    next(Stream#stream{waiting = maps:without([stdout, stderr], Waiting)});
ended(Stream) ->
    try receive_ready(Stream) of
        Ready -> next(Ready)
    catch
        throw:{input, _} = Reason -> fail(Stream, Reason)
    end.

fail(Stream, Reason) ->
    _ = close(Stream),
    {error, Reason}.

%% Input

feed(#stream{input = {data, Data}, waiting = Waiting} = Stream) when
    not is_map_key(stdin, Waiting)
->
    case netrunner_nif:write(Stream#stream.program, Data) of
        ok -> close_stdin(Stream);
        {more, Rest} -> feed(Stream#stream{input = {data, Rest}});
        {select, Ref, Rest} -> waits(stdin, Ref, Stream#stream{input = {data, Rest}});
        %% It does not want more: no error, head(1) is like that.
        {error, _} -> close_stdin(Stream#stream{broken = true})
    end;
feed(#stream{input = {writer, Fun, undefined}, program = Program} = Stream) ->
    Self = self(),
    Ref = make_ref(),
    Pid = spawn_link(fun() -> Self ! {Ref, writer(Program, Fun)} end),
    Stream#stream{input = {writer, Fun, {Pid, Ref}}};
feed(Stream) ->
    Stream.

close_stdin(#stream{program = Program} = Stream) ->
    case netrunner_nif:close(Program, stdin) of
        {select, Ref} -> waits(stdin, Ref, Stream#stream{input = {data, []}});
        _ -> Stream#stream{input = none}
    end.

%% In a process of its own. The link kills it with the process that reads.
writer(Program, Fun) ->
    try
        _ = Fun(fun(Data) -> write(Program, erlang:iolist_to_iovec(Data)) end),
        close_blocking(Program)
    catch
        Class:Reason:Stack -> {error, {Class, Reason, Stack}}
    end.

write(Program, Data) ->
    case netrunner_nif:write(Program, Data) of
        ok ->
            ok;
        {more, Rest} ->
            write(Program, Rest);
        {select, Ref, Rest} ->
            receive
                {select, Program, Ref, _} -> write(Program, Rest)
            end;
        {error, Reason} ->
            _ = put(?MODULE, broken),
            {error, Reason}
    end.

close_blocking(Program) ->
    case netrunner_nif:close(Program, stdin) of
        {select, Ref} ->
            receive
                {select, Program, Ref, _} -> close_blocking(Program)
            end;
        _ ->
            {ok, get(?MODULE) =:= broken}
    end.

%% Output

read([], Stream) ->
    {none, Stream};
read([Output | Others], #stream{waiting = Waiting} = Stream) when is_map_key(Output, Waiting) ->
    read(Others, Stream);
read([Output | Others], #stream{program = Program, outputs = Outputs} = Stream) ->
    case read_output(Program, Output, Stream) of
        more ->
            {more, Stream#stream{outputs = lists:delete(Output, Outputs) ++ [Output]}};
        full ->
            {error, full};
        {ok, Data} ->
            %% The other one is first the next time.
            {data, Output, Data, Stream#stream{outputs = lists:delete(Output, Outputs) ++ [Output]}};
        {select, Ref} when Stream#stream.outcome =:= undefined ->
            read(Others, waits(Output, Ref, Stream));
        End when End =:= eof; element(1, End) =:= select ->
            read(Others, Stream#stream{outputs = lists:delete(Output, Outputs)});
        {error, _} = Error ->
            Error
    end.

read_output(Program, Output, #stream{collect = undefined, max = Max}) ->
    netrunner_nif:read(Program, Output, Max);
read_output(Program, Output, #stream{collect = Max}) ->
    netrunner_nif:collect(Program, Output, Max).

%% Waiting

waits(What, Ref, #stream{waiting = Waiting} = Stream) ->
    Stream#stream{waiting = Waiting#{What => Ref}}.

wait(#stream{outcome = undefined, waiting = Waiting} = Stream) when
    not is_map_key(exit, Waiting)
->
    case netrunner_nif:wait(Stream#stream.program) of
        {select, Ref} -> waits(exit, Ref, Stream);
        Result -> Stream#stream{outcome = outcome_of(Result)}
    end;
wait(Stream) ->
    Stream.

outcome_of({exit, Code, Signal, Reason, Core}) ->
    netrunner_process:outcome(Code, Signal, Reason, Core);
outcome_of({error, _} = Error) ->
    Error.

receive_ready(#stream{program = Program, input = {writer, _, {Pid, Ref}}} = Stream) ->
    receive
        {select, Program, Selected, _} ->
            ready(Selected, Stream);
        {Ref, {ok, Broken}} ->
            unlink_writer(Pid),
            Stream#stream{input = none, broken = Broken};
        {Ref, {error, Reason}} ->
            throw({input, Reason})
    after until_wait(Stream) -> wait(Stream)
    end;
receive_ready(#stream{program = Program} = Stream) ->
    receive
        {select, Program, Selected, _} -> ready(Selected, Stream)
    after until_wait(Stream) -> wait(Stream)
    end.

%% Most programs end soon after their outputs, and nothing is to be known of one
%% that runs: not to watch the end from the beginning saves those that end soon some
%% wake-ups. But an output may stay open for ever.
until_wait(#stream{waiting = #{exit := _}}) -> infinity;
until_wait(#stream{outcome = undefined}) -> 20;
until_wait(_) -> infinity.

ready(Ref, #stream{waiting = Waiting} = Stream) ->
    Stream#stream{waiting = maps:filter(fun(_, R) -> R =/= Ref end, Waiting)}.

%% Ends

-spec close(t()) -> {undefined | outcome() | {error, netrunner_nif:failure()}, t()}.
close(Stream) ->
    close(Stream, 0).

%% Closes the streams, ends the program if that has not ended it within Grace,
%% and returns when it is dead. How it ended is undefined if that took too long;
%% the shepherd goes on with it.
-spec close(t(), timeout()) -> {undefined | outcome() | {error, netrunner_nif:failure()}, t()}.
close(#stream{program = Program, patience = Patience} = Stream0, Grace) ->
    Stream =
        case stop_writer(Stream0) of
            {ok, Stopped} -> Stopped;
            {error, _} -> Stream0#stream{broken = true}
        end,
    _ = [netrunner_nif:close(Program, S) || S <- [stdin, stdout, stderr]],
    Outcome =
        case Grace =/= 0 andalso die(wait(Stream), Grace) of
            #{} = Ended ->
                Ended;
            _ ->
                _ = netrunner_nif:stop(Program),
                die(wait(Stream), Patience)
        end,
    release(Stream),
    {Outcome, Stream}.

die(#stream{outcome = undefined, program = Program, waiting = #{exit := Ref}} = Stream, Timeout) ->
    %% No news but the end itself comes after a start, so that no deadline is needed.
    receive
        {select, Program, Ref, _} -> die(wait(ready(Ref, Stream)), Timeout)
    after Timeout -> undefined
    end;
die(#stream{outcome = Outcome}, _) ->
    Outcome.

stop_writer(#stream{input = {writer, _, {Pid, Ref}}} = Stream) ->
    Monitor = monitor(process, Pid),
    unlink_writer(Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end,
    receive
        {Ref, {ok, Broken}} -> {ok, Stream#stream{input = none, broken = Broken}};
        {Ref, {error, Reason}} -> {error, {input, Reason}}
    after 0 -> {ok, Stream#stream{input = none, broken = true}}
    end;
stop_writer(Stream) ->
    {ok, Stream#stream{broken = is_broken(Stream)}}.

unlink_writer(Pid) ->
    unlink(Pid),
    receive
        {'EXIT', Pid, _} -> ok
    after 0 -> ok
    end.

release(#stream{program = Program}) ->
    ok = netrunner_nif:release(Program),
    flush(Program).

%% Nothing is selected any more, and what was on its way has arrived.
flush(Program) ->
    receive
        {select, Program, _, _} -> flush(Program)
    after 0 -> ok
    end.
