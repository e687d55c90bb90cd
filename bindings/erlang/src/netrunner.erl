%% SPDX-License-Identifier: Apache-2.0
%%
%% @doc Runs operating system processes, and does not leave them behind.
%%
%% A command is a list of the program and its arguments; no shell is involved.
%% Whatever a program has started is dead when the program is, and all of it dies
%% when the process that runs it dies, or the Erlang node, SIGKILL included.
%%
%% ```
%% 1> netrunner:run(["echo", "hello"]).
%% {<<"hello\n">>,0}
%% 2> netrunner:run(["tr", "a-z", "A-Z"], [{input, "hello"}]).
%% {<<"HELLO">>,0}
%% 3> netrunner:run(["sleep", "60"], [{timeout, 100}]).
%% {error,timeout}
%% 4> netrunner:run(["no-such-program"]).
%% {error,{enoent,<<"execve no-such-program: No such file or directory">>}}
%% '''
%%
%% The status of a program that a signal has ended is 128 plus its number.
%%
%% The functions of this module run in the calling process and need no other.
%% {@link netrunner_process} is a process for a program that many may talk to,
%% {@link netrunner_daemon} one for a supervisor.
-module(netrunner).

-export([run/1, run/2, collect/2, fold/4, stream/1, stream/2, next/1, close/1, version/0]).
-export_type([command/0, option/0, run_option/0, stream/0, reason/0, status/0, outcome/0]).

-define(UNLIMITED, 1 bsl 48).

-type command() :: [unicode:chardata(), ...].
-type option() :: netrunner_options:option().
-type run_option() ::
    option()
    | {input, netrunner_stream:input()}
    | {stderr, stderr()}
    | {max_output_size, pos_integer()}
    | {max_read, pos_integer()}.
-type stderr() ::
    consume | disabled | null | redirect | stdout | console | inherit | pipe | {fd, 0..16#7fffffff}.
-type status() :: 0..255.
-type outcome() :: netrunner_stream:outcome().
%% {Posix, Why}: the program could not be started, Why says what failed.
-type reason() ::
    netrunner_options:invalid()
    | netrunner_nif:failure()
    | netrunner_nif:posix()
    | timeout
    | {max_output_exceeded, binary()}.
-opaque stream() :: netrunner_stream:t().

%% @equiv run(Command, [])
-spec run(command()) -> {Output :: binary(), status()} | {error, reason()}.
run(Command) ->
    run(Command, []).

%% @doc Runs a program to its end and returns what it wrote to stdout.
%%
%% Its stdin is `{input, iodata()}', or empty. Its stderr is dropped; `redirect'
%% merges it into the output and `console' makes it the node's own.
%%
%% After `{timeout, Ms}' the program is stopped: SIGTERM, `{kill_timeout, Ms}',
%% SIGKILL. When stdout is more than `{max_output_size, Bytes}', too, and the
%% result has exactly that many.
%%
%% An option that does not exist, or not with this value, is an exception of
%% class error, `{bad_option, Key, Value, Why}'.
-spec run(command(), [run_option()]) ->
    {Output :: binary(), status()} | {error, reason()}.
