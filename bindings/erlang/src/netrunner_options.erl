%% SPDX-License-Identifier: Apache-2.0
%%
%% @private
%%
%% Options of users to options of the NIF. All that can be wrong without asking
%% the kernel is found here, in the process that has made the mistake.
-module(netrunner_options).

-export([split/2, spec/3, check/3, bad/3, kill_timeout/1]).
-export_type([option/0, env/0, stdio/0, invalid/0]).

-type env() ::
    #{unicode:chardata() => value()}
    | [{unicode:chardata(), value()}]
    | {replace, #{unicode:chardata() => value()} | [{unicode:chardata(), value()}]}.
%% false, undefined and nil: not set.
-type value() :: unicode:chardata() | false | undefined | nil.
-type stdio() :: pipe | null | inherit | {fd, non_neg_integer()}.
-type limit() :: non_neg_integer() | infinity.

-type option() ::
    {cd | cwd, file:name_all()}
    | {env, env()}
    | {arg0, unicode:chardata()}
    | {stdin | stdout, stdio()}
    | {stderr, stdio() | stdout}
    | {fds, [{Fd :: non_neg_integer(), Target :: pos_integer()}]}
    | {pipe_size, pos_integer()}
    | {pty | echo | session | linger | own_shepherd | pid_namespace | no_new_privs, boolean()}
    | {rows | cols, 1..65535}
    | {timeout, pos_integer() | infinity}
    | {kill_timeout | delay_to_sigkill, non_neg_integer()}
    | {output_limit, pos_integer()}
    | {uid | gid, non_neg_integer() | unicode:chardata()}
    | {groups, [non_neg_integer() | unicode:chardata()]}
    | {umask, 0..8#777}
    | {nice, -20..19}
    | {rlimits, #{atom() => limit() | {limit(), limit()}}}
    | {cgroup_base | cgroup_path, unicode:chardata()}
    | {cgroup, netrunner_cgroup:config()}
    | {shepherd, file:name_all()}.

%% What spec/3 returns for a command that makes no sense.
-type invalid() :: {invalid_cmd | invalid_args | invalid_cgroup_path, Why :: binary()}.

%% Those of the options that belong to somebody else than spec/3, as a map of
%% their values, with the given defaults.
-spec split(#{atom() => term()}, [{atom(), term()}]) -> {#{atom() => term()}, [{atom(), term()}]}.
split(Defaults, Options) when is_list(Options) ->
    Own = maps:keys(Defaults),
    lists:foldl(
        fun
            ({Key, Value}, {Mine, Others}) ->
                case lists:member(Key, Own) of
                    true when Value =:= undefined; Value =:= nil -> {Mine, Others};
                    true -> {Mine#{Key := Value}, Others};
                    false -> {Mine, [{Key, Value} | Others]}
                end;
            (Key, Acc) when is_atom(Key) ->
                case lists:member(Key, Own) of
                    true -> {maps:put(Key, true, element(1, Acc)), element(2, Acc)};
                    false -> {element(1, Acc), [{Key, true} | element(2, Acc)]}
                end;
            (Other, _) ->
                bad(Other, undefined, "not an option")
        end,
        {Defaults, []},
        lists:reverse(Options)
    );
split(_, Options) ->
    bad(options, Options, "not a list of options").

-spec check(atom(), term(), boolean()) -> ok.
check(_, _, true) -> ok;
check(Key, Value, false) -> bad(Key, Value, "not a value of this option").

-spec bad(term(), term(), unicode:chardata()) -> no_return().
bad(Key, Value, Why) ->
    error({bad_option, Key, Value, unicode:characters_to_binary(Why)}).

%% What spec/3 has made of kill_timeout, in milliseconds.
-spec kill_timeout(netrunner_nif:spec()) -> non_neg_integer().
kill_timeout(#{kill_timeout := -1}) -> 0;
kill_timeout(#{kill_timeout := Ms}) -> Ms;
kill_timeout(#{}) -> 5000.

%% The streams of Defaults hold where the options don't say otherwise. A wrong
%% option is an error exception, {bad_option, Key, Value, Why}.
-spec spec(term(), [{atom(), term()}], netrunner_nif:spec()) ->
    {ok, netrunner_nif:spec()} | {error, invalid() | netrunner_nif:failure()}.
spec(Command, Options, Defaults) ->
    try
        {Cmd, Args} = command(Command),
        Spec0 = lists:foldr(fun option/2, Defaults#{argv => [Cmd | Args]}, Options),
        Spec = finish(Spec0),
        {ok, Spec#{env => environment(Spec)}}
    catch
        throw:{invalid, Reason} -> {error, Reason}
    end.

command([Cmd | Args]) when is_list(Cmd); is_binary(Cmd) ->
    case text(Cmd) of
        {ok, <<>>} -> invalid(invalid_cmd, "must not be empty");
        {ok, Text} -> {Text, arguments(Args)};
        nul -> invalid(invalid_cmd, "must not contain NUL bytes");
        error -> invalid(invalid_cmd, "must be a binary or a string")
    end;
command([]) ->
    invalid(invalid_cmd, "must not be empty");
command(_) ->
    invalid(invalid_cmd, "must be a list of a program and its arguments").

arguments([Arg | Args]) ->
    case text(Arg) of
        {ok, Text} -> [Text | arguments(Args)];
        nul -> invalid(invalid_args, "must not contain NUL bytes");
        error -> invalid(invalid_args, "must be binaries or strings")
    end;
arguments([]) ->
    [];
arguments(_) ->
    invalid(invalid_args, "must be a proper list").

-spec invalid(atom(), string()) -> no_return().
invalid(What, Why) ->
    throw({invalid, {What, list_to_binary(Why)}}).

%% A binary is taken as it is, a string in UTF-8.
text(Binary) when is_binary(Binary) ->
    case binary:match(Binary, <<0>>) of
        nomatch -> {ok, Binary};
        _ -> nul
    end;
text(List) when is_list(List) ->
    try unicode:characters_to_binary(List) of
        Binary when is_binary(Binary) -> text(Binary);
        _ -> error
    catch
        error:badarg -> error
    end;
text(_) ->
    error.

text(Key, Value) ->
    case text(Value) of
        {ok, Text} when Text =/= <<>> -> Text;
        {ok, _} -> bad(Key, Value, "must not be empty");
        nul -> bad(Key, Value, "must not contain NUL bytes");
        error -> bad(Key, Value, "must be a binary or a string")
    end.

option({_, Nothing}, Spec) when Nothing =:= undefined; Nothing =:= nil ->
    Spec;
option({Key, Value}, Spec) when Key =:= cd; Key =:= cwd ->
    Spec#{cd => text(Key, Value)};
option({env, {replace, Env}}, Spec) ->
    Spec#{env => {replace, variables(Env)}};
option({env, Env}, Spec) ->
    Spec#{env => {overlay, variables(Env)}};
option({arg0, Name}, Spec = #{argv := [Cmd | Args]}) ->
    Spec#{file => Cmd, argv => [text(arg0, Name) | Args]};
option({Key, Value}, Spec) when Key =:= stdin; Key =:= stdout; Key =:= stderr ->
    check(Key, Value, is_stdio(Key, Value)),
    Spec#{Key => Value};
option({fds, Value}, Spec) ->
    IsPair = fun
        ({Fd, Target}) -> is_integer(Fd) andalso Fd >= 0 andalso is_integer(Target) andalso Target > 2;
        (_) -> false
    end,
    check(fds, Value, is_proper(Value) andalso lists:all(IsPair, Value)),
    Spec#{fds => Value};
option({pipe_size, Value}, Spec) ->
    check(pipe_size, Value, is_in(1, Value, 16#7fffffff)),
    Spec#{pipe_size => Value};
option({echo, Value}, Spec) ->
    check(echo, Value, is_boolean(Value)),
    flag(pty_noecho, not Value, Spec);
option({Key, Value}, Spec) when
    Key =:= pty;
    Key =:= session;
    Key =:= linger;
    Key =:= own_shepherd;
    Key =:= pid_namespace;
    Key =:= no_new_privs
->
    check(Key, Value, is_boolean(Value)),
    flag(Key, Value, Spec);
option({Key, Value}, Spec) when Key =:= rows; Key =:= cols ->
    check(Key, Value, is_in(1, Value, 65535)),
    Spec#{Key => Value};
option({timeout, infinity}, Spec) ->
    Spec;
option({timeout, Value}, Spec) ->
    check(timeout, Value, is_in(1, Value, 1 bsl 53)),
    Spec#{timeout => Value};
option({Key, Value}, Spec) when Key =:= kill_timeout; Key =:= delay_to_sigkill ->
    check(Key, Value, is_in(0, Value, 1 bsl 53)),
    %% The library's 0 is its default, and -1 is no grace at all.
    Spec#{kill_timeout => if Value =:= 0 -> -1; true -> Value end};
option({output_limit, Value}, Spec) ->
    check(output_limit, Value, is_in(1, Value, 1 bsl 63)),
    Spec#{output_limit => Value};
option({Key, Value}, Spec) when Key =:= uid; Key =:= gid ->
    check(Key, Value, is_id(Value) orelse is_binary(Value) orelse is_list(Value)),
    Spec#{Key => if is_integer(Value) -> Value; true -> text(Key, Value) end};
option({groups, Value}, Spec) ->
    check(groups, Value, is_proper(Value)),
    Group = fun
        (Id) when is_integer(Id) ->
            check(groups, Id, is_id(Id)),
            Id;
        (Name) ->
            text(groups, Name)
    end,
    Spec#{groups => lists:map(Group, Value)};
option({umask, Value}, Spec) ->
    check(umask, Value, is_in(0, Value, 8#777)),
    Spec#{umask => Value};
option({nice, Value}, Spec) ->
    check(nice, Value, is_in(-20, Value, 19)),
    Spec#{nice => Value};
option({rlimits, Value}, Spec) ->
    check(rlimits, Value, is_map(Value)),
    Spec#{rlimits => [rlimit(Name, Limit) || {Name, Limit} <- maps:to_list(Value)]};
option({Key, Value}, Spec) when Key =:= cgroup_base; Key =:= cgroup_path ->
    Path = text(Key, Value),
    case Path of
        <<$/, _/binary>> ->
            throw({invalid, {invalid_cgroup_path, <<"must be relative, got: ", Path/binary>>}});
        _ ->
            case lists:member(<<"..">>, binary:split(Path, <<"/">>, [global])) of
                true ->
                    throw(
                        {invalid,
                            {invalid_cgroup_path, <<"cannot contain '..', got: ", Path/binary>>}}
                    );
                false ->
                    Spec#{Key => Path}
            end
    end;
option({cgroup, Value}, Spec) ->
    check(cgroup, Value, is_map(Value)),
    case netrunner_cgroup:settings(Value) of
        {ok, []} -> Spec;
        {ok, Lines} -> Spec#{cgroup_set => Lines};
        {error, {unknown, Key}} -> bad(cgroup, Key, "unknown cgroup config field");
        {error, {invalid, Key, Bad}} -> bad(Key, Bad, "invalid value of a cgroup config field")
    end;
option({shepherd, Value}, Spec) ->
    Spec#{shepherd => text(shepherd, Value)};
option({Key, Value}, _) ->
    bad(Key, Value, "unknown option").

flag(Flag, true, Spec) ->
    Spec#{flags => [Flag | maps:get(flags, Spec, [])]};
flag(Flag, false, Spec) ->
    Spec#{flags => lists:delete(Flag, maps:get(flags, Spec, []))}.

is_stdio(_, {fd, Fd}) -> is_in(0, Fd, 16#7fffffff);
is_stdio(stderr, stdout) -> true;
is_stdio(_, Mode) -> lists:member(Mode, [pipe, null, inherit]).

is_in(Low, Value, High) ->
    is_integer(Value) andalso Value >= Low andalso Value =< High.

is_id(Value) ->
    is_in(0, Value, 16#fffffffe).

is_proper(List) ->
    is_list(List) andalso length_or_error(List) =/= error.

length_or_error(List) ->
    try
        length(List)
    catch
        error:badarg -> error
    end.

rlimit(Name, {Soft, Hard}) ->
    check(rlimits, {Name, {Soft, Hard}}, is_limit(Soft) andalso is_limit(Hard)),
    Names = [as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile] ++
        [nproc, rss, rtprio, rttime, sigpending, stack],
    check(rlimits, Name, lists:member(Name, Names)),
    {Name, Soft, Hard};
rlimit(Name, Limit) ->
    rlimit(Name, {Limit, Limit}).

is_limit(infinity) -> true;
is_limit(Value) -> is_in(0, Value, 16#ffffffffffffffff).

%% Options that depend on each other.
finish(#{cgroup_base := Base, cgroup_path := _}) ->
    bad(cgroup_base, Base, "cannot be given together with cgroup_path");
finish(#{cgroup_set := Set} = Spec) when
    not is_map_key(cgroup_base, Spec), not is_map_key(cgroup_path, Spec)
->
    bad(cgroup, Set, "requires a :cgroup_path or :cgroup_base");
finish(Spec) ->
    users(terminal(Spec)).

%% With a terminal, streams that the options don't mention are the terminal's.
terminal(Spec) ->
    Terminal = lists:member(pty, maps:get(flags, Spec, [])),
    maps:fold(
        fun
            (_, {default, _}, Acc) when Terminal -> Acc;
            (Key, {default, Mode}, Acc) -> Acc#{Key => Mode};
            (Key, Value, Acc) -> Acc#{Key => Value}
        end,
        #{},
        Spec
    ).

%% A user by name runs with that user's groups, unless they are given.
users(#{uid := Name} = Spec) when is_binary(Name) ->
    case netrunner_nif:user(Name) of
        {ok, {Uid, Gid, Groups}} ->
            users(maps:merge(#{gid => Gid, groups => Groups}, Spec#{uid := Uid}));
        {error, _} ->
            bad(uid, Name, "no such user")
    end;
users(#{gid := Name} = Spec) when is_binary(Name) ->
    users(Spec#{gid := group(gid, Name)});
users(#{groups := Groups} = Spec) ->
    Id = fun
        (Group) when is_integer(Group) -> Group;
        (Name) -> group(groups, Name)
    end,
    Spec#{groups := lists:map(Id, Groups)};
users(Spec) ->
    Spec.

group(Key, Name) ->
    case netrunner_nif:group(Name) of
        {ok, Gid} -> Gid;
        {error, _} -> bad(Key, Name, "no such group")
    end.

%% The environment

variables(Env) when is_map(Env) ->
    variables(maps:to_list(Env));
variables(Env) ->
    check(env, Env, is_proper(Env)),
    lists:map(fun variable/1, Env).

variable({Name, Value} = Pair) ->
    case text(Name) of
        {ok, Text} when Text =/= <<>> ->
            case binary:match(Text, <<"=">>) of
                nomatch -> {Text, value(Pair, Value)};
                _ -> bad(env, Pair, "invalid variable name")
            end;
        _ ->
            bad(env, Pair, "invalid variable name")
    end;
variable(Other) ->
    bad(env, Other, "not a variable").

value(_, Nothing) when Nothing =:= undefined; Nothing =:= nil; Nothing =:= false ->
    undefined;
value(Pair, Value) ->
    case text(Value) of
        {ok, Text} -> Text;
        _ -> bad(env, Pair, "invalid value of a variable")
    end.

%% The emulator's environment is not the C library's: os:putenv() does not
%% change that.
environment(#{env := {replace, Variables}}) ->
    lines(maps:from_list(Variables));
environment(#{env := {overlay, Variables}}) ->
    Changed = maps:from_list(Variables),
    inherited(Changed) ++ lines(Changed);
environment(#{}) ->
    inherited(#{}).

inherited(Changed) ->
    Encoding = file:native_name_encoding(),
    Names = [unicode:characters_to_binary(Name, unicode, Encoding) || {Name, _} <- os:env()],
    netrunner_nif:environment([Name || Name <- Names, not is_map_key(Name, Changed)]).

lines(Variables) ->
    [<<Name/binary, $=, Value/binary>> || {Name, Value} <- maps:to_list(Variables), Value =/= undefined].
