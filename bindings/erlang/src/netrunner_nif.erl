%% SPDX-License-Identifier: Apache-2.0
%%
%% The calls of the NIF, see c_src/netrunner_nif.c. No call blocks. Where one
%% returns {select, Ref}, the calling process gets {select, Program, Ref, _}
%% when it is worth to try again. The interface for users is netrunner,
%% netrunner_process and netrunner_daemon.
-module(netrunner_nif).

-export([
    spawn_program/2,
    read/3,
    collect/3,
    take/2,
    write/2,
    close/2,
    wait/1,
    unselect/1,
    pid/1,
    kill/2,
    stop/1,
    winsize/3,
    stats/1,
    cgroup_get/2,
    cgroup_set/3,
    release/1,
    set_owner/2,
    user/1,
    group/1,
    environment/1,
    signals/0,
    version/0
]).
-export_type([program/0, stream/0, spec/0, posix/0, failure/0]).

-on_load(load/0).
-nifs([
    spawn_program/2,
    read/3,
    collect/3,
    take/2,
    write/2,
    close/2,
    wait/1,
    unselect/1,
    pid/1,
    kill/2,
    stop/1,
    winsize/3,
    stats/1,
    cgroup_get/2,
    cgroup_set/3,
    release/1,
    set_owner/2,
    user/1,
    group/1,
    environment/1,
    signals/0,
    version/0
]).

-opaque program() :: reference().
-type stream() :: stdin | stdout | stderr.
-type posix() :: atom().
-type failure() :: {posix(), Why :: binary()}.
%% What spawn_program/2 reads; netrunner_options makes it.
-type spec() :: #{atom() => term()}.

load() ->
    Name = "netrunner_nif",
    Dir =
        case code:priv_dir(netrunner) of
            {error, bad_name} ->
                filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
            Priv ->
                Priv
        end,
    erlang:load_nif(filename:join(Dir, Name), 0).

%% Does not wait until the program has been executed. Owner's death releases it.
-spec spawn_program(spec(), Owner :: pid()) -> {ok, program()} | {error, failure()}.
spawn_program(_Spec, _Owner) -> not_loaded().

-spec read(program(), stdout | stderr, Max :: pos_integer()) ->
    {ok, binary()} | eof | {select, reference()} | {error, posix()}.
read(_Program, _Stream, _Max) -> not_loaded().

%% Reads into a binary that take/2 returns. more: that was enough for one call. full:
%% there is more than Max.
-spec collect(program(), stdout | stderr, Max :: non_neg_integer()) ->
    more | eof | full | {select, reference()} | {error, posix()}.
collect(_Program, _Stream, _Max) -> not_loaded().

-spec take(program(), Max :: non_neg_integer()) -> binary().
take(_Program, _Max) -> not_loaded().

%% {more, Rest}: that was enough for one call.
-spec write(program(), [binary()]) ->
    ok | {more, [binary()]} | {select, reference(), [binary()]} | {error, posix()}.
write(_Program, _Data) -> not_loaded().

%% {select, Ref}: a terminal's input is full, close it later.
-spec close(program(), stream()) -> ok | {select, reference()} | {error, posix()}.
close(_Program, _Stream) -> not_loaded().

-spec wait(program()) ->
    {exit, Code :: -1..255, Signal :: -1..64, Reason :: atom(), Core :: 0..1}
    | {select, reference()}
    | {error, failure()}.
wait(_Program) -> not_loaded().

%% Nobody is told any more, and what has been told is in the mailbox. A program that
%% nobody selects for is released when nobody refers to it.
-spec unselect(program()) -> ok | again.
unselect(_Program) -> not_loaded().

-spec pid(program()) -> {ok, pos_integer()} | {error, posix()}.
pid(_Program) -> not_loaded().

-spec kill(program(), 0..64) -> ok | {error, posix()}.
kill(_Program, _Signal) -> not_loaded().

-spec stop(program()) -> ok | {error, posix()}.
stop(_Program) -> not_loaded().

-spec winsize(program(), 0..65535, 0..65535) -> ok | {error, posix()}.
winsize(_Program, _Rows, _Columns) -> not_loaded().

-spec stats(program()) ->
    {ok, #{atom() => non_neg_integer() | undefined}} | {error, posix()}.
stats(_Program) -> not_loaded().

-spec cgroup_get(program(), binary()) -> {ok, binary()} | {error, posix()}.
cgroup_get(_Program, _File) -> not_loaded().

-spec cgroup_set(program(), binary(), binary()) -> ok | {error, posix()}.
cgroup_set(_Program, _File, _Value) -> not_loaded().

-spec release(program()) -> ok.
release(_Program) -> not_loaded().

-spec set_owner(program(), pid()) -> ok | {error, posix()}.
set_owner(_Program, _Pid) -> not_loaded().

-spec user(binary()) -> {ok, {Uid, Gid, Groups :: [Gid]}} | {error, posix()} when
    Uid :: non_neg_integer(), Gid :: non_neg_integer().
user(_Name) -> not_loaded().

-spec group(binary()) -> {ok, Gid :: non_neg_integer()} | {error, posix()}.
group(_Name) -> not_loaded().

-spec environment([Name :: binary()]) -> [binary()] | {error, posix()}.
environment(_Names) -> not_loaded().

-spec signals() -> #{atom() => pos_integer()}.
signals() -> not_loaded().

-spec version() -> binary().
version() -> not_loaded().

-spec not_loaded() -> term().
not_loaded() -> erlang:nif_error(not_loaded).
