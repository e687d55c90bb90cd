# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.CommandTest do
  use ExUnit.Case, async: true
  alias NetRunner.Command

  defmodule Tools do
    use NetRunner.Command

    defcommand :upcase, "tr", args: ["a-z", "A-Z"], timeout: 60_000
    defcommand :echo, "echo"
    defcommand :greet, "echo", ["hello", "there"]
  end

  defmodule Nothing do
    use NetRunner.Command
  end

  test "defcommand" do
    assert [:upcase, :echo, :greet] = Tools.__commands__()
    assert [] = Nothing.__commands__()

    assert %Command{executable: "tr", args: ["a-z", "A-Z"], opts: [timeout: 60_000]} =
             Tools.upcase()

    assert %Command{executable: "echo", args: ["-n", "hi"], opts: []} = Tools.echo(["-n", "hi"])
    assert {"hello there you\n", 0} = NetRunner.run(Tools.greet(), args: ["you"])
    assert {:ok, stream} = NetRunner.stream(Tools.echo(), args: ["you"])
    assert ["you\n"] = Enum.to_list(stream)
    assert {"HELLO", 0} = NetRunner.run(Tools.upcase(), input: "hello")
    assert "HELLO" = Tools.upcase() |> NetRunner.stream!(input: "hello") |> Enum.join()
    assert {:ok, stream} = NetRunner.stream(Tools.echo(["hi"]))
    assert ["hi\n"] = Enum.to_list(stream)
  end

  test "what is wrong" do
    for args <- [[1], ["echo", "args"]] do
      assert_raise ArgumentError, fn -> apply(Command, :new, args) end
    end

    for bad <- [~S|defcommand :a, 1|, ~S|defcommand :a, "a", args: "b"|] do
      assert_raise ArgumentError, fn ->
        Code.eval_string("defmodule Bad do\nuse NetRunner.Command\n#{bad}\nend")
      end
    end
  end
end
