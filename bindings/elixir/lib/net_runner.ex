# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner do
  @moduledoc """
  Runs operating system processes, and does not leave them behind.

      iex> NetRunner.run(~w(echo hello))
      {"hello\\n", 0}

      iex> NetRunner.run(~w(tr a-z A-Z), input: "hello")
      {"HELLO", 0}

      iex> NetRunner.stream!(~w(sort), input: ["b\\n", "c\\n", "a\\n"]) |> Enum.join()
      "a\\nb\\nc\\n"

      iex> NetRunner.cmd("echo", ["hello"])
      {"hello\\n", 0}

  Whatever a program has started is dead when the program is. All of it dies when the Elixir
  process dies that runs it, and when the BEAM does, in any way, SIGKILL included.

    * `run/2` runs a program to its end
    * `stream/2` and `stream!/2` read it as fast as you do
    * `cmd/3` is `System.cmd/3`, and `MuonTrap.cmd/3`
    * `NetRunner.Process` is a process for a program
    * `NetRunner.Daemon` is a program for a supervisor
    * `NetRunner.Command` is a command as data

  ## Options

  These are the options of all programs. `nil` is the default of each. An option that
  does not exist, or not with this value, raises an `ArgumentError`.

  | option | |
  |---|---|
  | `:cd`, `:cwd` | the directory to run in |
  | `:env` | a map or list of variables: a string, or `nil` for not set, on top of the BEAM's. `{:replace, variables}` is the whole environment |
  | `:arg0` | the name that the program sees |
  | `:pty` | on a terminal: `true`; with `:rows`, `:cols` and `:echo` |
  | `:stdin`, `:stdout` | `:pipe`, `:null`, `:inherit` (the BEAM's) or `{:fd, number}` |
  | `:fds` | further descriptors, `[{ours, theirs}]` |
  | `:timeout` | milliseconds; then the program is stopped |
  | `:kill_timeout`, `:delay_to_sigkill` | milliseconds between SIGTERM and SIGKILL, 5000; 0 is SIGKILL at once |
  | `:output_limit` | bytes; when it writes more the program is killed |
  | `:uid`, `:gid` | a number or a name. A user by name has its own groups, unless these are given |
  | `:groups` | the supplementary groups, numbers or names |
  | `:umask`, `:nice` | numbers |
  | `:rlimits` | a map such as `%{nofile: 64, core: {0, :infinity}}` of limits, or soft and hard limits |
  | `:no_new_privs` | `true`: no setuid program gains anything |
  | `:session` | `true`: a session of its own |
  | `:linger` | `true`: what it leaves running lives on, until the BEAM ends |
  | `:own_shepherd` | `true`: isolated from other programs of the BEAM |
  | `:pid_namespace` | `true`: the kernel itself holds the tree together |
  | `:cgroup_base` | a cgroup in which one is made for the program, and removed afterwards |
  | `:cgroup_path` | a cgroup for the program; what is in it at the end is killed |
  | `:cgroup` | settings of the cgroup: a map of `:cpu_weight`, `:cpu_max` (`{quota, period}` or `:max`), `:cpu_idle`, `:memory_min`, `:memory_low`, `:memory_high`, `:memory_max`, `:memory_swap_max`, `:memory_oom_group`, `:pids_max`, `:io_weight`, `:cpuset_cpus`, `:cpuset_mems` |
  | `:pipe_size` | bytes of the pipes |
  | `:shepherd` | the path of `netrunner-shepherd` |

  ## Errors

  Functions without a `!` return `{:error, reason}`:

    * `{:enoent, why}`, `{:eacces, why}`, ...: the program could not be started. The
      text says what failed
    * `{:invalid_cmd, why}`, `{:invalid_args, why}`, `{:invalid_cgroup_path, why}`
    * `:timeout`
    * `{:max_output_exceeded, output}`

  The status of a program that a signal has ended is 128 plus its number.
  """

  alias NetRunner.{Command, Options}

  @type command :: Command.t() | [String.t(), ...]

  @doc """
  Runs a program to its end and returns what it wrote to stdout, and its status.

  ## Options

    * `:input` - for its stdin: iodata, or any enumerable of iodata. Input and output move
      at the same time
    * `:stderr` - `:consume` (default) and `:disabled` drop it, `:redirect` merges it into the
      output, `:console` is the BEAM's own
    * `:timeout` - milliseconds, after which the program is stopped and the result is
      `{:error, :timeout}`
    * `:max_output_size` - bytes. When there are more the program is stopped and the result is
      `{:error, {:max_output_exceeded, output}}`, with exactly that many

  and the options of all programs, see `m:NetRunner#options`. With a `NetRunner.Command`, `:args` are
  further arguments.

      iex> NetRunner.run(["sh", "-c", "echo out; echo err >&2; exit 3"], stderr: :redirect)
      {"out\\nerr\\n", 3}

      iex> NetRunner.run(~w(sleep 60), timeout: 50)
      {:error, :timeout}

      iex> NetRunner.run(~w(yes), max_output_size: 5)
      {:error, {:max_output_exceeded, "y\\ny\\ny"}}

      iex> {:error, {:enoent, _why}} = NetRunner.run(["no-such-program"])
  """
  @spec run(command(), keyword()) :: {binary(), 0..255} | {:error, term()}
  def run(command, opts \\ []) do
    {command, opts} = parts(command, Options.keyword!(opts))
    {input, opts} = Keyword.pop(opts, :input)

    with {:ok, command} <- Options.command(command) do
      Options.raising(fn ->
        :netrunner.run(command, [input: input!(input)] ++ Options.normalize(opts))
      end)
    end
  end

  @doc """
  Starts a program and returns a stream of what it writes to stdout.

  See `NetRunner.Stream` for what becomes of the program.

  ## Options

    * `:input` - iodata, any enumerable of iodata, or a function that gets a
      `Collectable` and puts iodata into it
    * `:stderr` - as of `run/2`. With `:pipe` the elements are `{:stdout, data}` and
      `{:stderr, data}`
    * `:max_chunk_size` - bytes of an element
    * `:on_exit` - what is made of the status: `:ignore` (default); `:raise` raises
      `NetRunner.Stream.AbnormalExit` if it is not 0; `:element` makes
      `{:exit, {:status, status}}` the last element
    * `:exit_timeout` - when the enumeration ends early the program is stopped at once, or,
      with `on_exit: :raise` or `:element`, if it has not ended by itself after
      5000 ms. This is another time
    * `:ignore_epipe` - with `on_exit: :raise`: an early end is not an error

  and the options of all programs, see `m:NetRunner#options`.

      iex> {:ok, stream} = NetRunner.stream(~w(cat), input: Stream.map(1..3, &to_string/1))
      iex> Enum.join(stream)
      "123"

      iex> {:error, {:enoent, _why}} = NetRunner.stream(["no-such-program"])
  """
  @spec stream(command(), keyword()) :: {:ok, Enumerable.t()} | {:error, term()}
  def stream(command, opts \\ []) do
    {command, opts} = parts(command, Options.keyword!(opts))
    NetRunner.Stream.new(command, opts)
  end

  @doc """
  Like `stream/2`, but returns the stream itself, and raises `NetRunner.Error`.

      iex> NetRunner.stream!(~w(yes)) |> Enum.take(1) |> hd() |> binary_part(0, 4)
      "y\\ny\\n"
  """
  @spec stream!(command(), keyword()) :: Enumerable.t()
  def stream!(command, opts \\ []) do
    case stream(command, opts) do
      {:ok, stream} -> stream
      {:error, reason} -> raise NetRunner.Error, reason: {:spawn_failed, reason}
    end
  end

  @doc """
  Runs a program as `System.cmd/3` does, and as `MuonTrap.cmd/3` does.

  Raises `ArgumentError` for options that don't exist, and `:enoent` and the like if the program
  can't be started. stdin is empty. stderr is the BEAM's.

  ## Options

    * `:into` - a collectable for the output, `""` by default
    * `:lines` - the size up to which the output comes by lines, without newlines; the
      default of `:into` is `[]` then
    * `:stderr_to_stdout` - `true` merges stderr into the output
    * `:capture_stderr_only` - `true`: the output is stderr alone
    * `:timeout` - milliseconds, after which the program is stopped and the status is
      `:timeout`
    * `:delay_to_sigkill` - milliseconds between SIGTERM and SIGKILL, 500 here
    * `:input` - for stdin, as of `run/2`
    * `:use_stdio` - `false`: all streams are the BEAM's
    * `:parallelism`, `:hide`, `:stdio_window` - accepted; nothing depends on them here

  and the options of all programs, see `m:NetRunner#options`: `:cd`, `:env`, `:arg0`, `:uid`,
  `:gid`, `:groups`, `:cgroup_base`, `:cgroup_path`, `:cgroup` and others.

      iex> NetRunner.cmd("sh", ["-c", "echo start; sleep 60"], timeout: 200)
      {"start\\n", :timeout}

      iex> NetRunner.cmd("printf", ["a\\nb\\nc"], lines: 1024)
      {["a", "b", "c"], 0}
  """
  @spec cmd(String.t(), [String.t()], keyword()) :: {Collectable.t(), 0..255 | :timeout}
  def cmd(command, args, opts \\ []) when is_binary(command) and is_list(args) do
    if String.contains?(command, "\0") do
      raise ArgumentError,
            "cannot execute NetRunner.cmd/3 for program with null byte, got: #{inspect(command)}"
    end

    unless Enum.all?(args, &is_binary/1) do
      raise ArgumentError, "all arguments for NetRunner.cmd/3 must be binaries"
    end

    {into, lines, opts} = Options.raising(fn -> cmd_options(Options.normalize(opts)) end)
    command = [command | args]

    if into == "" and lines == nil do
      Options.raising(fn -> :netrunner.collect(command, opts) end) |> cmd_result(command, opts)
    else
      {acc, collect} = collector(into, lines)
      fold = fn _, data, acc -> {:cont, collect.(acc, {:cont, data})} end

      try do
        Options.raising(fn -> :netrunner.fold(fold, acc, command, opts) end)
        |> cmd_result(command, opts)
      catch
        kind, reason ->
          collect.(acc, :halt)
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        {acc, status} -> {collect.(acc, :done), status}
      end
    end
  end

  defp cmd_result({:ok, acc, %{reason: :timeout}}, _, _), do: {acc, :timeout}
  defp cmd_result({:ok, acc, %{status: status}}, _, _), do: {acc, status}

  defp cmd_result({:error, {kind, why}}, _, _)
       when kind in [:invalid_cmd, :invalid_args, :invalid_cgroup_path],
       do: raise(ArgumentError, "#{kind}: #{why}")

  defp cmd_result({:error, {posix, _why}}, [command | args], opts),
    do: :erlang.error(posix, [command, args, opts])

  defp cmd_result({:error, posix}, [command | args], opts),
    do: :erlang.error(posix, [command, args, opts])

  defp cmd_options(opts) do
    {own, opts} =
      Keyword.split(opts, [
        :into,
        :lines,
        :stderr_to_stdout,
        :capture_stderr_only,
        :delay_to_sigkill,
        :input,
        :use_stdio,
        :parallelism,
        :hide,
        :stdio_window
      ])

    lines = own[:lines]

    unless lines == nil or (is_integer(lines) and lines > 0) do
      bad(:lines, lines, "not a positive number")
    end

    for key <- [:stderr_to_stdout, :capture_stderr_only, :use_stdio, :parallelism, :hide],
        not is_boolean(Keyword.get(own, key, false)),
        do: bad(key, own[key], "not a boolean")

    into = Keyword.get_lazy(own, :into, fn -> if lines, do: [], else: "" end)

    streams =
      cond do
        own[:use_stdio] == false -> [stdin: :inherit, stdout: :inherit, stderr: :console]
        own[:capture_stderr_only] -> [stdout: :null, stderr: :pipe]
        own[:stderr_to_stdout] -> [stderr: :redirect]
        true -> [stderr: opts[:stderr] || :console]
      end

    grace = [delay_to_sigkill: opts[:kill_timeout] || own[:delay_to_sigkill] || 500]

    {into, lines,
     streams ++
       grace ++ [input: input!(own[:input])] ++ Keyword.drop(opts, [:stderr, :kill_timeout])}
  end

  # Collects what comes, or the lines of it.
  defp collector(into, nil), do: Collectable.into(into)

  defp collector(into, max) do
    {acc, collect} = Collectable.into(into)

    {{acc, ""},
     fn
       {acc, rest}, {:cont, data} ->
         [last | lines] = (rest <> data) |> String.split("\n") |> Enum.reverse()
         pieces = Enum.flat_map(Enum.reverse(lines), &pieces(&1, max))
         {full, [last]} = last |> pieces(max) |> Enum.split(-1)
         {Enum.reduce(pieces ++ full, acc, &collect.(&2, {:cont, &1})), last}

       {acc, ""}, :done ->
         collect.(acc, :done)

       {acc, rest}, :done ->
         acc |> collect.({:cont, rest}) |> collect.(:done)

       {acc, _}, :halt ->
         collect.(acc, :halt)
     end}
  end

  defp pieces(line, max) when byte_size(line) <= max, do: [line]

  defp pieces(line, max) do
    <<piece::binary-size(max), rest::binary>> = line
    [piece | pieces(rest, max)]
  end

  defp parts(%Command{} = command, opts) do
    {extra, opts} = Keyword.pop(opts, :args, [])
    {executable, args, opts} = Command.to_cmd_args_opts(command, opts)
    {[executable | args ++ extra], opts}
  end

  defp parts(command, opts), do: {command, opts}

  defp input!(input) do
    case Options.input(input) do
      {:ok, input} -> input
      {:error, why} -> bad(:input, input, why)
    end
  end

  @spec bad(atom(), term(), String.t()) :: no_return()
  defp bad(key, value, why), do: :erlang.error({:bad_option, key, value, why})
end