run(Command, Options) ->
    case collect(Command, Options) of
        {ok, _, #{reason := timeout}} -> {error, timeout};
        {ok, Output, #{status := Status}} -> {Output, Status};
        {exceeded, Output} -> {error, {max_output_exceeded, Output}};
        {error, _} = Error -> Error
    end.

%% @doc Like {@link run/2}, with all that is known of the end, and with the output of
%% a program that was out of time.
-spec collect(command(), [run_option()]) ->
    {ok, Output :: binary(), outcome()} | {exceeded, Output :: binary()} | {error, reason()}.
collect(Command, Options) ->
    {#{max_output_size := Max}, Others} =
        netrunner_options:split(#{max_output_size => ?UNLIMITED}, Options),
    netrunner_options:check(
        max_output_size, Max, is_integer(Max) andalso Max > 0 andalso Max =< ?UNLIMITED
    ),
    case open(Command, Others, #{collect => Max}) of
        {ok, Stream} ->
            case netrunner_stream:next(Stream) of
                {eof, Outcome, Ended} ->
                    {ok, netrunner_stream:take(Ended), Outcome};
                {error, full} ->
                    {exceeded, netrunner_stream:take(Stream)};
                {error, {input, {Class, Reason, Stack}}} ->
                    erlang:raise(Class, Reason, Stack);
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Calls a function with each piece of output, as it comes.
%%
%% While the function runs nothing is read, and the program has to wait when its
%% pipe is full. Output of stderr comes with `{stderr, pipe}' only. `{halt, Acc}'
%% ends the program; it is dead when fold returns.
-spec fold(Fun, Acc, command(), [run_option()]) ->
    {ok, Acc, outcome()} | {halted, Acc} | {error, reason()}
when
    Fun :: fun((stdout | stderr, binary(), Acc) -> {cont, Acc} | {halt, Acc}).
fold(Fun, Acc, Command, Options) when is_function(Fun, 3) ->
    case open(Command, Options, #{}) of
        {ok, Stream} -> fold(Fun, Acc, Stream);
        {error, _} = Error -> Error
    end.

fold(Fun, Acc, Stream) ->
    case netrunner_stream:next(Stream) of
        {data, Output, Data, Next} ->
            try Fun(Output, Data, Acc) of
                {cont, NewAcc} ->
                    fold(Fun, NewAcc, Next);
                {halt, NewAcc} ->
                    _ = netrunner_stream:close(Next),
                    {halted, NewAcc}
            catch
                Class:Reason:Stack ->
                    _ = netrunner_stream:close(Next),
                    erlang:raise(Class, Reason, Stack)
            end;
        {eof, Outcome, _} ->
            {ok, Acc, Outcome};
        {error, {input, {Class, Reason, Stack}}} ->
            erlang:raise(Class, Reason, Stack);
        {error, _} = Error ->
            Error
    end.

%% @equiv stream(Command, [])
-spec stream(command()) -> {ok, stream()} | {error, reason()}.
stream(Command) ->
    stream(Command, []).

%% @doc Starts a program whose output {@link next/1} returns piece by piece.
%%
%% The options are those of {@link run/2}, without `max_output_size'. The program
%% runs until its pipe is full, and dies with the calling process, and when there
%% is no reference to the stream any more. Only the calling process may use it.
-spec stream(command(), [run_option()]) -> {ok, stream()} | {error, reason()}.
stream(Command, Options) ->
    case open(Command, Options, #{}) of
        {ok, Opened} ->
            case netrunner_stream:started(Opened) of
                {ok, Stream} -> {ok, netrunner_stream:park(Stream)};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc The next piece of output, or how the program ended. The stream can't be
%% used any more after that, or after an error.
-spec next(stream()) ->
    {stdout | stderr, binary(), stream()}
    | {eof, outcome()}
    | {error, reason() | {input, {error | exit | throw, term(), list()}}}.
next(Stream) ->
    case netrunner_stream:next(Stream) of
        {data, Output, Data, Next} -> {Output, Data, Next};
        {eof, Outcome, _} -> {eof, Outcome};
        {error, _} = Error -> Error
    end.

%% @doc Ends the program of a stream that is not read to its end.
-spec close(stream()) -> ok.
close(Stream) ->
    _ = netrunner_stream:close(Stream),
    ok.

%% @doc The version of libnetrunner.
-spec version() -> binary().
version() ->
    netrunner_nif:version().

open(Command, Options, Settings) ->
    Own = #{input => undefined, stderr => consume, max_read => 256 * 1024},
    {#{input := Input, stderr := Stderr, max_read := Max}, Others} =
        netrunner_options:split(Own, Options),
    netrunner_options:check(max_read, Max, is_integer(Max) andalso Max > 0),
    netrunner_options:check(input, Input, is_input(Input)),
    Stdin =
        case Input of
            undefined -> null;
            _ -> pipe
        end,
    Defaults = #{
        stdin => {default, Stdin}, stdout => {default, pipe}, stderr => stderr(Stderr)
    },
    case netrunner_options:spec(Command, Others, Defaults) of
        {ok, Spec} -> netrunner_stream:open(Spec, Settings#{input => Input, max_read => Max});
        {error, _} = Error -> Error
    end.

is_input(undefined) -> true;
is_input(Fun) when is_function(Fun) -> is_function(Fun, 1);
is_input(Data) -> is_iodata(Data).

is_iodata(Data) ->
    try
        iolist_size(Data) >= 0
    catch
        error:badarg -> false
    end.

stderr(consume) -> {default, null};
stderr(disabled) -> null;
stderr(redirect) -> {default, stdout};
stderr(console) -> inherit;
stderr(Mode) when Mode =:= null; Mode =:= stdout; Mode =:= inherit; Mode =:= pipe -> Mode;
stderr({fd, Fd}) when is_integer(Fd), Fd >= 0, Fd =< 16#7fffffff -> {fd, Fd};
stderr(Other) -> netrunner_options:bad(stderr, Other, "not a value of this option").
