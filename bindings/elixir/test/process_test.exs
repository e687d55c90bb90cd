# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.ProcessTest do
  use ExUnit.Case, async: true
  import NetRunner.TestSupport
  alias NetRunner.Process, as: Proc

  test "reads, writes, and the end" do
    {:ok, cat} = Proc.start("cat")
    assert :ok = Proc.write(cat, ["hello ", ~c"world"])
    assert {:ok, "hello"} = Proc.read(cat, 5)
    assert {:ok, " world"} = Proc.read(cat)
    assert Proc.alive?(cat)
    assert nil == Proc.outcome(cat)
    assert :ok = Proc.close_stdin(cat)
    assert :eof = Proc.read(cat)
    assert {:ok, 0} = Proc.await_exit(cat)
    assert {:error, :closed} = Proc.write(cat, "more")
    refute Proc.alive?(cat)
    assert %{code: 0, signal: nil, reason: :own} = Proc.outcome(cat)
    assert {:error, :not_running} = Proc.kill(cat)
    assert :ok = Proc.stop(cat)
  end

  test "stats" do
    {:ok, cat} = Proc.start("cat")
    Proc.write(cat, "hello")
    Proc.read(cat)
    assert %Proc.Stats{duration_ms: nil, exit_status: nil, started_at: start} = Proc.stats(cat)
    assert is_integer(start)
    Proc.close_stdin(cat)
    Proc.await_exit(cat)

    assert %Proc.Stats{
             bytes_in: 5,
             bytes_out: 5,
             bytes_err: 0,
             read_count: 1,
             write_count: 1,
             exit_status: 0,
             duration_ms: duration,
             usage: %{memory_peak: _, memory: nil}
           } = Proc.stats(cat)

    assert is_integer(duration)
    Proc.stop(cat)
  end

  test "stderr" do
    script = ["-c", "echo out; echo err >&2"]
    {:ok, p} = Proc.start("sh", script)
    assert {:ok, 0} = Proc.await_exit(p)
    assert "err\n" = Proc.stderr_tail(p)
    assert {:ok, "out\n"} = Proc.read(p)
    Proc.stop(p)

    {:ok, p} = Proc.start("sh", script, stderr: :disabled)
    assert {:ok, "err\n"} = Proc.read_stderr(p)
    assert "" = Proc.stderr_tail(p)
    Proc.stop(p)

    {:ok, p} = Proc.start("sh", script, stderr: :redirect)
    assert {:ok, 0} = Proc.await_exit(p)
    assert {:ok, "out\nerr\n"} = Proc.read(p)
    Proc.stop(p)

    {:ok, p} = Proc.start("sh", script, stderr: :pipe)
    assert {:ok, 0} = Proc.await_exit(p)
    both = for _ <- 1..2, do: Proc.read_any(p)
    assert [{:ok, {:stderr, "err\n"}}, {:ok, {:stdout, "out\n"}}] = Enum.sort(both)
    assert :eof = Proc.read_any(p)
    Proc.stop(p)
  end

  test "the owner's end is the program's, and the process's" do
    marker = marker()
    owner = spawn(fn -> Process.sleep(:infinity) end)
    {:ok, p} = Proc.start("sh", ["-c", "trap '' TERM; echo up; sleep #{marker}"], owner: owner)
    assert {:ok, "up\n"} = Proc.read(p)
    ref = Process.monitor(p)
    Process.exit(owner, :kill)
    assert_receive {:DOWN, ^ref, _, _, :normal}, 30_000
    assert [] = marked(marker)
  end

  test "owners of processes and pipes" do
    {:ok, cat} = Proc.start("cat", [], owner: self())
    assert :ok = Proc.set_owner(cat, nil)
    Task.await(Task.async(fn -> Proc.change_pipe_owner(cat, :stdin, self()) end))
    assert {:ok, 0} = Proc.await_exit(cat)
    Proc.stop(cat)
  end

  test "timeouts of await_exit/2, and shutdown/3" do
    {:ok, p} = Proc.start("sleep", ["1000"])
    assert {:timeout, _} = catch_exit(Proc.await_exit(p, 10))
    assert {:ok, 143} = Proc.shutdown(p)
    Proc.stop(p)
    assert :timeout = Proc.shutdown(p, 10, 0)
    assert_nothing_received()
  end

  test "closing outputs" do
    {:ok, yes} = Proc.start("yes", [], stderr: :pipe)
    assert :ok = Proc.close_stderr(yes)
    assert :ok = Proc.close_stdout(yes)
    assert {:ok, 141} = Proc.await_exit(yes)
    assert {:error, :closed} = Proc.read(yes)
    Proc.stop(yes)
  end

  # A terminal may deliver a line in pieces.
  defp line(p) do
    {:ok, data} = Proc.read(p)
    if String.ends_with?(data, "\n"), do: data, else: data <> line(p)
  end

  test "a terminal" do
    {:ok, p} =
      Proc.start("sh", ["-c", "stty size; read x; stty size"],
        pty: true,
        rows: 24,
        cols: 100,
        echo: false
      )

    assert "24 100\r\n" = line(p)
    assert :ok = Proc.set_window_size(p, 50, 132)
    assert :ok = Proc.write(p, "\n")
    assert "50 132\r\n" = line(p)
    assert :eof = Proc.read(p)
    Proc.stop(p)
  end

  test "supervised, it ends with its supervisor" do
    marker = marker()
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    spec = %{id: :p, start: {Proc, :start_link, ["sleep", [marker]]}}
    {:ok, _} = DynamicSupervisor.start_child(sup, spec)
    eventually(fn -> marked(marker) != [] end)
    Supervisor.stop(sup)
    assert [] = marked(marker)
  end
end
