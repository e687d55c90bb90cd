# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Daemon do
  @moduledoc """
  A program in a supervision tree.

      children = [
        {NetRunner.Daemon, cmd: "redis-server", args: ["--port", "6380"], name: MyApp.Redis,
         log_output: :info},
        {NetRunner.Daemon, ["my_server", ["--verbose"], [cd: "/srv", log_output: :debug]]}
      ]

      Supervisor.start_link(children, strategy: :one_for_one)

  The daemon stops when its program ends, and its supervisor restarts it or does not: the
  reason is `:normal` for status 0, else what `:exit_status_to_reason` makes of the
  status, `:error_exit_status` by default. When the supervisor stops the daemon the program
  gets SIGTERM, and SIGKILL after `:kill_timeout` (4000 ms here, less than the 5000 that
  supervisors wait); it is dead when the daemon is. A child specification waits as
  long as the option says.

  ## Output

  What the program writes is read all the time, in a process of its own. As long as that is
  busy with a function of yours, nothing is read, and the program waits when its pipe is full.
  A function that raises is logged and called again with what comes next.

  | option | |
  |---|---|
  | `:on_output` | `:discard` (default), `:log` (as `log_output: :info`), or a function of each piece as it comes |
  | `:logger_fun` | a function or `{m, f}` or `{m, f, args}` that gets each line, without the newline, as the first argument |
  | `:log_output` | a level: each line goes to the `Logger` |
  | `:log_prefix` | before each line that is logged, by default the program's name and a colon |
  | `:log_transform` | a function of a line that is logged; by default what is not UTF-8 is replaced |
  | `:logger_metadata` | a keyword list for what is logged; `:muontrap_cmd` and `:muontrap_args` are added |
  | `:stderr` | `:consume`: as the rest; `:redirect`: into stdout, `:null`: thrown away, `:console`: the BEAM's own |
  | `:stderr_to_stdout` | `true` is `stderr: :redirect`, `false` is `stderr: :console` |
  | `:capture_stderr_only` | `true` reads stderr alone; stdout is thrown away |

  stderr is consumed if the daemon is given as `cmd: ...`, and the BEAM's own if it is given as
  `[cmd, args, opts]`.

  ## Other options

  | option | |
  |---|---|
  | `:name` | as of a `GenServer` |
  | `:exit_status_to_reason` | a function of a status that is not 0 |
  | `:wait_for` | a function that is called, in a process of its own, before the program is started |
  | `:process_opts` | more options, in a list of their own |

  and the options of all programs, see `m:NetRunner#options`.
  """

  alias NetRunner.Options

  @type t :: GenServer.server()

  @doc """
  A child specification; see the module's documentation for both forms.
  """
  @spec child_spec(keyword() | [term()]) :: Supervisor.child_spec()
  def child_spec([cmd, args]) when is_binary(cmd), do: child_spec([cmd, args, []])

  def child_spec([cmd, args, opts]) when is_binary(cmd),
    do: child_spec(opts, [cmd, args, opts])

  def child_spec(opts), do: child_spec(opts, [opts])

  defp child_spec(opts, args) do
    grace = opts[:kill_timeout] || opts[:delay_to_sigkill] || 4_000

    %{
      id: opts[:name] || __MODULE__,
      start: {__MODULE__, :start_link, args},
      type: :worker,
      restart: :permanent,
      shutdown: grace + 1_000
    }
  end

  @doc """
  Starts a daemon: `start_link(cmd: "sleep", args: ["60"], name: Sleeper)`.

  If the program can't be started, that is an error here.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) when is_list(opts) do
    {process_opts, opts} = Keyword.pop(Options.keyword!(opts), :process_opts, [])
    {cmd, opts} = Keyword.pop!(opts, :cmd)
    {args, opts} = Keyword.pop(opts, :args, [])
    start(cmd, args, opts ++ Options.keyword!(process_opts), :consume)
  end

  @doc """
  Starts a daemon: `start_link("sleep", ["60"], name: Sleeper)`.
  """
  @spec start_link(String.t(), [String.t()], keyword()) :: GenServer.on_start()
  def start_link(cmd, args, opts \\ []) when is_binary(cmd), do: start(cmd, args, opts, :console)

  defp start(cmd, args, opts, stderr) do
    with {:ok, command} <- Options.command([cmd | args]) do
      Options.raising(fn ->
        :netrunner_daemon.start_link(command, options(cmd, args, Options.normalize(opts), stderr))
      end)
    end
  end

  @own [
    :on_output,
    :logger_fun,
    :log_output,
    :logger_metadata,
    :log_transform,
    :stderr_to_stdout,
    :capture_stderr_only,
    :parallelism,
    :stdio_window,
    :delay_to_sigkill
  ]

  defp options(cmd, args, opts, stderr) do
    {own, opts} = Keyword.split(opts, @own)
    own = Map.new(Enum.reverse(own))

    metadata = Map.get(own, :logger_metadata, [])

    unless Keyword.keyword?(metadata) do
      bad(:logger_metadata, metadata, "not a keyword list")
    end

    metadata = metadata ++ [muontrap_cmd: cmd, muontrap_args: Enum.join(args, " ")]

    streams(own, stderr) ++
      [output: output(own), log_metadata: Map.new(metadata)] ++
      for({:log_transform, fun} <- own, do: {:log_transform, fun}) ++
      for({:delay_to_sigkill, ms} <- own, do: {:kill_timeout, ms}) ++
      Keyword.merge([stderr: stderr], opts)
  end

  defp streams(%{capture_stderr_only: true}, _), do: [stdout: :null, stderr: :consume]
  defp streams(%{stderr_to_stdout: true}, _), do: [stderr: :redirect]
  defp streams(%{stderr_to_stdout: false}, _), do: [stderr: :console]
  defp streams(_, _), do: []

  defp output(%{logger_fun: fun}), do: {:lines, fun}
  defp output(%{log_output: :warn}), do: {:log, :warning}
  defp output(%{log_output: level}) when level != nil, do: {:log, level}
  defp output(%{on_output: :log}), do: {:log, :info}
  defp output(%{on_output: fun}) when is_function(fun, 1), do: {:chunks, fun}
  defp output(%{on_output: other}) when other != :discard, do: bad(:on_output, other, "unknown")
  defp output(_), do: :discard

  @spec bad(atom(), term(), String.t()) :: no_return()
  defp bad(key, value, why), do: :erlang.error({:bad_option, key, value, why})

  @doc """
  The program's process id, or `:error` if it has not been started yet (`:wait_for`).
  """
  @spec os_pid(t()) :: pos_integer() | :error
  def os_pid(daemon) do
    with :undefined <- :netrunner_daemon.os_pid(daemon), do: :error
  end

  @doc """
  Whether the program runs.
  """
  @spec alive?(t()) :: boolean()
  defdelegate alive?(daemon), to: :netrunner_daemon, as: :is_alive

  @doc """
  Writes to the program's stdin, and waits while it does not read.
  """
  @spec write(t(), iodata()) :: :ok | {:error, :not_running | :closed | :epipe | atom()}
  defdelegate write(daemon, data), to: :netrunner_daemon

  @doc """
  Gives the program end of file.
  """
  @spec close_stdin(t()) :: :ok | {:error, :not_running | atom()}
  defdelegate close_stdin(daemon), to: :netrunner_daemon

  @doc """
  Sends a signal to the program.
  """
  @spec kill(t(), NetRunner.Signal.t()) :: :ok | {:error, :not_running | :unknown_signal | atom()}
  defdelegate kill(daemon, signal \\ :sigterm), to: :netrunner_daemon

  @doc """
  Stops the daemon and its program, which is dead when this returns.
  """
  @spec stop(t()) :: :ok
  defdelegate stop(daemon), to: :netrunner_daemon

  @doc """
  How many bytes of output have been handled, and what the kernel counts of the program's
  cgroup: a map from files such as `"memory.current"` to numbers or maps.
  """
  @spec statistics(t()) :: %{output_byte_count: non_neg_integer(), cgroup: map()}
  defdelegate statistics(daemon), to: :netrunner_daemon

  @doc """
  Reads a file of the program's cgroup, such as `"memory.current"`.
  """
  @spec cgget(t(), String.t()) :: {:ok, String.t()} | {:error, :no_cgroup | File.posix()}
  defdelegate cgget(daemon, file), to: :netrunner_daemon, as: :cgroup_get

  @doc """
  Writes a file of the program's cgroup.
  """
  @spec cgset(t(), String.t(), String.t()) :: :ok | {:error, :no_cgroup | File.posix()}
  defdelegate cgset(daemon, file, value), to: :netrunner_daemon, as: :cgroup_set

  @doc """
  The settings of the program's cgroup in the form of the option `:cgroup`.
  """
  @spec cgroup_config(t()) :: map()
  defdelegate cgroup_config(daemon), to: :netrunner_daemon

  @doc """
  The program's cgroup, below the mount point of cgroup v2, or nil.
  """
  @spec cgroup_path(t()) :: String.t() | nil
  def cgroup_path(daemon) do
    with :undefined <- :netrunner_daemon.cgroup_path(daemon), do: nil
  end
end
