%% SPDX-License-Identifier: Apache-2.0
%%
%% @doc A program in a supervision tree.
%%
%% ```
%% #{id => redis,
%%   start => {netrunner_daemon, start_link,
%%             [["redis-server", "--port", "6380"], [{output, {log, info}}]]},
%%   shutdown => 6000}
%% '''
%%
%% The daemon stops when its program ends, and its supervisor restarts it or does
%% not: the reason is `normal' for status 0, else what `exit_status_to_reason'
%% makes of the status, `error_exit_status' by default. When the supervisor stops
%% the daemon the program gets SIGTERM, and SIGKILL after `kill_timeout' (4000 ms
%% here, which is less than what supervisors wait by default); it is dead when the
%% daemon is.
%%
%% What the program writes is read all the time, and goes where `output' says:
%%
%% <dl>
%% <dt>`discard'</dt><dd>nowhere; the default</dd>
%% <dt>`{log, Level}'</dt><dd>to the logger, line by line, with `log_prefix' (the
%%   program's name and a colon by default), `log_metadata', and as
%%   `log_transform' changes the lines (by default what is not UTF-8 is replaced)</dd>
%% <dt>`{lines, Handler}'</dt><dd>line by line, without newlines, to a function or
%%   `{M, F}' or `{M, F, Args}', the line being the first argument</dd>
%% <dt>`{chunks, Handler}'</dt><dd>as it comes</dd>
%% </dl>
%%
%% All of that runs in a process of its own. As long as it is busy nothing is read,
%% and the program has to wait when its pipe is full. A handler that fails is
%% logged, and called again with what comes next. A line of more than 64 KiB is
%% handed on in pieces.
%%
%% Of stderr goes there, too (`consume', the default), or it is `redirect'ed into
%% stdout, thrown away (`null') or the node's (`console').
-module(netrunner_daemon).
-behaviour(gen_server).

-export([start_link/1, start_link/2]).
-export([os_pid/1, is_alive/1, write/2, close_stdin/1, kill/1, kill/2, stop/1]).
-export([statistics/1, stats/1]).
-export([cgroup_get/2, cgroup_set/3, cgroup_config/1, cgroup_path/1]).
-export([lines/2]).
-export([drain/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).
-export_type([option/0, handler/0]).

-type server() :: gen_server:server_ref().
-type handler() ::
    fun((binary()) -> term()) | {module(), atom()} | {module(), atom(), [term()]}.
-type option() ::
    netrunner_options:option()
    | {name, atom() | {local, atom()} | {global, term()} | {via, module(), term()}}
    | {output, discard | {log, logger:level()} | {lines | chunks, handler()}}
    | {log_prefix, unicode:chardata()}
    | {log_metadata, logger:metadata()}
    | {log_transform, fun((binary()) -> unicode:chardata())}
    | {stderr, consume | redirect | stdout | null | console | inherit | {fd, non_neg_integer()}}
    | {exit_status_to_reason, fun((1..255) -> term())}
    | {wait_for, fun(() -> term())}.

-define(GRACE, 4000).
%% How long terminate/2 waits beyond the grace, and for the output to be handled.
-define(PATIENCE, 500).
%% A program may end at once. Who has started it can still ask for its pid.
-define(SHORTEST_LIFE, 50).
-define(READ, 65536).
-define(MAX_LINE, 65536).
%% After so much time without work both processes hibernate.
-define(IDLE, 1000).

-record(state, {
    %% Until it has been started; there may be secrets in the environment.
    spec :: undefined | netrunner_nif:spec(),
    grace :: non_neg_integer(),
    name :: binary(),
    output :: fun((binary()) -> term()),
    by_lines :: boolean(),
    metadata :: logger:metadata(),
    to_reason :: fun((1..255) -> term()),
    handled :: counters:counters_ref(),
    waiter :: undefined | pid(),
    program :: undefined | netrunner_nif:program(),
    os_pid :: undefined | pos_integer(),
    started_at = 0 :: integer(),
    cgroup = none :: none | unknown | binary(),
    writer :: undefined | netrunner_writer:t(),
    drainer :: undefined | pid(),
    exit :: undefined | reference(),
    outcome :: undefined | netrunner_process:outcome()
}).

%% The process that reads the outputs.
-record(drain, {
    program :: netrunner_nif:program(),
    outputs :: [stdout | stderr],
    %% What has been selected for, and has not been ready since.
    waiting = #{} :: #{stdout | stderr => reference()},
    %% Beginnings of lines.
    partial = #{} :: #{stdout | stderr => binary()},
    how :: {Handle :: fun((binary()) -> term()), ByLines :: boolean(), counters:counters_ref()},
    %% The program: what there is to read is all that will be.
    ended = false :: boolean()
}).

%% @equiv start_link(Command, [])
-spec start_link(netrunner:command()) -> {ok, pid()} | {error, term()}.
start_link(Command) ->
    start_link(Command, []).

%% @doc Starts a program and its daemon. If the program can't be started, that is
%% an error here.
%%
%% `{wait_for, fun(() -> term())}' is called first, in a process of its own, and
%% the program is started when it returns; start_link does not wait for that. If
%% it fails the daemon does, too.
-spec start_link(netrunner:command(), [option()]) -> {ok, pid()} | {error, term()}.
start_link(Command, Options) ->
    Own = #{
        name => undefined,
        output => discard,
        log_prefix => undefined,
        log_metadata => #{},
        log_transform => fun printable/1,
        stderr => consume,
        exit_status_to_reason => fun(_) -> error_exit_status end,
        wait_for => undefined,
        kill_timeout => ?GRACE
    },
    {Mine, Others} = netrunner_options:split(Own, Options),
    ok = check(Mine),
    Defaults = #{
        stdin => {default, pipe},
        stdout => {default, pipe},
        stderr => stderr(maps:get(stderr, Mine))
    },
    WithGrace = Others ++ [{kill_timeout, maps:get(kill_timeout, Mine)}],
    case netrunner_options:spec(Command, WithGrace, Defaults) of
        {ok, Spec} ->
            case maps:get(name, Mine) of
                undefined -> gen_server:start_link(?MODULE, {Spec, Mine}, [{hibernate_after, ?IDLE}]);
                Name when is_atom(Name) -> start_named({local, Name}, Spec, Mine);
                Name -> start_named(Name, Spec, Mine)
            end;
        {error, _} = Error ->
            Error
    end.

start_named(Name, Spec, Mine) ->
    gen_server:start_link(Name, ?MODULE, {Spec, Mine}, [{hibernate_after, ?IDLE}]).

check(#{output := Output, log_metadata := Metadata, log_transform := Transform} = Mine) ->
    #{exit_status_to_reason := ToReason, wait_for := WaitFor, log_prefix := Prefix} = Mine,
    netrunner_options:check(output, Output, is_output(Output)),
    netrunner_options:check(log_metadata, Metadata, is_map(Metadata)),
    netrunner_options:check(log_transform, Transform, is_function(Transform, 1)),
    netrunner_options:check(
        log_prefix, Prefix, Prefix =:= undefined orelse is_binary(Prefix) orelse is_list(Prefix)
    ),
    netrunner_options:check(exit_status_to_reason, ToReason, is_function(ToReason, 1)),
    netrunner_options:check(
        wait_for, WaitFor, WaitFor =:= undefined orelse is_function(WaitFor, 0)
    ).

is_output(discard) ->
    true;
is_output({log, Level}) ->
    Levels = [emergency, alert, critical, error, warning, notice, info, debug],
    lists:member(Level, Levels);
is_output({Kind, Handler}) when Kind =:= lines; Kind =:= chunks ->
    case Handler of
        {M, F} -> is_atom(M) andalso is_atom(F);
        {M, F, Args} -> is_atom(M) andalso is_atom(F) andalso is_list(Args);
        _ -> is_function(Handler, 1)
    end;
is_output(_) ->
    false.

stderr(consume) -> {default, pipe};
stderr(redirect) -> {default, stdout};
stderr(console) -> inherit;
stderr(Mode) when Mode =:= null; Mode =:= stdout; Mode =:= inherit -> Mode;
stderr({fd, Fd}) when is_integer(Fd), Fd >= 0, Fd =< 16#7fffffff -> {fd, Fd};
stderr(Other) -> netrunner_options:bad(stderr, Other, "not a value of this option").

%% @doc The program's process id, or undefined if it has not been started yet.
-spec os_pid(server()) -> pos_integer() | undefined.
os_pid(Server) ->
    call(Server, os_pid).

%% @doc Whether the program runs.
-spec is_alive(server()) -> boolean().
is_alive(Server) ->
    call(Server, is_alive).

%% @doc Writes to the program's stdin, and waits while it does not read.
-spec write(server(), iodata()) -> ok | {error, not_running | closed | epipe | atom()}.
write(Server, Data) ->
    call(Server, {write, erlang:iolist_to_iovec(Data)}).

%% @doc Gives the program end of file.
-spec close_stdin(server()) -> ok | {error, not_running | atom()}.
close_stdin(Server) ->
    call(Server, close_stdin).

%% @equiv kill(Server, sigterm)
-spec kill(server()) -> ok | {error, not_running | unknown_signal | atom()}.
kill(Server) ->
    kill(Server, sigterm).

%% @doc Sends a signal to the program.
-spec kill(server(), netrunner_signal:signal()) ->
    ok | {error, not_running | unknown_signal | atom()}.
kill(Server, Signal) ->
    case netrunner_signal:number(Signal) of
        {ok, Number} -> call(Server, {kill, Number});
        {error, _} = Error -> Error
    end.

%% @doc Stops the daemon and its program, which is dead when this returns.
-spec stop(server()) -> ok.
stop(Server) ->
    gen_server:stop(Server).

%% @doc How many bytes of output have been handled, and what the kernel counts of
%% the program's cgroup.
-spec statistics(server()) ->
    #{output_byte_count := non_neg_integer(), cgroup := #{binary() => term()}}.
statistics(Server) ->
    call(Server, statistics).

%% @doc What the program has read, written and used, see
%% {@link netrunner_process:stats/1}; empty if it has not been started yet.
-spec stats(server()) -> #{atom() => non_neg_integer() | undefined}.
stats(Server) ->
    call(Server, stats).

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

%% @doc The settings of the program's cgroup, in the form of the option `cgroup';
%% empty without one.
-spec cgroup_config(server()) -> netrunner_cgroup:config().
cgroup_config(Server) ->
    call(Server, cgroup_config).

%% @doc The program's cgroup, below the mount point of cgroup v2. It is not known of a
%% program with `cgroup_base' that had ended before anybody could look.
-spec cgroup_path(server()) -> binary() | undefined.
cgroup_path(Server) ->
    call(Server, cgroup_path).

call(Server, Request) ->
    gen_server:call(Server, Request, infinity).

%% The server

%% @private
init({Spec, Mine}) ->
    process_flag(trap_exit, true),
    #{argv := [Arg0 | _]} = Spec,
    Name = maps:get(file, Spec, Arg0),
    #{output := Output, log_metadata := Metadata, wait_for := WaitFor} = Mine,
    logger:update_process_metadata(Metadata),
    State = #state{
        spec = Spec,
        grace = netrunner_options:kill_timeout(Spec),
        name = Name,
        output = output(Output, Name, Mine),
        by_lines = by_lines(Output),
        metadata = Metadata,
        to_reason = maps:get(exit_status_to_reason, Mine),
        handled = counters:new(1, [])
    },
    case WaitFor of
        undefined ->
            %% The environment is no longer needed.
            case launch(State) of
                {ok, Launched} -> {ok, Launched, hibernate};
                {stop, _} = Stop -> Stop
            end;
        _ ->
            {ok, State#state{waiter = proc_lib:spawn_link(fun() -> wait_for(WaitFor) end)}}
    end.

by_lines({log, _}) -> true;
by_lines({lines, _}) -> true;
by_lines(_) -> false.

wait_for(Fun) ->
    _ = Fun(),
    ok.

launch(#state{spec = Spec} = State) ->
    case netrunner_nif:spawn_program(Spec, self()) of
        {ok, Program} ->
            case netrunner_process:await_start(Program) of
                {ok, OsPid, Exit} -> {ok, launched(Program, OsPid, Exit, State)};
                {error, Reason} -> {stop, Reason}
            end;
        {error, Reason} ->
            {stop, Reason}
    end.

launched(Program, OsPid, Exit, #state{spec = Spec} = State) ->
    Terminal = lists:member(pty, maps:get(flags, Spec, [])),
    Outputs =
        [stdout || Terminal andalso not is_map_key(stdout, Spec)] ++
            [S || S <- [stdout, stderr], maps:get(S, Spec, none) =:= pipe],
    #state{output = Handle, by_lines = ByLines, handled = Handled, metadata = Metadata} = State,
    Drainer = proc_lib:spawn_link(fun() ->
        logger:update_process_metadata(Metadata),
        drain(#drain{
            program = Program, outputs = Outputs, how = {Handle, ByLines, Handled}
        })
    end),
    Started = State#state{
        spec = undefined,
        program = Program,
        os_pid = OsPid,
        started_at = erlang:monotonic_time(millisecond),
        cgroup = netrunner_cgroup:of_program(Spec, OsPid),
        writer = netrunner_writer:new(Program, Terminal),
        drainer = Drainer
    },
    case Exit of
        #{} -> ended(Started#state{outcome = Exit});
        Ref -> Started#state{exit = Ref}
    end.

%% @private
handle_call(os_pid, _, State) ->
    {reply, State#state.os_pid, State};
handle_call(is_alive, _, #state{program = Program, outcome = Outcome} = State) ->
    {reply, Program =/= undefined andalso Outcome =:= undefined, State};
handle_call({write, Data}, From, #state{writer = Writer} = State) when Writer =/= undefined ->
    {noreply, State#state{writer = netrunner_writer:write(From, Data, Writer)}};
handle_call(close_stdin, From, #state{writer = Writer} = State) when Writer =/= undefined ->
    {noreply, State#state{writer = netrunner_writer:close(From, Writer)}};
handle_call({kill, Number}, _, #state{program = Program, outcome = undefined} = State) when
    Program =/= undefined
->
    case netrunner_nif:kill(Program, Number) of
        {error, esrch} -> {reply, {error, not_running}, State};
        {error, einval} -> {reply, {error, unknown_signal}, State};
        Result -> {reply, Result, State}
    end;
handle_call(statistics, _, #state{handled = Handled} = State) ->
    Cgroup = netrunner_cgroup:statistics(reader(State)),
    {reply, #{output_byte_count => counters:get(Handled, 1), cgroup => Cgroup}, State};
handle_call(stats, _, #state{program = undefined} = State) ->
    {reply, #{}, State};
handle_call(stats, _, #state{program = Program} = State) ->
    {ok, Stats} = netrunner_nif:stats(Program),
    {reply, Stats, State};
handle_call({cgroup_get, File}, _, State) when is_binary(File) ->
    {reply, (reader(State))(File), State};
handle_call({cgroup_set, _, _}, _, #state{cgroup = none} = State) ->
    {reply, {error, no_cgroup}, State};
handle_call({cgroup_set, File, Value}, _, State) when is_binary(File), is_binary(Value) ->
    {reply, netrunner_nif:cgroup_set(State#state.program, File, Value), State};
handle_call(cgroup_config, _, State) ->
    {reply, netrunner_cgroup:config(reader(State)), State};
handle_call(cgroup_path, _, #state{cgroup = Path} = State) when is_binary(Path) ->
    {reply, Path, State};
handle_call(cgroup_path, _, State) ->
    {reply, undefined, State};
handle_call(Request, _, State) when
    Request =:= close_stdin; element(1, Request) =:= write; element(1, Request) =:= kill
->
    {reply, {error, not_running}, State};
handle_call(_, _, State) ->
    {reply, {error, badarg}, State}.

reader(#state{cgroup = none}) -> fun(_) -> {error, no_cgroup} end;
reader(#state{program = Program}) -> fun(File) -> netrunner_nif:cgroup_get(Program, File) end.

%% @private
handle_cast(_, State) ->
    {noreply, State}.

%% @private
handle_info({select, Program, Ref, _}, #state{program = Program, exit = Ref} = State) ->
    {noreply, exited(State)};
handle_info({select, Program, Ref, _}, #state{program = Program} = State) ->
    case netrunner_writer:ready(Ref, State#state.writer) of
        {ok, Writer} -> {noreply, State#state{writer = Writer}};
        error -> {noreply, State}
    end;
handle_info({'DOWN', Monitor, process, _, _}, #state{writer = Writer} = State) when
    Writer =/= undefined
->
    {noreply, State#state{writer = netrunner_writer:down(Monitor, Writer)}};
handle_info({'EXIT', Waiter, normal}, #state{waiter = Waiter} = State) ->
    case launch(State#state{waiter = undefined}) of
        {ok, Started} -> {noreply, Started};
        {stop, Reason} -> {stop, Reason, State#state{waiter = undefined}}
    end;
handle_info({'EXIT', Drainer, normal}, #state{drainer = Drainer, outcome = undefined} = State) ->
    %% Its outputs are closed. It may run on without.
    {noreply, State#state{drainer = undefined}};
handle_info({'EXIT', Drainer, normal}, #state{drainer = Drainer} = State) ->
    finish(State#state{drainer = undefined});
handle_info(finish, #state{drainer = undefined} = State) ->
    finish(State);
handle_info({'EXIT', _, normal}, State) ->
    {noreply, State};
handle_info({'EXIT', _, Reason}, State) ->
    {stop, Reason, State};
handle_info(_, State) ->
    {noreply, State}.

finish(#state{started_at = StartedAt} = State) ->
    case StartedAt + ?SHORTEST_LIFE - erlang:monotonic_time(millisecond) of
        Left when Left > 0 ->
            _ = erlang:send_after(Left, self(), finish),
            {noreply, State};
        _ ->
            {stop, reason(State), State}
    end.

reason(#state{name = Name, outcome = #{status := 0}}) ->
    logger:info("~ts: Process exited successfully", [printable(Name)]),
    normal;
reason(#state{name = Name, outcome = #{status := Status}, to_reason = ToReason}) ->
    logger:error("~ts: Process exited with status ~b", [printable(Name), Status]),
    ToReason(Status).

exited(#state{program = Program} = State) ->
    case netrunner_nif:wait(Program) of
        {select, Ref} ->
            State#state{exit = Ref};
        {exit, Code, Signal, Reason, Core} ->
            ended(State#state{outcome = netrunner_process:outcome(Code, Signal, Reason, Core)});
        {error, {eownerdead, _}} ->
            ended(State#state{outcome = netrunner_process:outcome(-1, 9, unknown, 0)})
    end.

%% All has been written, but not all handled.
ended(#state{drainer = undefined} = State) ->
    self() ! finish,
    State;
ended(#state{drainer = Drainer} = State) ->
    Drainer ! ended,
    State.

%% @private
terminate(_, #state{waiter = Waiter, program = Program} = State) ->
    _ = Waiter =/= undefined andalso exit(Waiter, kill),
    case Program of
        undefined ->
            ok;
        _ ->
            _ = netrunner_nif:stop(Program),
            die(State),
            _ = netrunner_nif:release(Program),
            ok
    end.

%% The program has its grace. If that was not enough the shepherd goes on alone.
die(#state{outcome = undefined, program = Program, exit = Ref, grace = Grace} = State) ->
    receive
        {select, Program, Ref, _} -> die(exited(State))
    after Grace + ?PATIENCE -> ok
    end;
die(#state{drainer = undefined}) ->
    ok;
die(#state{drainer = Drainer}) ->
    %% Its last words.
    receive
        {'EXIT', Drainer, _} -> ok
    after ?PATIENCE -> exit(Drainer, kill)
    end.

%% @private
format_status(Status) ->
    maps:map(
        fun
            (state, #state{} = State) -> State#state{spec = undefined};
            (_, Value) -> Value
        end,
        Status
    ).

%% The drainer

%% @private
-spec drain(#drain{}) -> ok.
drain(#drain{outputs = []}) ->
    ok;
drain(#drain{outputs = Outputs, waiting = Waiting, program = Program} = State) ->
    case [O || O <- Outputs, not is_map_key(O, Waiting)] of
        [] ->
            drain(await(State));
        [Output | _] ->
            Others = lists:delete(Output, Outputs),
            case netrunner_nif:read(Program, Output, ?READ) of
                {ok, Data} ->
                    Partial = handle(Output, Data, State#drain.partial, State#drain.how),
                    %% The other one is first the next time, if it has something.
                    drain(news(State#drain{outputs = Others ++ [Output], partial = Partial}));
                {select, Ref} when not State#drain.ended ->
                    drain(State#drain{waiting = Waiting#{Output => Ref}});
                _ ->
                    Partial = last(Output, State#drain.partial, State#drain.how),
                    drain(State#drain{outputs = Others, partial = Partial})
            end
    end.

await(#drain{program = Program} = State) ->
    receive
        {select, Program, Ref, _} -> ready(Ref, State);
        ended -> State#drain{ended = true, waiting = #{}}
    after ?IDLE ->
        %% It keeps nothing on its heap as long as there is nothing to do. What wakes
        %% it up is still in the mailbox then.
        proc_lib:hibernate(?MODULE, drain, [State])
    end.

news(#drain{program = Program} = State) ->
    receive
        {select, Program, Ref, _} -> news(ready(Ref, State));
        ended -> State#drain{ended = true, waiting = #{}}
    after 0 -> State
    end.

ready(Ref, #drain{waiting = Waiting} = State) ->
    State#drain{waiting = maps:filter(fun(_, R) -> R =/= Ref end, Waiting)}.

handle(_, Data, Partial, {Handle, false, Handled}) ->
    call_handler(Handle, Data),
    counters:add(Handled, 1, byte_size(Data)),
    Partial;
handle(Output, Data, Partial, {Handle, true, Handled}) ->
    {Lines, Rest} = lines(maps:get(Output, Partial, <<>>), Data),
    lists:foreach(fun(Line) -> call_handler(Handle, Line) end, Lines),
    counters:add(Handled, 1, byte_size(Data)),
    Partial#{Output => Rest}.

last(Output, Partial, {Handle, _, _}) ->
    case Partial of
        #{Output := Rest} when Rest =/= <<>> -> call_handler(Handle, Rest);
        #{} -> ok
    end,
    maps:remove(Output, Partial).

%% @doc The lines of Data, without their newlines, and the beginning of the next
%% one. Rest is that of the data before.
-spec lines(Rest :: binary(), Data :: binary()) -> {[binary()], binary()}.
lines(Rest, Data) ->
    case binary:split(Data, <<"\n">>, [global]) of
        [Part] ->
            long(<<Rest/binary, Part/binary>>, []);
        [First | Others] ->
            {Lines, [Last]} = lists:split(length(Others) - 1, Others),
            {Long, NewRest} = long(binary:copy(Last), []),
            {[<<Rest/binary, First/binary>> | Lines] ++ Long, NewRest}
    end.

long(<<Piece:?MAX_LINE/binary, Rest/binary>>, Pieces) when Rest =/= <<>> ->
    long(Rest, [Piece | Pieces]);
long(Rest, Pieces) ->
    {lists:reverse(Pieces), Rest}.

call_handler(Handle, Data) ->
    try
        Handle(Data)
    catch
        Class:Reason:Stack ->
            logger:warning("netrunner_daemon: the handler of output failed: ~p", [
                {Class, Reason, Stack}
            ])
    end.

output(discard, _, _) ->
    fun(_) -> ok end;
output({log, Level}, Name, #{log_prefix := Given, log_transform := Transform}) ->
    Prefix =
        case Given of
            undefined -> [printable(Name), ": "];
            _ -> Given
        end,
    fun(Line) -> logger:log(Level, "~ts~ts", [Prefix, Transform(Line)]) end;
output({_, {Module, Function}}, _, _) ->
    fun(Data) -> Module:Function(Data) end;
output({_, {Module, Function, Args}}, _, _) ->
    fun(Data) -> apply(Module, Function, [Data | Args]) end;
output({_, Fun}, _, _) ->
    Fun.

%% What is not UTF-8 becomes U+FFFD.
printable(Binary) ->
    case unicode:characters_to_binary(Binary) of
        Text when is_binary(Text) -> Text;
        {_, Text, <<_, Rest/binary>>} -> <<Text/binary, 16#FFFD/utf8, (printable(Rest))/binary>>
    end.
