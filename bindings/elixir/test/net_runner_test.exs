# SPDX-License-Identifier: Apache-2.0
defmodule NetRunnerTest do
  use ExUnit.Case, async: true
  import NetRunner.TestSupport

  describe "run/2" do
    test "takes input of any kind" do
      for input <- [
            "123",
            ["1", "2", "3"],
            [?1, ["2" | "3"]],
            Stream.map(1..3, &to_string/1),
            MapSet.new(["123"]),
            fn sink -> Enum.into(["1", "2", "3"], sink) end
          ] do
        assert {"123", 0} = NetRunner.run(~w(cat), input: input)
      end

      assert {"", 0} = NetRunner.run(~w(cat))
      assert {"", 0} = NetRunner.run(~w(cat), input: "")
      assert_raise ArgumentError, ~r/:input/, fn -> NetRunner.run(~w(cat), input: 1) end
    end

    test "moves input and output at the same time" do
      data = :binary.copy("0123456789", 1_000_000)
      assert {^data, 0} = NetRunner.run(~w(cat), input: data)
      chunks = Stream.repeatedly(fn -> binary_part(data, 0, 100_000) end) |> Stream.take(50)
      assert {output, 0} = NetRunner.run(~w(cat), input: chunks)
      assert byte_size(output) == 5_000_000
    end

    test "input that is not read is no error, endless or not" do
      assert {"y\n", 0} = NetRunner.run(~w(head -n 1), input: Stream.cycle(["y\n"]))
      sink = fn sink -> Enum.into(Stream.cycle(["y\n"]), sink) end
      assert {"y\n", 0} = NetRunner.run(~w(head -n 1), input: sink)
      waits = Stream.repeatedly(fn -> Process.sleep(:infinity) end)
      assert {"hi\n", 0} = NetRunner.run(~w(echo hi), input: waits)
      assert_nothing_received()
    end

    test "an enumerable that raises is an exception here" do
      raises =
        Stream.map(1..3, fn
          3 -> raise("oh")
          n -> to_string(n)
        end)

      assert_raise RuntimeError, "oh", fn -> NetRunner.run(~w(cat), input: raises) end
      assert_nothing_received()
    end

    test "commands" do
      command = NetRunner.Command.new("sh", ["-c", "echo out; echo err >&2"], stderr: :redirect)
      assert {"out\nerr\n", 0} = NetRunner.run(command)
      assert {"out\n", 0} = NetRunner.run(command, stderr: :disabled)
    end

    test "what makes no sense" do
      assert {:error, {:invalid_cmd, _}} = NetRunner.run([""])
      assert {:error, {:invalid_cmd, _}} = NetRunner.run([])
      assert {:error, {:invalid_cmd, _}} = NetRunner.run([~c"echo"])
      assert {:error, {:invalid_args, _}} = NetRunner.run(["echo", ~c"hi"])
      assert {:error, {:invalid_args, _}} = NetRunner.run(["echo", "a\0b"])
      assert {:error, {:invalid_cgroup_path, _}} = NetRunner.run(["true"], cgroup_path: "/x")
      assert {:error, {:enoent, why}} = NetRunner.run(["true"], cd: "/no/such/directory")
      assert why =~ "/no/such/directory"
    end

    test "options that don't exist raise, whatever takes them" do
      takers = [
        &NetRunner.run(["true"], &1),
        &NetRunner.stream(["true"], &1),
        &NetRunner.stream!(["true"], &1),
        &NetRunner.cmd("true", [], &1),
        &NetRunner.Process.start("true", [], &1),
        &NetRunner.Daemon.start_link([cmd: "true"] ++ &1),
        &NetRunner.Daemon.start_link("true", [], &1)
      ]

      bad = [
        [no_such_option: 1],
        [timeout: 0],
        [uid: "no-such-user"],
        [groups: [:atom]],
        [cgroup: %{memory_max: 1}],
        [cgroup: %{bogus: 1}, cgroup_base: "x"],
        [cgroup_base: "x", cgroup_path: "y"],
        [env: %{"A=B" => "c"}],
        [stderr: :nowhere],
        [pty: "yes"]
      ]

      for take <- takers, opts <- bad do
        assert_raise ArgumentError, fn -> take.(opts) end
      end

      for take <- takers, do: assert_raise(ArgumentError, fn -> take.([:not_a_pair]) end)
    end

    test "the environment is the BEAM's, and more" do
      System.put_env("NR_TEST_BEAM", "beam")
      script = ["sh", "-c", "echo $NR_TEST_BEAM ${A-unset}"]
      assert {"beam unset\n", 0} = NetRunner.run(script)
      assert {"beam a\n", 0} = NetRunner.run(script, env: %{"A" => "a"})
      assert {"a\n", 0} = NetRunner.run(script, env: [{"NR_TEST_BEAM", nil}, {"A", "a"}])

      assert {"unset\n", 0} =
               NetRunner.run(script, env: {:replace, [{"PATH", System.get_env("PATH")}]})
    end
  end

  describe "stream/2" do
    test "is lazy" do
      {:ok, stream} =
        NetRunner.stream(["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; done"],
          max_chunk_size: 4
        )

      assert ["1\n" <> _, _] = Enum.take(stream, 2)
    end

    test "an early end leaves nothing alive" do
      marker = marker()
      command = ["sh", "-c", "sleep #{marker} & setsid sleep #{marker} & yes"]
      assert [_] = NetRunner.stream!(command) |> Enum.take(1)
      assert [] = marked(marker)
      assert [_] = NetRunner.stream!(command, input: Stream.cycle(["x"])) |> Enum.take(1)
      assert [] = marked(marker)
      assert_nothing_received()
    end

    test "an exception leaves nothing alive" do
      marker = marker()
      stream = NetRunner.stream!(["sh", "-c", "sleep #{marker} & yes"])
      assert_raise RuntimeError, "oh", fn -> Enum.each(stream, fn _ -> raise("oh") end) end
      assert [] = marked(marker)
      assert_nothing_received()
    end

    test "the death of the consumer leaves nothing alive, its input neither" do
      marker = marker()
      test = self()

      input =
        Stream.repeatedly(fn ->
          send(test, {:writer, self()})
          Process.sleep(:infinity)
        end)

      consumer =
        spawn(fn ->
          NetRunner.stream!(
            ["sh", "-c", "trap '' TERM; echo up; while :; do sleep #{marker}; done"],
            input: input
          )
          |> Enum.each(&send(test, {:out, &1}))
        end)

      assert_receive {:out, "up\n"}, 30_000
      assert_receive {:writer, writer}, 30_000
      eventually(fn -> marked(marker) != [] end)
      Process.exit(consumer, :kill)
      eventually(fn -> marked(marker) == [] and not Process.alive?(writer) end)
    end

    test "a stream that nobody enumerates is collected" do
      marker = marker()
      (fn -> {:ok, _} = NetRunner.stream(["sleep", marker]) end).()

      eventually(fn ->
        :erlang.garbage_collect()
        marked(marker) == []
      end)
    end

    test "may be enumerated by somebody else, and again" do
      stream = NetRunner.stream!(~w(cat), input: ["hel", "lo"])
      assert "hello" = Task.async(fn -> Enum.join(stream) end) |> Task.await()
      assert "hello" = Enum.join(stream)
      assert "hello" = Enum.join(stream)
    end

    test "holds the program back, and its input" do
      counter = :counters.new(1, [])

      input =
        Stream.repeatedly(fn ->
          :counters.add(counter, 1, 1)
          :binary.copy("x", 65_536)
        end)

      stream = NetRunner.stream!(~w(cat), input: input, max_chunk_size: 1000)

      Enum.reduce_while(stream, 0, fn _, n ->
        # It has stopped when nothing has moved for a while.
        if n == 10 do
          eventually(fn ->
            before = :counters.get(counter, 1)
            Process.sleep(200)
            before == :counters.get(counter, 1)
          end)

          {:halt, n}
        else
          {:cont, n + 1}
        end
      end)

      # Two pipes of 1 MiB at most, and what is between.
      assert :counters.get(counter, 1) < 100
    end

    test "starts the program, and says if that is not possible" do
      assert {:error, {:enoent, _}} = NetRunner.stream(["no-such-program"])

      assert %NetRunner.Error{reason: {:spawn_failed, {:enoent, why}}} =
               e = assert_raise(NetRunner.Error, fn -> NetRunner.stream!(["no-such-program"]) end)

      assert Exception.message(e) =~ why
      assert_raise NetRunner.Error, fn -> NetRunner.stream!([]) end
    end

    test "statuses" do
      script = ["sh", "-c", "echo out; echo why >&2; exit 3"]
      assert ["out\n"] = NetRunner.stream!(script) |> Enum.to_list()

      assert ["out\n", {:exit, {:status, 3}}] =
               NetRunner.stream!(script, on_exit: :element) |> Enum.to_list()

      e =
        assert_raise NetRunner.Stream.AbnormalExit, fn ->
          NetRunner.stream!(script, on_exit: :raise) |> Enum.to_list()
        end

      assert %{exit_status: 3, stderr: "why\n"} = e
      assert Exception.message(e) == "program exited with exit status: 3: why\n"
      assert ["out\n"] = NetRunner.stream!(~w(echo out), on_exit: :raise) |> Enum.to_list()
    end

    test "an early end with on_exit: :raise" do
      input = Stream.map(1..100_000, fn _ -> "hello" end)
      opts = [on_exit: :raise, input: input, max_chunk_size: 5]

      assert_raise NetRunner.Stream.AbnormalExit, "program exited due to :epipe error", fn ->
        NetRunner.stream!(~w(cat), opts) |> Enum.take(1)
      end

      assert ["hello"] = NetRunner.stream!(~w(cat), [ignore_epipe: true] ++ opts) |> Enum.take(1)

      # It ends by itself, and is given the time.
      script = ["sh", "-c", "trap '' PIPE; while echo hello; do :; done 2>/dev/null; exit 3"]

      assert_raise NetRunner.Stream.AbnormalExit, "program exited with exit status: 3", fn ->
        NetRunner.stream!(script, on_exit: :raise) |> Enum.take(1)
      end
    end

    test "an exception of the consumer is not hidden by the program's end" do
      for _ <- 1..5 do
        stream = NetRunner.stream!(["sh", "-c", "echo out; exit 3"], on_exit: :raise)

        assert_raise RuntimeError, "oh", fn ->
          Enum.each(stream, fn _ ->
            Process.sleep(5)
            raise "oh"
          end)
        end
      end
    end

    test "with others, in turns" do
      numbers = NetRunner.stream!(~w(seq 1 3), max_chunk_size: 2)
      letters = NetRunner.stream!(["printf", "a\\nb\\nc\\nd\\n"], max_chunk_size: 2)

      assert [{"1\n", "a\n"}, {"2\n", "b\n"}, {"3\n", "c\n"}] =
               Stream.zip(numbers, letters) |> Enum.to_list()
    end

    test "both outputs" do
      script = ["sh", "-c", "echo out; echo err >&2"]
      both = NetRunner.stream!(script, stderr: :pipe) |> Enum.sort()
      assert [{:stderr, "err\n"}, {:stdout, "out\n"}] = both
      assert "out\nerr\n" = NetRunner.stream!(script, stderr: :redirect) |> Enum.join()
      assert "out\n" = NetRunner.stream!(script, stderr: :disabled) |> Enum.join()
    end

    test "an enumerable that raises is an exception of the consumer" do
      raises =
        Stream.map(1..3, fn
          3 -> raise("oh")
          n -> to_string(n)
        end)

      stream = NetRunner.stream!(~w(cat), input: raises)
      assert_raise RuntimeError, "oh", fn -> Stream.run(stream) end
      Process.flag(:trap_exit, true)
      assert "12" = NetRunner.stream!(~w(cat), input: ["1", "2"]) |> Enum.join()
      assert_nothing_received()
    end

    test "a program whose end nobody has seen" do
      stream = NetRunner.stream!(["sh", "-c", "echo $$; exec sleep 1000"], own_shepherd: true)

      assert_raise NetRunner.Error, ~r/could not be read/, fn ->
        Enum.each(stream, fn pid ->
          status = File.read!("/proc/#{String.trim(pid)}/status")
          [_, shepherd] = Regex.run(~r/^PPid:\s+(\d+)$/m, status)
          {"", 0} = System.cmd("kill", ["-9", shepherd])
        end)
      end
    end
  end

  describe "cmd/3" do
    test "is System.cmd/3" do
      opts = [
        into: [],
        cd: "/",
        env: %{"foo" => "bar", "baz" => nil},
        arg0: "echo",
        stderr_to_stdout: true,
        parallelism: true
      ]

      assert {["hello\n"], 0} = NetRunner.cmd("echo", ["hello"], opts)
      assert {"", 1} = NetRunner.cmd("false", [])
      assert {"", 143} = NetRunner.cmd("sh", ["-c", "kill $$"])

      assert {"out\nerr\n", 0} =
               NetRunner.cmd("sh", ["-c", "echo out; echo err >&2"], stderr_to_stdout: true)

      assert {"err\n", 0} =
               NetRunner.cmd("sh", ["-c", "echo out; echo err >&2"], capture_stderr_only: true)

      assert :enoent = catch_error(NetRunner.cmd("no-such-program", []))
      assert :eacces = catch_error(NetRunner.cmd("/etc/passwd", []))
      assert_raise ArgumentError, ~r/null byte/, fn -> NetRunner.cmd("null\0byte", []) end
      assert_raise ArgumentError, ~r/must be binaries/, fn -> NetRunner.cmd("ls", [~c"/usr"]) end
      assert {"in", 0} = NetRunner.cmd("cat", [], input: "in")
      assert {"", 0} = NetRunner.cmd("cat", [])
    end

    test "lines" do
      printf = &NetRunner.cmd("printf", [&1], &2)
      assert {["a", "", "b"], 0} = printf.("a\\n\\nb", lines: 1024)
      assert {["a", "b"], 0} = printf.("a\\nb\\n", lines: 1024)
      assert {["abc", "de", "f"], 0} = printf.("abcde\\nf", lines: 3)
      assert {[], 0} = printf.("", lines: 3)
      assert {MapSet.new(["a", "b"]), 0} == printf.("a\\nb", lines: 3, into: MapSet.new())
      assert_raise ArgumentError, fn -> printf.("a", lines: 0) end
    end

    test "timeout" do
      marker = marker()
      script = "echo start; sleep #{marker}"
      assert {"start\n", :timeout} = NetRunner.cmd("sh", ["-c", script], timeout: 200)
      assert [] = marked(marker)
      send(self(), {:timeout, :mine})
      assert {"", :timeout} = NetRunner.cmd("sleep", [marker], timeout: 20)
      assert_received {:timeout, :mine}
      assert_nothing_received()
    end

    test "a collectable that raises" do
      marker = marker()
      into = %NetRunner.TestSupport.Raises{test: self()}

      assert_raise RuntimeError, "full", fn ->
        NetRunner.cmd("sh", ["-c", "sleep #{marker} & yes"], into: into)
      end

      assert_received :halted
      assert [] = marked(marker)
    end

    test "users and groups" do
      if System.cmd("id", ["-u"]) == {"0\n", 0} do
        id = &NetRunner.cmd("sh", ["-c", "id -u; id -g; id -G"], &1)
        assert {"65534\n65534\n65534\n", 0} = id.(uid: "nobody")

        assert {"65534\n12\n65534\n" = _, 0} =
                 id.(uid: "nobody", gid: 12, groups: ["nogroup"]) |> normal()

        assert {"1\n1\n1 2\n", 0} = id.(uid: 1, gid: 1, groups: [1, 2])
        assert {"0\n1\n1\n", 0} = id.(gid: "daemon", groups: [])
      else
        assert :eperm = catch_error(NetRunner.cmd("id", [], uid: 0))
      end
    end
  end

  # The group itself is among the groups that id(1) prints.
  defp normal({output, status}), do: {String.replace(output, "12 65534", "65534"), status}
end
