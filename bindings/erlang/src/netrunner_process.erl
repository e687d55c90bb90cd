%% SPDX-License-Identifier: Apache-2.0
%%
%% @doc A process for a program: any number of processes may read, write, signal
%% and wait.
%%
%% ```
%% {ok, Cat} = netrunner_process:start(["cat"]),
%% ok = netrunner_process:write(Cat, "hello"),
%% {ok, <<"hello">>} = netrunner_process:read(Cat),
%% ok = netrunner_process:close_stdin(Cat),
%% eof = netrunner_process:read(Cat),
%% {ok, 0} = netrunner_process:await_exit(Cat),
%% ok = netrunner_process:stop(Cat).
%% '''
%%
%% Nothing is read before somebody asks for it: a program that nobody reads waits
%% when its pipe is full. Of those who read one stream at the same time the first
%% one is served first; of those who write, one after the other, each completely.
%% Output that was written before the program ended can be read after it.
%%
%% The process lives on when the program has ended, until {@link stop/1}. The
%% program does not outlive the process: it is stopped (SIGTERM, grace, SIGKILL)
%% with all that it has started.
-module(netrunner_process).
-behaviour(gen_server).

-export([start/1, start/2, start_link/1, start_link/2]).
-export([read/1, read/2, read_stderr/1, read_stderr/2, read_any/1, read_any/2]).
-export([read_batch/1, read_batch/3, read_stderr_batch/1, read_stderr_batch/3]).
-export([write/2, close_stdin/1, close/2, stderr_tail/1]).
-export([kill/1, kill/2, terminate_program/1, shutdown/3, stop/1]).
-export([await_exit/1, await_exit/2, await_outcome/1, await_outcome/2, outcome/1]).
-export([is_alive/1, os_pid/1, stats/1, set_window_size/3]).
-export([set_owner/2, set_pipe_owner/3]).
-export([cgroup_get/2, cgroup_set/3, cgroup_path/1]).
%% For the other modules of this application.
-export([outcome/4, await_start/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([option/0, outcome/0, server/0, stats/0]).

-type server() :: gen_server:server_ref().
-type option() ::
    netrunner_options:option()
    | {name, atom() | {local, atom()} | {global, term()} | {via, module(), term()}}
    | {owner, pid()}
    | {stderr,
        consume
        | disabled
        | pipe
        | redirect
        | stdout
        | null
        | console
        | inherit
        | {fd, non_neg_integer()}}
    | {stderr_tail_bytes, non_neg_integer()}.
-type outcome() :: netrunner_stream:outcome().
%% Times in nanoseconds since the start or used, sizes in bytes, undefined where
%% that is not known; started_at is in milliseconds of erlang:monotonic_time/1.
-type stats() :: #{
    started_at := integer(),
    status := 0..255 | undefined,
    stdin_bytes := non_neg_integer(),
    stdout_bytes := non_neg_integer(),
    stderr_bytes := non_neg_integer(),
    reads := non_neg_integer(),
    writes := non_neg_integer(),
    wall_ns := non_neg_integer(),
    atom() => non_neg_integer() | undefined
}.

-define(READ, 65535).
-define(BATCH, 16).
-define(TAIL, 8192).
%% How much of stderr is consumed before others have their turn.
-define(CONSUME, 16).
%% How long terminate/2 waits beyond the grace that the program has.
-define(PATIENCE, 2000).

-type output() :: stdout | stderr.
-record(reader, {
    from :: gen_server:from(),
    monitor :: reference(),
    outputs :: [output()],
    max :: pos_integer(),
    kind :: one | any | {batch, pos_integer()}
}).
-record(state, {
    program :: netrunner_nif:program(),
    os_pid :: pos_integer(),
    cgroup :: none | unknown | binary(),
    started_at :: integer(),
    grace :: non_neg_integer(),
    writer :: netrunner_writer:t(),
    consume :: boolean(),
    tail = <<>> :: binary(),
    tail_max :: non_neg_integer(),
    outcome :: undefined | outcome(),
    %% What has been selected for, and has not been ready since.
    waiting :: #{stdout | stderr | exit => reference()},
    outputs :: #{output() => open | eof | closed},
    readers = [] :: [#reader{}],
    exits = #{} :: #{gen_server:from() => reference() | undefined},
    owner :: {pid(), reference()} | undefined,
    pipe_owners = #{} :: #{reference() => netrunner_nif:stream()}
}).

%% Starting

%% @equiv start(Command, [])
-spec start(netrunner:command()) -> {ok, pid()} | {error, term()}.
start(Command) ->
    start(Command, []).

%% @doc Starts a program under a process that is not linked to the caller. It has
%% been executed when this returns; if that is not possible, the error says why.
%%
%% `stderr' is `consume' by default: it is always read, and its last
%% `stderr_tail_bytes' (8192) are kept for {@link stderr_tail/1}. With `pipe' (or
%% `disabled') it is yours to read, with `redirect' it goes to stdout, with `null'
%% nowhere, and with `console' where the node's goes.
%%
%% When the process `owner' dies the program is killed and this process stops.
-spec start(netrunner:command(), [option()]) -> {ok, pid()} | {error, term()}.
start(Command, Options) ->
    start(start, Command, Options).

