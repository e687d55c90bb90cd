# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Error do
  @moduledoc """
  What the functions with a `!` raise.

  `:reason` is `{:spawn_failed, reason}` if the program could not be started, with
  what the function without a `!` returns, or `{:read_error, reason}`.
  """

  defexception [:reason]

  @type t :: %__MODULE__{reason: {:spawn_failed | :read_error, term()}}

  @impl true
  def message(%__MODULE__{reason: {:spawn_failed, {_, why}}}) when is_binary(why),
    do: "the program could not be started: #{why}"

  def message(%__MODULE__{reason: {:spawn_failed, reason}}),
    do: "the program could not be started: #{inspect(reason)}"

  def message(%__MODULE__{reason: {:read_error, reason}}),
    do: "the program's output could not be read: #{inspect(reason)}"

  def message(%__MODULE__{reason: reason}), do: inspect(reason)
end
