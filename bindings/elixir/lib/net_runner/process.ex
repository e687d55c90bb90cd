# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Process do
  @moduledoc """
  A process for a program: any number of processes may read, write, signal and wait.

      iex> {:ok, cat} = NetRunner.Process.start("cat")
      iex> NetRunner.Process.write(cat, "hello")
      :ok
      iex> NetRunner.Process.read(cat)
      {:ok, "hello"}
      iex> NetRunner.Process.close_stdin(cat)
      :ok
      iex> NetRunner.Process.read(cat)
      :eof
      iex> NetRunner.Process.await_exit(cat)
      {:ok, 0}
      iex> NetRunner.Process.stop(cat)
      :ok

  Nothing is read before somebody asks for it: a program that nobody reads waits when
  its pipe is full. Of those who read one stream at the same time the first one is served
  first; of those who write, one after the other, each completely. Output that was
  written before the program ended can be read after it.

  The process lives on when the program has ended, until `stop/1`. The program does not
  outlive the process: it is stopped (SIGTERM, grace, SIGKILL) with all that it has
  started.

  ## Options

  | option | |
  |---|---|
  | `:name` | of the process, as of a `GenServer` |
  | `:owner` | a pid; when it dies the program is killed and the process stops |
  | `:stderr` | `:consume` (default): always read, its end is kept for `stderr_tail/1`. `:disabled` or `:pipe`: yours to read with `read_stderr/2`; unread, it fills up and the program waits. `:redirect`: into stdout. `:null`: thrown away. `:console`: the BEAM's own |
  | `:stderr_tail_bytes` | how much of it is kept, 8192 |

  and the options of all programs, see `m:NetRunner#options`.

  ## Terminals

  With `pty: true` the program runs on a terminal of its own, of `:rows` and `:cols`. It
  echoes what is written, unless `echo: false`. Its end is `:eof`. `close_stdin/1` types the
  end-of-file character.
  """

  alias NetRunner.Options
  alias NetRunner.Process.Stats

  @type t :: GenServer.server()
  @type stream :: :stdin | :stdout | :stderr
  @type status :: 0..255
  @type read_error :: :closed | atom()

  @read 65_535

  @doc """
  Starts a program, and a process that is linked to the caller.

  The program has been executed when this returns. `{:error, {:enoent, why}}` and the like
  say which step failed, on what.
  """
  @spec start_link(String.t(), [String.t()], keyword()) :: {:ok, pid()} | {:error, term()}
  def start_link(cmd, args \\ [], opts \\ []), do: start(:start_link, cmd, args, opts)

  @doc """
  Like `start_link/3`, without the link.
  """
  @spec start(String.t(), [String.t()], keyword()) :: {:ok, pid()} | {:error, term()}
  def start(cmd, args \\ [], opts \\ []), do: start(:start, cmd, args, opts)

  defp start(function, cmd, args, opts) do
    with {:ok, command} <- Options.command([cmd | args]) do
      Options.raising(fn ->
        apply(:netrunner_process, function, [command, Options.normalize(opts)])
      end)
    end
  end

  @doc """
  Reads from stdout: what there is, at most `max_bytes`; waits if there is nothing.
  """
  @spec read(t(), pos_integer()) :: {:ok, binary()} | :eof | {:error, read_error()}
  defdelegate read(process, max_bytes \\ @read), to: :netrunner_process

  @doc """
  Reads from stderr.
  """
  @spec read_stderr(t(), pos_integer()) :: {:ok, binary()} | :eof | {:error, read_error()}
  defdelegate read_stderr(process, max_bytes \\ @read), to: :netrunner_process

  @doc """
  Reads from stdout or stderr, whichever has something. `:eof` is the end of both.
  """
  @spec read_any(t(), pos_integer()) ::
          {:ok, {:stdout | :stderr, binary()}} | :eof | {:error, read_error()}
  defdelegate read_any(process, max_bytes \\ @read), to: :netrunner_process

  @doc """
  Reads from stdout, up to `max_chunks` times while there is something.
  """
  @spec read_batch(t(), pos_integer(), pos_integer()) ::
          {:ok, [binary(), ...]} | :eof | {:error, read_error()}
  defdelegate read_batch(process, max_bytes \\ @read, max_chunks \\ 16), to: :netrunner_process

  @doc """
  Reads from stderr, up to `max_chunks` times while there is something.
  """
  @spec read_stderr_batch(t(), pos_integer(), pos_integer()) ::
          {:ok, [binary(), ...]} | :eof | {:error, read_error()}
  defdelegate read_stderr_batch(process, max_bytes \\ @read, max_chunks \\ 16),
    to: :netrunner_process

  @doc """
  Writes all of it to stdin, and waits while the program does not read.

  `{:error, :epipe}`: the program has closed it. `{:error, :closed}`: you have.
  """
  @spec write(t(), iodata()) :: :ok | {:error, :epipe | :closed | atom()}
  defdelegate write(process, data), to: :netrunner_process

  @doc """
  Gives the program end of file.
  """
  @spec close_stdin(t()) :: :ok | {:error, atom()}
  defdelegate close_stdin(process), to: :netrunner_process

  @doc """
  Says that you will not read stdout any more. A program that writes gets SIGPIPE.
  """
  @spec close_stdout(t()) :: :ok | {:error, atom()}
  def close_stdout(process), do: :netrunner_process.close(process, :stdout)

  @doc """
  Like `close_stdout/1`, of stderr.
  """
  @spec close_stderr(t()) :: :ok | {:error, atom()}
  def close_stderr(process), do: :netrunner_process.close(process, :stderr)

  @doc """
  The end of what has been consumed of stderr. It may begin in the middle of a character.
  """
  @spec stderr_tail(t()) :: binary()
  defdelegate stderr_tail(process), to: :netrunner_process

  @doc """
  Sends a signal to the program's process group, or cgroup if it has one.

  `{:error, :not_running}` when the program has ended; nobody else's process is hit.
  """
  @spec kill(t(), NetRunner.Signal.t()) :: :ok | {:error, :not_running | :unknown_signal | atom()}
  defdelegate kill(process, signal \\ :sigterm), to: :netrunner_process

  @doc """
  SIGTERM, and SIGKILL if the program has not ended within `term_timeout` ms; then waits
  for `kill_timeout` ms at most.
  """
  @spec shutdown(t(), timeout(), timeout()) :: {:ok, status()} | {:error, term()} | :timeout
  defdelegate shutdown(process, term_timeout \\ 5_000, kill_timeout \\ 5_000),
    to: :netrunner_process

  @doc """
  Stops the process, and the program if it runs, which is dead when this returns.
  """
  @spec stop(t()) :: :ok
  defdelegate stop(process), to: :netrunner_process

  @doc """
  Waits until the program, and all that it has started, is dead.

  The status is its exit code, or 128 and the signal that ended it. Any number of processes
  may wait. After `timeout` this exits, as `GenServer.call/3` does.
  """
  @spec await_exit(t(), timeout()) :: {:ok, status()} | {:error, term()}
  defdelegate await_exit(process, timeout \\ :infinity), to: :netrunner_process

  @doc """
  How the program ended, or nil while it runs.

  A map of `:status`, `:code` (nil after a signal), `:signal` (nil without), `:core` and
  `:reason`: `:own`, `:killed` (by us), `:timeout`, `:output`, `:oom`, or `:unknown`.
  """
  @spec outcome(t()) :: map() | nil
  def outcome(process) do
    case :netrunner_process.outcome(process) do
      :undefined -> nil
      outcome -> nils(outcome)
    end
  end

  @doc """
  The program's process id. After the program's end it may be another's.
  """
  @spec os_pid(t()) :: pos_integer()
  defdelegate os_pid(process), to: :netrunner_process

  @doc """
  Whether the program runs.
  """
  @spec alive?(t()) :: boolean()
  defdelegate alive?(process), to: :netrunner_process, as: :is_alive

  @doc """
  What has been read, written and used.
  """
  @spec stats(t()) :: Stats.t()
  def stats(process), do: Stats.new(:netrunner_process.stats(process))

  @doc """
  Resizes the program's terminal. `{:error, :enotty}`: it has none.
  """
  @spec set_window_size(t(), 0..65_535, 0..65_535) :: :ok | {:error, atom()}
  defdelegate set_window_size(process, rows, cols), to: :netrunner_process

  @doc """
  Makes another process the one with which the program dies, or none.
  """
  @spec set_owner(t(), pid() | nil) :: :ok
  def set_owner(process, owner), do: :netrunner_process.set_owner(process, owner || :undefined)

  @doc """
  Has a stream closed when the process `owner` dies.
  """
  @spec change_pipe_owner(t(), stream(), pid()) :: :ok
  defdelegate change_pipe_owner(process, stream, owner),
    to: :netrunner_process,
    as: :set_pipe_owner

  @doc """
  Reads a file of the program's cgroup, such as `"memory.peak"`.
  """
  @spec cgroup_get(t(), String.t()) :: {:ok, String.t()} | {:error, :no_cgroup | atom()}
  defdelegate cgroup_get(process, file), to: :netrunner_process

  @doc """
  Writes a file of the program's cgroup.
  """
  @spec cgroup_set(t(), String.t(), String.t()) :: :ok | {:error, :no_cgroup | atom()}
  defdelegate cgroup_set(process, file, value), to: :netrunner_process

  @doc """
  The program's cgroup, below the mount point of cgroup v2, or nil.
  """
  @spec cgroup_path(t()) :: String.t() | nil
  def cgroup_path(process) do
    with :undefined <- :netrunner_process.cgroup_path(process), do: nil
  end

  @doc false
  def nils(map), do: Map.new(map, fn {k, v} -> {k, if(v == :undefined, do: nil, else: v)} end)
end