%% @equiv start_link(Command, [])
-spec start_link(netrunner:command()) -> {ok, pid()} | {error, term()}.
start_link(Command) ->
    start_link(Command, []).

%% @doc Like {@link start/2}, linked.
-spec start_link(netrunner:command(), [option()]) -> {ok, pid()} | {error, term()}.
start_link(Command, Options) ->
    start(start_link, Command, Options).

start(Start, Command, Options) ->
    Own = #{
        name => undefined, owner => undefined, stderr => consume, stderr_tail_bytes => ?TAIL
    },
    {Mine, Others} = netrunner_options:split(Own, Options),
    #{name := Name, owner := Owner, stderr := Stderr, stderr_tail_bytes := Tail} = Mine,
    netrunner_options:check(stderr_tail_bytes, Tail, is_integer(Tail) andalso Tail >= 0),
    netrunner_options:check(owner, Owner, Owner =:= undefined orelse is_pid(Owner)),
    Defaults = #{
        stdin => {default, pipe}, stdout => {default, pipe}, stderr => stderr(Stderr)
    },
    case netrunner_options:spec(Command, Others, Defaults) of
        {ok, Spec} ->
            Args = {Spec, Stderr =:= consume, Tail, Owner},
            %% A process that does nothing keeps nothing on its heap.
            GenOptions = [{hibernate_after, 1000}],
            case server_name(Name) of
                none -> gen_server:Start(?MODULE, Args, GenOptions);
                ServerName -> gen_server:Start(ServerName, ?MODULE, Args, GenOptions)
            end;
        {error, _} = Error ->
            Error
    end.

server_name(undefined) -> none;
server_name(Name) when is_atom(Name) -> {local, Name};
server_name({local, Name} = Local) when is_atom(Name) -> Local;
server_name({global, _} = Global) -> Global;
server_name({via, Module, _} = Via) when is_atom(Module) -> Via;
server_name(Other) -> netrunner_options:bad(name, Other, "not a name").

stderr(consume) -> {default, pipe};
stderr(disabled) -> {default, pipe};
stderr(redirect) -> {default, stdout};
stderr(console) -> inherit;
stderr(Mode) when Mode =:= null; Mode =:= stdout; Mode =:= inherit; Mode =:= pipe -> Mode;
stderr({fd, Fd}) when is_integer(Fd), Fd >= 0, Fd =< 16#7fffffff -> {fd, Fd};
stderr(Other) -> netrunner_options:bad(stderr, Other, "not a value of this option").

%% Reading and writing

%% @equiv read(Server, 65535)
-spec read(server()) -> {ok, binary()} | eof | {error, term()}.
read(Server) ->
    read(Server, ?READ).

%% @doc Reads from stdout: what there is, at most Max bytes, and waits only if
%% there is nothing.
-spec read(server(), Max :: pos_integer()) -> {ok, binary()} | eof | {error, term()}.
read(Server, Max) when is_integer(Max), Max > 0 ->
    call(Server, {read, [stdout], Max, one}).

