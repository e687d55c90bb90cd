%% SPDX-License-Identifier: Apache-2.0
-module(netrunner_cgroup_tests).
-include("support.hrl").

settings_test() ->
    ?assertEqual({ok, []}, netrunner_cgroup:settings(#{})),
    ?assertEqual(
        {ok, [
            <<"cpu.idle=1">>,
            <<"cpu.max=50000 100000">>,
            <<"cpu.weight=50">>,
            <<"cpuset.cpus=0-3,5">>,
            <<"memory.high=max">>,
            <<"memory.max=268435456">>,
            <<"memory.oom.group=0">>,
            <<"memory.swap.max=0">>
        ]},
        netrunner_cgroup:settings(#{
            memory_max => 268435456,
            memory_high => max,
            memory_swap_max => 0,
            memory_oom_group => false,
            cpu_weight => 50,
            cpu_max => {50000, 100000},
            cpu_idle => true,
            cpuset_cpus => "0-3,5"
        })
    ),
    ?assertEqual({ok, [<<"cpu.max=max 100000">>]}, netrunner_cgroup:settings(#{cpu_max => max})),
    ?assertEqual({error, {unknown, bogus}}, netrunner_cgroup:settings(#{bogus => 1})),
    [
        ?assertEqual({error, {invalid, Key, Value}}, netrunner_cgroup:settings(#{Key => Value}))
     || {Key, Value} <- [
            {memory_max, -1},
            {memory_max, "500M"},
            {memory_low, max},
            {cpu_max, {-1, 100}},
            {cpu_max, {1, 0}},
            {cpu_weight, 0},
            {cpu_weight, 10001},
            {cpu_idle, 1},
            {cpuset_mems, "0\n1"},
            {cpuset_mems, [a]},
            {pids_max, 1.0}
        ]
    ].

reader(Files) ->
    fun(File) ->
        case Files of
            #{File := Text} -> {ok, Text};
            #{} -> {error, enoent}
        end
    end.

config_test() ->
    Read = reader(#{
        <<"memory.max">> => <<"268435456\n">>,
        <<"memory.high">> => <<"max\n">>,
        <<"cpu.max">> => <<"50000 100000\n">>,
        <<"cpu.weight">> => <<"100\n">>,
        <<"cpu.idle">> => <<"0\n">>,
        <<"cpuset.cpus">> => <<"0-3\n">>,
        <<"pids.max">> => <<"what is this\n">>
    }),
    Config = netrunner_cgroup:config(Read),
    ?assertEqual(
        #{
            memory_max => 268435456,
            memory_high => max,
            cpu_max => {50000, 100000},
            cpu_weight => 100,
            cpu_idle => false,
            cpuset_cpus => <<"0-3">>
        },
        Config
    ),
    %% What has been read can be set.
    {ok, _} = netrunner_cgroup:settings(Config),
    ?assertEqual(
        #{cpu_max => max}, netrunner_cgroup:config(reader(#{<<"cpu.max">> => <<"max 100000\n">>}))
    ).

statistics_test() ->
    Read = reader(#{
        <<"memory.current">> => <<"4096\n">>,
        <<"memory.events">> => <<"low 0\noom_kill 1\n">>,
        <<"cpu.pressure">> =>
            <<"some avg10=0.00 avg60=1.50 avg300=0.00 total=42\nfull avg10=0.00 total=0\n">>,
        <<"pids.events">> => <<"\n">>
    }),
    ?assertEqual(
        #{
            <<"memory.current">> => 4096,
            <<"memory.events">> => #{<<"low">> => 0, <<"oom_kill">> => 1},
            <<"cpu.pressure">> => #{
                <<"some">> => #{
                    <<"avg10">> => 0.0, <<"avg60">> => 1.5, <<"avg300">> => 0.0, <<"total">> => 42
                },
                <<"full">> => #{<<"avg10">> => 0.0, <<"total">> => 0}
            }
        },
        netrunner_cgroup:statistics(Read)
    ).

paths_test() ->
    Self = list_to_integer(os:getpid()),
    ?assertEqual(none, netrunner_cgroup:of_program(#{}, Self)),
    ?assertEqual(<<"a/b">>, netrunner_cgroup:of_program(#{cgroup_path => <<"a/b">>}, Self)),
    ?assertEqual(unknown, netrunner_cgroup:of_program(#{cgroup_base => <<"a">>}, 1 bsl 30)).
