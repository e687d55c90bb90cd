# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Stream do
  @moduledoc """
  The streams of `NetRunner.stream/2` and `NetRunner.stream!/2`.

  The program is started when the stream is made, in order to tell if that is not
  possible. It is read as fast as the stream is enumerated, and no faster. Input is
  written by a process of its own at the same time.

  The program and all that it has started is dead

    * when the enumeration ends, early (`Enum.take/2`), by an exception or at the end;
    * soon after the process has died that enumerates the stream, or, before that, has
      made it;
    * soon after there is no reference any more to a stream that nobody has enumerated.

  Each further enumeration runs the program again.
  """

  alias NetRunner.Options

  defmodule AbnormalExit do
    @moduledoc """
    The program of a stream with `on_exit: :raise` has failed.

    `:exit_status` is `:epipe` if the enumeration ended before the program had taken
    all of its input. `:stderr` is the end of what the program wrote there, if that was
    not read otherwise.
    """

    defexception [:exit_status, stderr: ""]

    @type t :: %__MODULE__{exit_status: 0..255 | :epipe, stderr: binary()}

    @impl true
    def message(%__MODULE__{exit_status: :epipe}), do: "program exited due to :epipe error"

    def message(%__MODULE__{exit_status: status, stderr: stderr}) do
      message = "program exited with exit status: #{status}"
      if stderr in [nil, ""], do: message, else: "#{message}: #{stderr}"
    end
  end

  defmodule Sink do
    @moduledoc """
    What a function as `:input` gets: a `Collectable` that writes to the program.

    It raises `NetRunner.Error` with the reason `:epipe` when the program does not read
    any more; that ends the input and is no error of the stream.
    """

    @enforce_keys [:write]
    defstruct [:write]

    @opaque t :: %__MODULE__{write: (iodata() -> :ok | {:error, :epipe | :closed})}

    defimpl Collectable do
      def into(%{write: write}) do
        {:ok,
         fn
           :ok, {:cont, data} ->
             case write.(data) do
               :ok -> :ok
               {:error, reason} -> raise NetRunner.Error, reason: reason
             end

           _, _ ->
             :ok
         end}
      end
    end
  end

  @enforce_keys [:program, :claimed, :start, :settings]
  defstruct [:program, :claimed, :start, :settings]

  @opaque t :: %__MODULE__{
            program: term(),
            claimed: :atomics.atomics_ref(),
            start: (() -> {:ok, term()} | {:error, term()}),
            settings: map()
          }

  @tail 8192

  @doc false
  def new(command, opts) do
    {settings, opts} = Options.raising(fn -> settings(Options.normalize(opts)) end)
    start = fn -> start(command, opts) end

    with {:ok, program} <- start.() do
      claimed = :atomics.new(1, [])
      {:ok, %__MODULE__{program: program, claimed: claimed, start: start, settings: settings}}
    end
  end

  defp start(command, opts) do
    with {:ok, command} <- Options.command(command) do
      Options.raising(fn -> :netrunner.stream(command, opts) end)
    end
  end

  defp settings(opts) do
    {own, opts} =
      Keyword.split(opts, [:input, :on_exit, :exit_timeout, :ignore_epipe, :max_chunk_size])

    on_exit = own[:on_exit] || :ignore
    exit_timeout = own[:exit_timeout] || if(on_exit == :ignore, do: 0, else: 5_000)
    ignore_epipe = own[:ignore_epipe] || false

    valid!(:on_exit, on_exit, on_exit in [:ignore, :raise, :element])

    valid!(
      :exit_timeout,
      exit_timeout,
      exit_timeout == :infinity or (is_integer(exit_timeout) and exit_timeout >= 0)
    )

    valid!(:ignore_epipe, ignore_epipe, is_boolean(ignore_epipe))

    {:ok, input} =
      with {:error, why} <- Options.input(own[:input]) do
        :erlang.error({:bad_option, :input, own[:input], why})
      end

    stderr = Keyword.get(opts, :stderr, :consume)

    # What it says is part of the exception.
    {mode, keep} =
      if stderr == :consume and on_exit == :raise, do: {:pipe, true}, else: {stderr, false}

    settings = %{
      on_exit: on_exit,
      exit_timeout: exit_timeout,
      ignore_epipe: ignore_epipe,
      tagged: stderr == :pipe,
      keep: keep
    }

    chunk = Keyword.get(own, :max_chunk_size)
    {settings, [input: input, stderr: mode, max_read: chunk] ++ Keyword.delete(opts, :stderr)}
  end

  defp valid!(_, _, true), do: :ok

  defp valid!(key, value, false),
    do: :erlang.error({:bad_option, key, value, "not a value of this option"})

  defimpl Enumerable do
    alias NetRunner.Stream.AbnormalExit

    def reduce(_, {:halt, acc}, _), do: {:halted, acc}

    def reduce(stream, {:suspend, acc}, fun),
      do: {:suspended, acc, &reduce(stream, &1, fun)}

    def reduce(stream, {:cont, acc}, fun),
      do: loop({claim(stream), stream.settings, ""}, {:cont, acc}, fun)

    defp loop(state, {:halt, acc}, _) do
      finish(state)
      {:halted, acc}
    end

    defp loop(state, {:suspend, acc}, fun), do: {:suspended, acc, &loop(state, &1, fun)}

    defp loop(state, {:cont, acc}, fun) do
      case next(state) do
        {:ok, element, state} -> loop(state, call(fun, element, acc, state), fun)
        :done -> {:done, acc}
      end
    end

    defp call(fun, element, acc, state) do
      fun.(element, acc)
    catch
      kind, reason ->
        abandon(state)
        :erlang.raise(kind, reason, __STACKTRACE__)
    end

    def count(_), do: {:error, __MODULE__}
    def member?(_, _), do: {:error, __MODULE__}
    def slice(_), do: {:error, __MODULE__}

    # The first one to enumerate has the program that runs; others run it again.
    defp claim(stream) do
      with :ok <- :atomics.compare_exchange(stream.claimed, 1, 0, 1),
           :ok <- :netrunner_stream.own(stream.program) do
        stream.program
      else
        _ ->
          case stream.start.() do
            {:ok, program} -> program
            {:error, reason} -> raise NetRunner.Error, reason: {:spawn_failed, reason}
          end
      end
    end

    # What raises here has closed the program.
    defp next(:ended), do: :done

    defp next({program, settings, tail}) do
      case :netrunner_stream.next(program) do
        {:data, :stderr, data, program} when settings.keep ->
          next({program, settings, NetRunner.Stream.tail(tail <> data)})

        {:data, output, data, program} when settings.tagged ->
          {:ok, {output, data}, {program, settings, tail}}

        {:data, _, data, program} ->
          {:ok, data, {program, settings, tail}}

        {:eof, %{status: status}, _} when settings.on_exit == :element ->
          {:ok, {:exit, {:status, status}}, :ended}

        {:eof, %{status: status}, _} when settings.on_exit == :raise and status != 0 ->
          raise AbnormalExit, exit_status: status, stderr: tail

        {:eof, _, _} ->
          :done

        {:error, {:input, {kind, reason, stacktrace}}} ->
          :erlang.raise(kind, reason, stacktrace)

        {:error, reason} ->
          raise NetRunner.Error, reason: {:read_error, reason}
      end
    end

    defp abandon(:ended), do: :ok

    defp abandon({program, _, _}) do
      _ = :netrunner_stream.close(program)
      :ok
    end

    # Before the end: the program is told by its closed streams, and then ended.
    defp finish(:ended), do: :ok

    defp finish({program, settings, tail}) do
      {outcome, closed} = :netrunner_stream.close(program, settings.exit_timeout)
      broken = :netrunner_stream.is_broken(closed)

      case outcome do
        _ when settings.on_exit != :raise or settings.ignore_epipe -> :ok
        _ when broken -> raise AbnormalExit, exit_status: :epipe
        %{status: 0} -> :ok
        %{status: status} -> raise AbnormalExit, exit_status: status, stderr: tail
        _ -> :ok
      end
    end
  end

  @doc false
  def tail(data) when byte_size(data) > @tail,
    do: binary_part(data, byte_size(data) - @tail, @tail)

  def tail(data), do: data

  defimpl Inspect do
    def inspect(_, _), do: "#NetRunner.Stream<>"
  end
end