%% @equiv read_stderr(Server, 65535)
-spec read_stderr(server()) -> {ok, binary()} | eof | {error, term()}.
read_stderr(Server) ->
    read_stderr(Server, ?READ).

%% @doc Reads from stderr.
-spec read_stderr(server(), Max :: pos_integer()) -> {ok, binary()} | eof | {error, term()}.
read_stderr(Server, Max) when is_integer(Max), Max > 0 ->
    call(Server, {read, [stderr], Max, one}).

%% @equiv read_any(Server, 65535)
-spec read_any(server()) -> {ok, {stdout | stderr, binary()}} | eof | {error, term()}.
read_any(Server) ->
    read_any(Server, ?READ).

%% @doc Reads from stdout or stderr, whichever has something. `eof' is the end of
%% both.
-spec read_any(server(), Max :: pos_integer()) ->
    {ok, {stdout | stderr, binary()}} | eof | {error, term()}.
read_any(Server, Max) when is_integer(Max), Max > 0 ->
    call(Server, {read, [stdout, stderr], Max, any}).

%% @equiv read_batch(Server, 65535, 16)
-spec read_batch(server()) -> {ok, [binary(), ...]} | eof | {error, term()}.
read_batch(Server) ->
    read_batch(Server, ?READ, ?BATCH).

%% @doc Reads from stdout, up to Count times while there is something.
-spec read_batch(server(), Max :: pos_integer(), Count :: pos_integer()) ->
    {ok, [binary(), ...]} | eof | {error, term()}.
read_batch(Server, Max, Count) when is_integer(Max), Max > 0, is_integer(Count), Count > 0 ->
    call(Server, {read, [stdout], Max, {batch, Count}}).

%% @equiv read_stderr_batch(Server, 65535, 16)
-spec read_stderr_batch(server()) -> {ok, [binary(), ...]} | eof | {error, term()}.
read_stderr_batch(Server) ->
    read_stderr_batch(Server, ?READ, ?BATCH).

%% @doc Reads from stderr, up to Count times while there is something.
-spec read_stderr_batch(server(), Max :: pos_integer(), Count :: pos_integer()) ->
    {ok, [binary(), ...]} | eof | {error, term()}.
read_stderr_batch(Server, Max, Count) when
    is_integer(Max), Max > 0, is_integer(Count), Count > 0
->
    call(Server, {read, [stderr], Max, {batch, Count}}).

%% @doc Writes all of it to stdin, and waits while the program does not read.
%% `epipe' means that the program has closed it, `closed' that you have.
-spec write(server(), iodata()) -> ok | {error, closed | epipe | atom()}.
write(Server, Data) ->
    call(Server, {write, erlang:iolist_to_iovec(Data)}).

%% @doc Gives the program end of file. A terminal's end-of-file character is typed
%% after what is being written; `enotty' means that the program has the terminal
%% in raw mode.
-spec close_stdin(server()) -> ok | {error, atom()}.
close_stdin(Server) ->
    close(Server, stdin).

%% @doc Closes a stream: of stdout and stderr, nothing more is read.
-spec close(server(), stdin | stdout | stderr) -> ok | {error, atom()}.
close(Server, Stream) when Stream =:= stdin; Stream =:= stdout; Stream =:= stderr ->
    call(Server, {close, Stream}).

%% @doc The last of what has been consumed of stderr. It may begin in the middle of
%% a character.
-spec stderr_tail(server()) -> binary().
stderr_tail(Server) ->
    call(Server, stderr_tail).

%% Ending

%% @equiv kill(Server, sigterm)
-spec kill(server()) -> ok | {error, not_running | unknown_signal | atom()}.
kill(Server) ->
    kill(Server, sigterm).

%% @doc Sends a signal to the program's process group (or cgroup, if it has one).
-spec kill(server(), netrunner_signal:signal()) ->
    ok | {error, not_running | unknown_signal | atom()}.
kill(Server, Signal) ->
    case netrunner_signal:number(Signal) of
        {ok, Number} -> call(Server, {kill, Number});
        {error, _} = Error -> Error
    end.

%% @doc Begins to end the program and all that it has started: SIGTERM,
%% `kill_timeout', SIGKILL. Does not wait.
-spec terminate_program(server()) -> ok.
terminate_program(Server) ->
    call(Server, terminate).

