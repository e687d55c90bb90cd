# SPDX-License-Identifier: Apache-2.0
#
#     mix run bench/bench.exs [short]
#
# Spawn latency, throughput and memory per idle program, beside those of System.cmd/3.
# What is compared is measured in turns, and medians are shown.

defmodule Bench do
  def main(short) do
    {spawns, bytes, rounds, idle} =
      if short, do: {3, 10_000_000, 1, 5}, else: {25, 1_000_000_000, 9, 200}

    table("spawn of /bin/true to its end seen, us", rounds, [
      {"System.cmd", fn -> time(spawns, fn -> {"", 0} = System.cmd("/bin/true", []) end) end},
      {"NetRunner.run", fn -> time(spawns, fn -> {"", 0} = NetRunner.run(["/bin/true"]) end) end},
      {"NetRunner.cmd",
       fn -> time(spawns, fn -> {"", 0} = NetRunner.cmd("/bin/true", []) end) end},
      {"NetRunner.stream!",
       fn -> time(spawns, fn -> [] = Enum.to_list(NetRunner.stream!(["/bin/true"])) end) end},
      {"NetRunner.Process", fn -> time(spawns, &process/0) end}
    ])

    for {cmd, args} <- [
          {"head", ["-c", "#{bytes}", "/dev/zero"]},
          {"dd", ~w(if=/dev/zero status=none bs=64k count=#{div(bytes, 65_536)})},
          {"dd", ~w(if=/dev/zero status=none bs=1M count=#{div(bytes, 1_048_576)})}
        ] do
      table("MB/s from #{Enum.join([cmd | args], " ")}", rounds, [
        {"System.cmd", fn -> rate(bytes, fn -> System.cmd(cmd, args) end) end},
        {"NetRunner.run", fn -> rate(bytes, fn -> NetRunner.run([cmd | args]) end) end},
        {"NetRunner.cmd", fn -> rate(bytes, fn -> NetRunner.cmd(cmd, args) end) end},
        {"NetRunner.stream!",
         fn -> rate(bytes, fn -> Stream.run(NetRunner.stream!([cmd | args])) end) end}
      ])
    end

    IO.puts("memory of the BEAM per idle program, bytes")

    for {name, start, stop} <- [
          {"Port", fn -> Port.open({:spawn_executable, "/bin/cat"}, [:binary]) end,
           &Port.close/1},
          {"NetRunner.Process", fn -> elem(NetRunner.Process.start("/bin/cat"), 1) end,
           &NetRunner.Process.stop/1},
          {"NetRunner.Daemon", fn -> elem(NetRunner.Daemon.start_link(cmd: "/bin/cat"), 1) end,
           &NetRunner.Daemon.stop/1}
        ] do
      stop.(start.())
      before = memory()
      programs = for _ <- 1..idle, do: start.()
      # Until they hibernate.
      Process.sleep(1_500)
      line(name, div(memory() - before, idle))
      Enum.each(programs, stop)
    end
  end

  defp process do
    {:ok, p} = NetRunner.Process.start("/bin/true")
    {:ok, 0} = NetRunner.Process.await_exit(p)
    NetRunner.Process.stop(p)
  end

  defp table(title, rounds, [{base, _} | _] = all) do
    IO.puts(title)
    samples = for _ <- 1..rounds, do: Map.new(all, fn {name, measure} -> {name, measure.()} end)

    medians =
      Map.new(all, fn {name, _} ->
        {name, samples |> Enum.map(& &1[name]) |> Enum.sort() |> Enum.at(div(rounds, 2))}
      end)

    for {name, _} <- all, do: line(name, medians[name], medians[name] / medians[base])
  end

  defp line(name, value, ratio \\ nil) do
    ratio = if ratio, do: "  x #{Float.round(ratio, 2)}", else: ""

    IO.puts(
      "  #{String.pad_trailing(name, 20)} #{String.pad_leading("#{round(value)}", 10)}#{ratio}"
    )
  end

  defp time(count, fun) do
    {us, _} = :timer.tc(fn -> for _ <- 1..count, do: fun.() end)
    us / count
  end

  defp rate(bytes, fun), do: bytes / elem(:timer.tc(fun), 0)

  defp memory do
    :erlang.garbage_collect()
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1024
  end
end

Bench.main(System.argv() == ["short"])
