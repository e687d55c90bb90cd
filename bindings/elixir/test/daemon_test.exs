# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.DaemonTest do
  # What is logged is captured for all.
  use ExUnit.Case, async: false
  import ExUnit.CaptureLog
  import NetRunner.TestSupport
  alias NetRunner.Daemon

  defp sh(script), do: ["sh", ["-c", script]]

  defp gone(daemon) do
    ref = Process.monitor(daemon)
    assert_receive {:DOWN, ^ref, _, _, reason}, 30_000
    reason
  end

  test "both forms of a child specification" do
    assert %{
             id: Mine,
             start: {Daemon, :start_link, [[cmd: "cat", name: Mine]]},
             restart: :permanent,
             shutdown: 5_000
           } = Daemon.child_spec(cmd: "cat", name: Mine)

    assert %{id: Daemon, start: {Daemon, :start_link, ["cat", [], []]}} =
             Daemon.child_spec(["cat", []])

    assert %{shutdown: 1_500} = Daemon.child_spec(["cat", [], [delay_to_sigkill: 500]])
    assert %{shutdown: 3_000} = Daemon.child_spec(cmd: "cat", kill_timeout: 2_000)
  end

  test "NetRunner's form" do
    test = self()

    daemon =
      start_supervised!(
        {Daemon, cmd: "cat", args: [], name: Cat, on_output: &send(test, {:out, &1})}
      )

    assert Daemon.alive?(Cat)
    assert is_integer(Daemon.os_pid(Cat))
    assert :ok = Daemon.write(Cat, "hello")
    assert_receive {:out, "hello"}, 30_000
    eventually(fn -> Daemon.statistics(daemon) == %{output_byte_count: 5, cgroup: %{}} end)
    assert {:error, :no_cgroup} = Daemon.cgget(Cat, "memory.max")
    assert {:error, :no_cgroup} = Daemon.cgset(Cat, "memory.max", "max")
    assert %{} == Daemon.cgroup_config(Cat)
    assert nil == Daemon.cgroup_path(Cat)
    pid = Daemon.os_pid(Cat)
    stop_supervised!(Cat)
    refute running?(pid)
  end

  test "MuonTrap's form, and its logging" do
    opts = [
      log_output: :warning,
      log_prefix: "says ",
      log_transform: &String.upcase/1,
      logger_metadata: [my: :key]
    ]

    log =
      capture_log(
        [format: "$message|$metadata\n", metadata: [:my, :muontrap_cmd, :muontrap_args]],
        fn ->
          Process.flag(:trap_exit, true)
          {:ok, daemon} = apply(Daemon, :start_link, sh("echo hello; exit 3") ++ [opts])
          assert :error_exit_status = gone(daemon)
        end
      )

    assert log =~ "says HELLO|my=key muontrap_cmd=sh muontrap_args=-c echo hello; exit 3"
    assert log =~ "sh: Process exited with status 3|my=key"

    assert capture_log(fn ->
             {:ok, daemon} = Daemon.start_link("true", [], [])
             assert :normal = gone(daemon)
           end) =~ "true: Process exited successfully"
  end

  test "reasons, names and metadata of one's own" do
    Process.flag(:trap_exit, true)

    capture_log(fn ->
      {:ok, daemon} = Daemon.start_link("sh", ["-c", "exit 9"], exit_status_to_reason: &{:oh, &1})
      assert {:oh, 9} = gone(daemon)
    end)
  end

  def logger_fun(line, to \\ nil, tag), do: send(to || Process.whereis(DaemonTest), {tag, line})

  test "functions for lines" do
    Process.register(self(), DaemonTest)
    test = self()

    for {fun, tag} <- [
          {&send(test, {:fun, &1}), :fun},
          {{__MODULE__, :logger_fun, [self(), :mfa]}, :mfa}
        ] do
      capture_log(fn ->
        {:ok, daemon} = Daemon.start_link("printf", ["one\\ntwo\\nthree"], logger_fun: fun)
        gone(daemon)
      end)

      for line <- ["one", "two", "three"], do: assert_received({^tag, ^line})
    end
  end

  test "which output" do
    test = self()
    Process.flag(:trap_exit, true)

    lines = fn opts ->
      capture_log(fn ->
        {:ok, daemon} =
          Daemon.start_link(
            "sh",
            ["-c", "echo out; echo err >&2"],
            [logger_fun: &send(test, {:line, &1})] ++ opts
          )

        gone(daemon)
      end)

      receive_lines([])
    end

    assert ["err", "out"] = lines.(stderr_to_stdout: true)
    assert ["out"] = lines.(stderr: :null)
    assert ["err"] = lines.(capture_stderr_only: true)
    assert ["err", "out"] = lines.(stderr: :consume)
  end

  defp receive_lines(lines) do
    receive do
      {:line, line} -> receive_lines([line | lines])
    after
      0 -> Enum.sort(lines)
    end
  end

  test "wait_for" do
    test = self()

    wait = fn ->
      send(test, {:waiting, self()})
      receive do: (:go -> :ok)
    end

    {:ok, daemon} = Daemon.start_link("cat", [], wait_for: wait)
    assert_receive {:waiting, task}, 30_000
    assert :error = Daemon.os_pid(daemon)
    send(task, :go)
    eventually(fn -> is_integer(Daemon.os_pid(daemon)) end)
    Daemon.stop(daemon)

    Process.flag(:trap_exit, true)

    assert capture_log(fn ->
             {:ok, daemon} = Daemon.start_link("cat", [], wait_for: fn -> raise "boom" end)
             assert {%RuntimeError{message: "boom"}, _} = gone(daemon)
           end) =~ "boom"
  end

  test "a function that raises harms nobody" do
    log =
      capture_log(fn ->
        {:ok, daemon} = Daemon.start_link(cmd: "cat", on_output: fn _ -> raise "boom" end)
        :ok = Daemon.write(daemon, "x")
        eventually(fn -> Daemon.statistics(daemon).output_byte_count == 1 end)
        assert Daemon.alive?(daemon)
        Daemon.stop(daemon)
      end)

    assert log =~ "boom"
  end

  test "is restarted as its supervisor says" do
    capture_log(fn ->
      spec = Supervisor.child_spec({Daemon, ["sleep", ["1000"]]}, restart: :transient)
      {:ok, sup} = Supervisor.start_link([spec], strategy: :one_for_one)
      child = fn -> with [{_, pid, _, _}] <- Supervisor.which_children(sup), do: pid end
      first = child.()
      :ok = Daemon.kill(first, :sigkill)
      eventually(fn -> is_pid(child.()) and child.() != first end)
      os_pid = Daemon.os_pid(child.())
      Supervisor.stop(sup)
      refute running?(os_pid)
    end)
  end

  test "a program that can't be started is an error of the supervisor" do
    Process.flag(:trap_exit, true)

    capture_log(fn ->
      assert {:error, {:enoent, _}} = Daemon.start_link("no-such-program", [])

      assert {:error, {:shutdown, {:failed_to_start_child, Daemon, {:enoent, _}}}} =
               Supervisor.start_link([{Daemon, cmd: "no-such-program"}], strategy: :one_for_one)
    end)
  end
end