%% @doc SIGTERM, and SIGKILL if the program has not ended within TermTimeout
%% milliseconds. Then waits KillTimeout at most. `timeout' also if there is no
%% such process.
-spec shutdown(server(), TermTimeout :: timeout(), KillTimeout :: timeout()) ->
    {ok, netrunner:status()} | {error, term()} | timeout.
shutdown(Server, TermTimeout, KillTimeout) ->
    try
        _ = kill(Server, sigterm),
        case wait(Server, TermTimeout) of
            timeout ->
                _ = kill(Server, sigkill),
                wait(Server, KillTimeout);
            Ended ->
                Ended
        end
    catch
        exit:_ -> timeout
    end.

wait(Server, Timeout) ->
    try
        await_exit(Server, Timeout)
    catch
        exit:{timeout, _} -> timeout
    end.

%% @doc Stops the process, and the program if it runs, which is dead when this
%% returns.
-spec stop(server()) -> ok.
stop(Server) ->
    gen_server:stop(Server).

%% @equiv await_exit(Server, infinity)
-spec await_exit(server()) -> {ok, netrunner:status()} | {error, term()}.
await_exit(Server) ->
    await_exit(Server, infinity).

%% @doc Waits until the program and all that it has started is dead, and returns
%% its exit code, or 128 and the signal. After Timeout it exits as
%% gen_server:call/3 does.
-spec await_exit(server(), timeout()) -> {ok, netrunner:status()} | {error, term()}.
await_exit(Server, Timeout) ->
    case await_outcome(Server, Timeout) of
        {ok, #{status := Status}} -> {ok, Status};
        {error, _} = Error -> Error
    end.

%% @equiv await_outcome(Server, infinity)
-spec await_outcome(server()) -> {ok, outcome()} | {error, term()}.
await_outcome(Server) ->
    await_outcome(Server, infinity).

%% @doc Like {@link await_exit/2}, with all that is known of the end.
-spec await_outcome(server(), timeout()) -> {ok, outcome()} | {error, term()}.
await_outcome(Server, Timeout) ->
    gen_server:call(Server, {await, Timeout}, Timeout).

%% @doc How the program ended, or undefined while it runs.
-spec outcome(server()) -> undefined | outcome().
outcome(Server) ->
    call(Server, outcome).

%% Looking

%% @doc Whether the program runs.
-spec is_alive(server()) -> boolean().
is_alive(Server) ->
    call(Server, outcome) =:= undefined.

%% @doc The program's process id. After its end it may be another's.
-spec os_pid(server()) -> pos_integer().
os_pid(Server) ->
    call(Server, os_pid).

%% @doc What the program has read, written and used.
-spec stats(server()) -> stats().
stats(Server) ->
    call(Server, stats).

%% @doc Resizes the program's terminal.
-spec set_window_size(server(), Rows :: 0..65535, Columns :: 0..65535) ->
    ok | {error, enotty | atom()}.
set_window_size(Server, Rows, Columns) when
    is_integer(Rows), Rows >= 0, Rows =< 65535, is_integer(Columns), Columns >= 0, Columns =< 65535
->
    call(Server, {winsize, Rows, Columns}).

%% @doc Makes another process, or none, the one with which the program dies.
-spec set_owner(server(), pid() | undefined) -> ok.
set_owner(Server, Owner) when is_pid(Owner); Owner =:= undefined ->
    call(Server, {owner, Owner}).

%% @doc Has a stream closed when a process dies.
-spec set_pipe_owner(server(), stdin | stdout | stderr, pid()) -> ok.
set_pipe_owner(Server, Stream, Owner) when
    is_pid(Owner), (Stream =:= stdin orelse Stream =:= stdout orelse Stream =:= stderr)
->
    call(Server, {pipe_owner, Stream, Owner}).

%% @doc Reads a file of the program's cgroup, such as `memory.peak'.
-spec cgroup_get(server(), unicode:chardata()) -> {ok, binary()} | {error, no_cgroup | atom()}.
cgroup_get(Server, File) ->
    call(Server, {cgroup_get, unicode:characters_to_binary(File)}).

