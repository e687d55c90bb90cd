%% SPDX-License-Identifier: Apache-2.0
%%
%% @private
%%
%% The stdin of a program that a server writes to for its clients: one after the
%% other, each completely. The answer goes to the client when all is written.
-module(netrunner_writer).

-export([new/2, write/3, close/1, close/2, ready/2, down/2]).
-export_type([t/0]).

-record(job, {
    from :: gen_server:from(),
    monitor :: reference(),
    what :: [binary()] | close
}).
-record(writer, {
    program :: netrunner_nif:program(),
    %% Of a terminal, that is to be closed after what has been written before.
    terminal :: boolean(),
    closed = false :: boolean(),
    waiting :: undefined | reference(),
    jobs = queue:new() :: queue:queue(#job{})
}).

-opaque t() :: #writer{}.

-spec new(netrunner_nif:program(), Terminal :: boolean()) -> t().
new(Program, Terminal) ->
    #writer{program = Program, terminal = Terminal}.

-spec write(gen_server:from(), [binary()], t()) -> t().
write(From, _, #writer{closed = true} = Writer) ->
    gen_server:reply(From, {error, closed}),
    Writer;
write(From, Data, Writer) ->
    add(From, Data, Writer).

%% Other than a terminal's, stdin is closed at once: what waits to be written is
%% refused.
-spec close(gen_server:from(), t()) -> t().
close(From, #writer{closed = false, terminal = true} = Writer) ->
    add(From, close, Writer);
close(From, Writer) ->
    New = close(Writer),
    gen_server:reply(From, ok),
    New.

%% Nobody is there to be answered.
-spec close(t()) -> t().
close(#writer{closed = true} = Writer) ->
    Writer;
close(#writer{program = Program, jobs = Jobs} = Writer) ->
    _ = netrunner_nif:close(Program, stdin),
    lists:foreach(fun(Job) -> answer(Job, {error, closed}) end, queue:to_list(Jobs)),
    Writer#writer{closed = true, waiting = undefined, jobs = queue:new()}.

%% Whether it is stdin that has got ready, and then what comes of it.
-spec ready(reference(), t()) -> {ok, t()} | error.
ready(Ref, #writer{waiting = Ref} = Writer) ->
    {ok, feed(Writer#writer{waiting = undefined})};
ready(_, _) ->
    error.

%% A client has died. What has been written in part is finished.
-spec down(reference(), t()) -> t().
down(Monitor, #writer{jobs = Jobs} = Writer) ->
    case queue:out(Jobs) of
        {{value, First}, Rest} ->
            Left = queue:filter(fun(Job) -> Job#job.monitor =/= Monitor end, Rest),
            Writer#writer{jobs = queue:in_r(First, Left)};
        {empty, _} ->
            Writer
    end.

add({Pid, _} = From, What, #writer{jobs = Jobs} = Writer) ->
    Job = #job{from = From, monitor = monitor(process, Pid), what = What},
    feed(Writer#writer{jobs = queue:in(Job, Jobs)}).

feed(#writer{waiting = undefined, program = Program, jobs = Jobs} = Writer) ->
    case queue:out(Jobs) of
        {{value, #job{what = close} = Job}, Rest} ->
            case netrunner_nif:close(Program, stdin) of
                {select, Ref} ->
                    Writer#writer{waiting = Ref};
                Result ->
                    answer(Job, Result),
                    feed(Writer#writer{jobs = Rest, closed = Result =:= ok})
            end;
        {{value, #job{what = Data} = Job}, Rest} ->
            case netrunner_nif:write(Program, Data) of
                {more, Left} ->
                    feed(Writer#writer{jobs = queue:in_r(Job#job{what = Left}, Rest)});
                {select, Ref, Left} ->
                    Writer#writer{
                        waiting = Ref, jobs = queue:in_r(Job#job{what = Left}, Rest)
                    };
                Result ->
                    %% What has been typed behind an end of file is an error, too.
                    answer(Job, closed(Result, Writer)),
                    feed(Writer#writer{jobs = Rest})
            end;
        {empty, _} ->
            Writer
    end;
feed(Writer) ->
    Writer.

closed({error, _}, #writer{closed = true}) -> {error, closed};
closed(Result, _) -> Result.

answer(#job{from = From, monitor = Monitor}, Result) ->
    demonitor(Monitor, [flush]),
    gen_server:reply(From, Result).
