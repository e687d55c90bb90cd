%% SPDX-License-Identifier: Apache-2.0
%%
%% Asks the server, and hears its answers.
-module(watchdog_client).
-behaviour(gen_server).
-export([start_link/0, ask/1, answer/1]).
-export([init/1, handle_call/3, handle_cast/2]).

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% What the server makes of a line.
ask(Line) ->
    gen_server:call(?MODULE, {ask, Line}).

%% Each line of the server's output, in the daemon's process.
answer(Line) ->
    gen_server:cast(?MODULE, {answer, Line}).

init([]) -> {ok, []}.

handle_call({ask, Line}, From, Asked) ->
    case netrunner_daemon:write(watchdog_server, [Line, $\n]) of
        ok -> {noreply, Asked ++ [From]};
        {error, _} = Error -> {reply, Error, Asked}
    end.

handle_cast({answer, <<"served ", _/binary>>}, Asked) ->
    {noreply, Asked};
handle_cast({answer, Line}, [From | Asked]) ->
    gen_server:reply(From, {ok, Line}),
    {noreply, Asked};
handle_cast({answer, _}, []) ->
    {noreply, []}.