%% @doc Writes a file of the program's cgroup.
-spec cgroup_set(server(), unicode:chardata(), unicode:chardata()) ->
    ok | {error, no_cgroup | atom()}.
cgroup_set(Server, File, Value) ->
    call(
        Server,
        {cgroup_set, unicode:characters_to_binary(File), unicode:characters_to_binary(Value)}
    ).

%% @doc The program's cgroup, below the mount point of cgroup v2. It is not known of a
%% program with `cgroup_base' that had ended before anybody could look.
-spec cgroup_path(server()) -> binary() | undefined.
cgroup_path(Server) ->
    call(Server, cgroup_path).

call(Server, Request) ->
    gen_server:call(Server, Request, infinity).

%% For the other modules

%% @private
-spec outcome(-1..255, -1..64, atom(), 0..1) -> outcome().
outcome(Code, -1, Reason, Core) ->
    #{status => Code, code => Code, signal => undefined, reason => Reason, core => Core =:= 1};
outcome(_, Signal, Reason, Core) ->
    Status = 128 + Signal,
    #{status => Status, code => undefined, signal => Signal, reason => Reason, core => Core =:= 1}.

%% @private
%% Waits until a program has been executed. What is selected then, or how it has
%% already ended, is for the caller to go on with.
-spec await_start(netrunner_nif:program()) ->
    {ok, pos_integer(), reference() | outcome()} | {error, netrunner_nif:failure()}.
await_start(Program) ->
    case {netrunner_nif:wait(Program), netrunner_nif:pid(Program)} of
        {{select, Ref}, {ok, Pid}} ->
            {ok, Pid, Ref};
        {{select, Ref}, {error, _}} ->
            receive
                {select, Program, Ref, _} -> await_start(Program)
            end;
        {{exit, Code, Signal, Reason, Core}, {ok, Pid}} ->
            {ok, Pid, outcome(Code, Signal, Reason, Core)};
        {{error, _} = Error, _} ->
            Error
    end.

%% The server

%% @private
init({Spec, Consume, TailMax, Owner}) ->
    process_flag(trap_exit, true),
    case netrunner_nif:spawn_program(Spec, self()) of
        {ok, Program} ->
            case await_start(Program) of
                {ok, OsPid, Exit} ->
                    State = state(Spec, Program, OsPid, Exit, Consume, TailMax, Owner),
                    %% The environment is no longer needed.
                    {ok, serve(State), hibernate};
                {error, Reason} ->
                    {stop, Reason}
            end;
        {error, Reason} ->
            {stop, Reason}
    end.

state(Spec, Program, OsPid, Exit, Consume, TailMax, Owner) ->
    Terminal = lists:member(pty, maps:get(flags, Spec, [])),
    Stdout = maps:get(stdout, Spec, terminal),
    {Waiting, Outcome} =
        case Exit of
            #{} -> {#{}, Exit};
            Ref -> {#{exit => Ref}, undefined}
        end,
    #state{
        program = Program,
        os_pid = OsPid,
        cgroup = netrunner_cgroup:of_program(Spec, OsPid),
        started_at = erlang:monotonic_time(millisecond),
        grace = netrunner_options:kill_timeout(Spec),
        writer = netrunner_writer:new(Program, Terminal),
        consume = Consume andalso maps:get(stderr, Spec, none) =:= pipe,
        tail_max = TailMax,
        outcome = Outcome,
        waiting = Waiting,
        outputs = maps:from_list(
            [{stdout, open} || Stdout =:= pipe orelse Stdout =:= terminal] ++
                [{stderr, open} || maps:get(stderr, Spec, none) =:= pipe]
        ),
        owner =
            case Owner of
                undefined -> undefined;
                Pid -> {Pid, monitor(process, Pid)}
            end
    }.

%% @private
handle_call({read, Outputs, Max, Kind}, {Pid, _} = From, State) ->
    Reader = #reader{
        from = From, monitor = monitor(process, Pid), outputs = Outputs, max = Max, kind = Kind
    },
    {noreply, serve(State#state{readers = State#state.readers ++ [Reader]})};
handle_call({write, Data}, From, #state{writer = Writer} = State) ->
    {noreply, State#state{writer = netrunner_writer:write(From, Data, Writer)}};
handle_call({close, stdin}, From, #state{writer = Writer} = State) ->
    {noreply, State#state{writer = netrunner_writer:close(From, Writer)}};
handle_call({close, Output}, _, State) ->
    {Result, New} = close_output(Output, State),
    {reply, Result, New};
handle_call(stderr_tail, _, State) ->
    {reply, State#state.tail, State};
handle_call({kill, Number}, _, #state{outcome = undefined} = State) ->
    case netrunner_nif:kill(State#state.program, Number) of
        {error, esrch} -> {reply, {error, not_running}, State};
        {error, einval} -> {reply, {error, unknown_signal}, State};
        Result -> {reply, Result, State}
    end;
handle_call({kill, _}, _, State) ->
    {reply, {error, not_running}, State};
handle_call(terminate, _, State) ->
    {reply, netrunner_nif:stop(State#state.program), State};
handle_call({await, Timeout}, From, #state{outcome = undefined, exits = Exits} = State) ->
    %% Who has stopped to wait is forgotten.
    Timer =
        case Timeout of
            infinity -> undefined;
            _ -> erlang:start_timer(Timeout, self(), {await, From})
        end,
    {noreply, State#state{exits = Exits#{From => Timer}}};
handle_call({await, _}, _, State) ->
    {reply, ended(State), State};
handle_call(outcome, _, State) ->
    {reply, State#state.outcome, State};
handle_call(os_pid, _, State) ->
    {reply, State#state.os_pid, State};
handle_call(stats, _, #state{outcome = Outcome, started_at = StartedAt} = State) ->
    {ok, Stats} = netrunner_nif:stats(State#state.program),
    Status =
        case Outcome of
            #{status := S} -> S;
            _ -> undefined
        end,
    {reply, Stats#{status => Status, started_at => StartedAt}, State};
handle_call({winsize, Rows, Columns}, _, State) ->
    {reply, netrunner_nif:winsize(State#state.program, Rows, Columns), State};
handle_call({owner, Owner}, _, #state{owner = Old} = State) ->
    _ = Old =/= undefined andalso demonitor(element(2, Old), [flush]),
    New =
        case Owner of
            undefined -> undefined;
            Pid -> {Pid, monitor(process, Pid)}
        end,
    {reply, ok, State#state{owner = New}};
handle_call({pipe_owner, Stream, Owner}, _, #state{pipe_owners = Owners} = State) ->
    Others = maps:filter(
        fun(Monitor, S) -> S =/= Stream orelse (demonitor(Monitor, [flush]) andalso false) end,
        Owners
    ),
    {reply, ok, State#state{pipe_owners = Others#{monitor(process, Owner) => Stream}}};
handle_call({cgroup_get, _}, _, #state{cgroup = none} = State) ->
    {reply, {error, no_cgroup}, State};
handle_call({cgroup_get, File}, _, State) when is_binary(File) ->
    {reply, netrunner_nif:cgroup_get(State#state.program, File), State};
handle_call({cgroup_set, _, _}, _, #state{cgroup = none} = State) ->
    {reply, {error, no_cgroup}, State};
handle_call({cgroup_set, File, Value}, _, State) when is_binary(File), is_binary(Value) ->
    {reply, netrunner_nif:cgroup_set(State#state.program, File, Value), State};
handle_call(cgroup_path, _, #state{cgroup = Path} = State) when is_binary(Path) ->
    {reply, Path, State};
handle_call(cgroup_path, _, State) ->
    {reply, undefined, State};
handle_call(_, _, State) ->
    {reply, {error, badarg}, State}.

%% @private
handle_cast(_, State) ->
    {noreply, State}.

%% @private
handle_info({select, Program, Ref, _}, #state{program = Program, waiting = Waiting} = State) ->
    case [What || {What, R} <- maps:to_list(Waiting), R =:= Ref] of
        [exit] ->
            {noreply, exited(State#state{waiting = maps:remove(exit, Waiting)})};
        [Output] ->
            {noreply, serve(State#state{waiting = maps:remove(Output, Waiting)})};
        [] ->
            case netrunner_writer:ready(Ref, State#state.writer) of
                {ok, Writer} -> {noreply, State#state{writer = Writer}};
                error -> {noreply, State}
            end
    end;
handle_info(consume, State) ->
    {noreply, serve(State)};
handle_info({timeout, _, {await, From}}, #state{exits = Exits} = State) ->
    {noreply, State#state{exits = maps:remove(From, Exits)}};
handle_info({'DOWN', Monitor, process, _, _}, #state{owner = {_, Monitor}} = State) ->
    _ = netrunner_nif:kill(State#state.program, 9),
    {stop, normal, State};
handle_info({'DOWN', Monitor, process, _, _}, #state{pipe_owners = Owners} = State) when
    is_map_key(Monitor, Owners)
->
    {Stream, Others} = maps:take(Monitor, Owners),
    {noreply, owner_down(Stream, State#state{pipe_owners = Others})};
handle_info({'DOWN', Monitor, process, _, _}, #state{readers = Readers} = State) ->
    {noreply, State#state{
        readers = [R || R <- Readers, R#reader.monitor =/= Monitor],
        writer = netrunner_writer:down(Monitor, State#state.writer)
    }};
handle_info({'EXIT', _, normal}, State) ->
    {noreply, State};
handle_info({'EXIT', _, Reason}, State) ->
    {stop, Reason, State};
handle_info(_, State) ->
    {noreply, State}.

owner_down(stdin, #state{writer = Writer} = State) ->
    State#state{writer = netrunner_writer:close(Writer)};
owner_down(Output, State) ->
    {_, New} = close_output(Output, State),
    New.

%% @private
terminate(_, #state{program = Program, owner = Owner} = State) ->
    _ =
        case Owner of
            {Pid, _} when node(Pid) =:= node() ->
                %% Whether it is its link or its monitor that brings us here.
                is_process_alive(Pid) orelse netrunner_nif:kill(Program, 9);
            _ ->
                ok
        end,
    _ = netrunner_nif:stop(Program),
    die(State),
    _ = netrunner_nif:release(Program),
    ok.

%% The program has its grace. If that was not enough the shepherd goes on alone.
die(#state{outcome = undefined, program = Program, waiting = Waiting} = State) ->
    Ref =
        case Waiting of
            #{exit := R} -> R;
            #{} -> undefined
        end,
    receive
        {select, Program, Ref, _} ->
            New = exited(State#state{waiting = maps:remove(exit, Waiting)}),
            die(New)
    after State#state.grace + ?PATIENCE -> ok
    end;
die(_) ->
    ok.

%% The program's end

exited(#state{program = Program, waiting = Waiting} = State) ->
    case netrunner_nif:wait(Program) of
        {select, Ref} ->
            State#state{waiting = Waiting#{exit => Ref}};
        {exit, Code, Signal, Reason, Core} ->
            told(State#state{outcome = outcome(Code, Signal, Reason, Core)});
        {error, {eownerdead, _}} ->
            %% The shepherd was killed, and the program with it.
            told(State#state{outcome = outcome(-1, 9, unknown, 0)})
    end.

%% Before anybody hears of the end, its last words are consumed.
told(State0) ->
    State = consume_all(serve(State0)),
    Result = ended(State),
    maps:foreach(
        fun(From, Timer) ->
            _ = Timer =/= undefined andalso erlang:cancel_timer(Timer),
            gen_server:reply(From, Result)
        end,
        State#state.exits
    ),
    State#state{exits = #{}}.

ended(#state{outcome = Outcome}) ->
    {ok, Outcome}.

%% Streams

close_output(Output, #state{outputs = Outputs} = State) ->
    case netrunner_nif:close(State#state.program, Output) of
        ok ->
            {ok,
                serve(State#state{
                    outputs = Outputs#{Output => closed},
                    waiting = maps:remove(Output, State#state.waiting)
                })};
        {error, _} = Error ->
            {Error, State}
    end.

%% serve gives the readers what there is, the first one first, and then consumes
%% stderr.
serve(#state{readers = []} = State) ->
    consume(State, ?CONSUME);
serve(#state{readers = Readers} = State0) ->
    {Left, State} = lists:foldl(
        fun(Reader, {Waiting, Acc}) ->
            case read_for(Reader, Reader#reader.outputs, Acc) of
                {wait, New} ->
                    {[Reader | Waiting], New};
                {Answer, New} ->
                    demonitor(Reader#reader.monitor, [flush]),
                    gen_server:reply(Reader#reader.from, Answer),
                    {Waiting, New}
            end
        end,
        {[], State0#state{readers = []}},
        Readers
    ),
    consume(State#state{readers = lists:reverse(Left)}, ?CONSUME).

%% Nothing there: the end of all of them, or something may come.
read_for(#reader{outputs = Outputs}, [], State) ->
    case [O || O <- Outputs, maps:get(O, State#state.outputs, none) =:= open] of
        [] -> {at_end(Outputs, State), State};
        _ -> {wait, State}
    end;
read_for(#reader{max = Max, kind = Kind} = Reader, [Output | Others], State) ->
    case read_output(Output, Max, State) of
        {{ok, Data}, New} when Kind =:= one -> {{ok, Data}, New};
        {{ok, Data}, New} when Kind =:= any -> {{ok, {Output, Data}}, New};
        {{ok, Data}, New} -> read_more(Output, Max, element(2, Kind) - 1, [Data], New);
        {none, New} -> read_for(Reader, Others, New);
        {{error, _} = Error, New} -> {Error, New}
    end.

read_more(_, _, 0, Chunks, State) ->
    {{ok, lists:reverse(Chunks)}, State};
read_more(Output, Max, Count, Chunks, State) ->
    case read_output(Output, Max, State) of
        {{ok, Data}, New} -> read_more(Output, Max, Count - 1, [Data | Chunks], New);
        {_, New} -> {{ok, lists:reverse(Chunks)}, New}
    end.

at_end(Wanted, #state{outputs = Outputs}) ->
    case lists:member(eof, [maps:get(O, Outputs, none) || O <- Wanted]) of
        true -> eof;
        false -> {error, closed}
    end.

read_output(Output, _, #state{waiting = Waiting} = State) when is_map_key(Output, Waiting) ->
    {none, State};
read_output(Output, Max, #state{program = Program, outputs = Outputs} = State) ->
    case Outputs of
        #{Output := open} ->
            case netrunner_nif:read(Program, Output, Max) of
                {ok, _} = Data -> {Data, State};
                eof -> {none, State#state{outputs = Outputs#{Output := eof}}};
                {select, Ref} -> {none, waits(Output, Ref, State)};
                {error, _} = Error -> {Error, State}
            end;
        #{} ->
            {none, State}
    end.

consume(#state{consume = true, readers = Readers} = State, Left) ->
    %% Somebody who wants to read it comes first.
    case lists:any(fun(R) -> lists:member(stderr, R#reader.outputs) end, Readers) of
        true -> State;
        false -> consume_some(State, Left)
    end;
consume(State, _) ->
    State.

consume_some(State, 0) ->
    self() ! consume,
    State;
consume_some(State, Left) ->
    case read_output(stderr, 65536, State) of
        {{ok, Data}, New} -> consume_some(keep(Data, New), Left - 1);
        {_, New} -> New
    end.

%% After the end there is no more than what the pipe holds. Nobody needs to be
%% told of more.
consume_all(#state{consume = true, waiting = Waiting} = State) ->
    case read_output(stderr, 65536, State#state{waiting = maps:remove(stderr, Waiting)}) of
        {{ok, Data}, New} -> consume_all(keep(Data, New));
        {_, New} -> New
    end;
consume_all(State) ->
    State.

keep(Data, #state{tail = Tail, tail_max = Max} = State) ->
    All = <<Tail/binary, Data/binary>>,
    Kept =
        case byte_size(All) - Max of
            Excess when Excess > 0 -> binary:copy(binary:part(All, Excess, Max));
            _ -> All
        end,
    State#state{tail = Kept}.

waits(What, Ref, #state{waiting = Waiting} = State) ->
    State#state{waiting = Waiting#{What => Ref}}.
