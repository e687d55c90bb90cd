# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Signal do
  @moduledoc """
  Signals by name, such as `:sigterm`, and by number, 1 to 64.
  """

  @type t :: atom() | 1..64

  @doc """
  The number of a signal on this system.

      iex> NetRunner.Signal.resolve(:sigkill)
      {:ok, 9}
      iex> NetRunner.Signal.resolve(64)
      {:ok, 64}
      iex> NetRunner.Signal.resolve(:sigwhatever)
      {:error, :unknown_signal}
  """
  @spec resolve(term()) :: {:ok, 1..64} | {:error, :unknown_signal}
  defdelegate resolve(signal), to: :netrunner_signal, as: :number

  @doc """
  Like `resolve/1`, but raises.

      iex> NetRunner.Signal.resolve!(:sigterm)
      15
  """
  @spec resolve!(term()) :: 1..64
  def resolve!(signal) do
    case resolve(signal) do
      {:ok, number} -> number
      {:error, :unknown_signal} -> raise ArgumentError, "unknown signal: #{inspect(signal)}"
    end
  end

  @doc """
  The name of a signal, or its number if it has none.

      iex> NetRunner.Signal.name(15)
      :sigterm
  """
  @spec name(1..64) :: t()
  defdelegate name(number), to: :netrunner_signal
end
