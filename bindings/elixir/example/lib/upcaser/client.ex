# SPDX-License-Identifier: Apache-2.0
defmodule Upcaser.Client do
  @moduledoc """
  Asks the server, and hears its answers.
  """
  use GenServer
  require Logger

  def start_link(_), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "What the server makes of a line."
  def ask(line), do: GenServer.call(__MODULE__, {:ask, line})

  @doc "Called with each line of the server's output, in the daemon's process."
  def answer("served " <> line), do: Logger.debug("the server has served #{line}")
  def answer(line), do: GenServer.cast(__MODULE__, {:answer, line})

  @impl true
  def init(asked), do: {:ok, asked}

  @impl true
  def handle_call({:ask, line}, from, asked) do
    case NetRunner.Daemon.write(Upcaser.Server, [line, ?\n]) do
      :ok -> {:noreply, asked ++ [from]}
      {:error, _} = error -> {:reply, error, asked}
    end
  end

  @impl true
  def handle_cast({:answer, line}, [from | asked]) do
    GenServer.reply(from, {:ok, line})
    {:noreply, asked}
  end

  def handle_cast({:answer, _}, []), do: {:noreply, []}
end
