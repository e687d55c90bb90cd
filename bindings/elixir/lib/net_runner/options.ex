# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Options do
  @moduledoc false

  # :netrunner checks the options. Here are only the names that its modules don't
  # know, and what is an exception in Elixir.

  @stderr %{disable: :null, redirect_to_stdout: :redirect}

  @doc "Runs `fun`, and makes an ArgumentError of an option that is wrong."
  def raising(fun) do
    fun.()
  catch
    :error, {:bad_option, key, value, why} ->
      raise ArgumentError, "invalid option #{inspect(key)} with value #{inspect(value)}: #{why}"
  end

  @doc "The options of NetRunner's and Exile's that mean the same as others."
  def normalize(opts) do
    Enum.map(keyword!(opts), fn
      {:stderr, mode} -> {:stderr, Map.get(@stderr, mode, mode)}
      other -> other
    end)
  end

  @doc "Raises if it is not a keyword list."
  def keyword!(opts) do
    if Keyword.keyword?(opts),
      do: opts,
      else: raise(ArgumentError, "expected a keyword list of options, got: #{inspect(opts)}")
  end

  @doc "A command whose parts are strings, and nothing else."
  def command([cmd | args]) do
    cond do
      not is_binary(cmd) -> {:error, {:invalid_cmd, "must be a binary"}}
      not is_list(args) -> {:error, {:invalid_args, "must be a list of binaries"}}
      not Enum.all?(args, &is_binary/1) -> {:error, {:invalid_args, "must be binaries"}}
      true -> {:ok, [cmd | args]}
    end
  end

  def command(_), do: {:error, {:invalid_cmd, "must not be empty"}}

  @doc """
  Input of any kind for :netrunner, which knows iodata and functions.

  A list is iodata if it is, else an enumerable of iodata.
  """
  def input(nil), do: {:ok, :undefined}
  def input(data) when is_binary(data), do: {:ok, data}

  def input(fun) when is_function(fun, 1) do
    {:ok,
     fn write ->
       try do
         fun.(%NetRunner.Stream.Sink{write: write})
       rescue
         # The program does not want more.
         e in NetRunner.Error ->
           if e.reason in [:epipe, :closed], do: :ok, else: reraise(e, __STACKTRACE__)
       end
     end}
  end

  def input(list) when is_list(list) do
    {:ok, IO.iodata_to_binary(list)}
  rescue
    ArgumentError -> enumerable(list)
  end

  def input(other), do: enumerable(other)

  defp enumerable(input) do
    if Enumerable.impl_for(input) do
      {:ok,
       fn write ->
         Enum.reduce_while(input, :ok, fn chunk, :ok ->
           case write.(chunk) do
             :ok -> {:cont, :ok}
             # The program does not want more, as head(1).
             {:error, _} -> {:halt, :ok}
           end
         end)
       end}
    else
      {:error, "is neither iodata nor enumerable"}
    end
  end
end
