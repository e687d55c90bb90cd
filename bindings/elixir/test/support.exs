# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.TestSupport do
  @moduledoc false
  import ExUnit.Assertions

  @doc "Waits for a condition. It fails only if that takes very long."
  def eventually(fun, left \\ 30_000) do
    cond do
      fun.() -> :ok
      left <= 0 -> flunk("never")
      true -> Process.sleep(10) && eventually(fun, left - 10)
    end
  end

  @doc "An argument of sleep(1) by which its process is found again."
  def marker, do: "1000.#{System.unique_integer([:positive])}#{System.pid()}"

  @doc "The processes with an argument, but zombies."
  def marked(marker) do
    for pid <- File.ls!("/proc"),
        pid =~ ~r/^\d+$/,
        {:ok, cmdline} <- [File.read("/proc/#{pid}/cmdline")],
        marker in String.split(cmdline, "\0"),
        do: String.to_integer(pid)
  end

  def running?(pid) do
    case File.read("/proc/#{pid}/stat") do
      {:ok, stat} -> not (stat =~ ~r/\) [ZX] /)
      {:error, _} -> false
    end
  end

  def assert_nothing_received do
    assert {:messages, []} = Process.info(self(), :messages)
  end

  defmodule Raises do
    @moduledoc false
    defstruct [:test]

    defimpl Collectable do
      def into(%{test: test}) do
        {:ok,
         fn
           _, {:cont, _} -> raise "full"
           _, :done -> :done
           _, :halt -> send(test, :halted)
         end}
      end
    end
  end
end
