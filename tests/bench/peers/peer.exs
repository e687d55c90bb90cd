# SPDX-License-Identifier: Apache-2.0

# The BEAM: Elixir's System.cmd, Erlang's ports, and the bindings of both. Arguments
# and samples are those of peer.py; System.cmd can't write to a program.

defmodule Peer do
  def main([variant, "spawn", count, _mib | argv]) do
    for n <- -3..(String.to_integer(count) - 1) do
      started = now()
      0 = spawn_one(variant, argv)
      if n >= 0, do: sample("exit", (now() - started) / 1.0e3)
    end
  end

  def main([variant, "read", mib | argv]) do
    bytes = String.to_integer(mib) * 1_048_576
    started = now()
    used = cpu()
    ^bytes = read(variant, argv)
    sample("read", bytes / 1_048_576 / ((now() - started) / 1.0e9))
    sample("cpu", cpu() - used)
  end

  def main([variant, "echo", mib | argv]) do
    data = :binary.copy(<<0>>, String.to_integer(mib) * 1_048_576)
    started = now()
    true = byte_size(data) == echo(variant, argv, data)
    sample("echo", (now() - started) / 1.0e6)
  end

  def main([variant, "turn", count | argv]) do
    turn = turning(variant, argv)

    for n <- -50..(String.to_integer(count) - 1) do
      started = now()
      turn.()
      if n >= 0, do: sample("turn", (now() - started) / 1.0e3)
    end
  end

  defp spawn_one("System.cmd", [cmd | args]), do: elem(System.cmd(cmd, args), 1)
  defp spawn_one("NetRunner.run", argv), do: elem(NetRunner.run(argv), 1)
  defp spawn_one("netrunner:run", argv), do: elem(:netrunner.run(argv), 1)

  defp spawn_one("port", argv) do
    port = open(argv)

    receive do
      {^port, {:exit_status, status}} -> status
    end
  end

  defp read("System.cmd", [cmd | args]), do: byte_size(elem(System.cmd(cmd, args), 0))
  defp read("NetRunner.run", argv), do: byte_size(elem(NetRunner.run(argv), 0))
  defp read("port", argv), do: drain(open(argv), 0)

  defp read("NetRunner.stream", argv),
    do: Enum.reduce(NetRunner.stream!(argv), 0, &(byte_size(&1) + &2))

  defp read("netrunner:fold", argv) do
    {:ok, n, _} = :netrunner.fold(fn _, data, n -> {:cont, n + byte_size(data)} end, 0, argv, [])
    n
  end

  defp echo("NetRunner.run", argv, data), do: byte_size(elem(NetRunner.run(argv, input: data), 0))

  defp echo("netrunner:run", argv, data),
    do: byte_size(elem(:netrunner.run(argv, input: data), 0))

  defp echo("port", argv, data) do
    port = open(argv)
    Port.command(port, data)
    n = receive_all(port, byte_size(data))
    Port.close(port)
    n
  end

  defp turning("port", argv) do
    port = open(argv)

    fn ->
      Port.command(port, "x")
      1 = receive_all(port, 1)
    end
  end

  defp turning("NetRunner.Process", [cmd | args]) do
    {:ok, p} = NetRunner.Process.start(cmd, args)

    fn ->
      :ok = NetRunner.Process.write(p, "x")
      {:ok, "x"} = NetRunner.Process.read(p)
    end
  end

  defp open([cmd | args]),
    do: Port.open({:spawn_executable, cmd}, [:binary, :exit_status, args: args])

  defp drain(port, n) do
    receive do
      {^port, {:data, data}} -> drain(port, n + byte_size(data))
      {^port, {:exit_status, 0}} -> n
    end
  end

  # A port has no end of input, so cat(1) does not end by itself.
  defp receive_all(port, wanted, n \\ 0)
  defp receive_all(_, wanted, n) when n >= wanted, do: n

  defp receive_all(port, wanted, n) do
    receive do
      {^port, {:data, data}} -> receive_all(port, wanted, n + byte_size(data))
    end
  end

  defp now, do: System.monotonic_time(:nanosecond)
  defp cpu, do: elem(:erlang.statistics(:runtime), 0)
  defp sample(name, value), do: IO.puts("#{name} #{value}")
end

{:ok, _} = Application.ensure_all_started(:net_runner)
Peer.main(System.argv())
