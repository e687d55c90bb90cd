%% SPDX-License-Identifier: Apache-2.0
%%
%% A server that is an external program, and a client that talks to it. They live
%% and die together: rest_for_one.
-module(watchdog_sup).
-behaviour(supervisor).
-export([start_link/0, init/1]).

start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    %% Stands for any server: it answers each line, says so in its log, and needs a
    %% moment to end well.
    Server = [
        "sh",
        "-c",
        "trap 'echo closed >&2; exit 0' TERM\n"
        "while read -r line; do echo \"$line\" | tr a-z A-Z; echo \"served $line\" >&2; done"
    ],
    Options = [
        {name, watchdog_server},
        {output, {lines, {watchdog_client, answer, []}}},
        {kill_timeout, 2000}
    ],
    {ok,
        {#{strategy => rest_for_one, intensity => 5, period => 10}, [
            #{
                id => server,
                start => {netrunner_daemon, start_link, [Server, Options]},
                shutdown => 3000
            },
            #{id => client, start => {watchdog_client, start_link, []}}
        ]}}.
