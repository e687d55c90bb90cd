# SPDX-License-Identifier: Apache-2.0
defmodule UpcaserTest do
  use ExUnit.Case

  test "asks, survives the server's end, and stops" do
    assert {:ok, "HELLO"} = Upcaser.Client.ask("hello")
    first = Process.whereis(Upcaser.Client)
    :ok = NetRunner.Daemon.kill(Upcaser.Server, :sigkill)
    wait(fn -> Process.whereis(Upcaser.Client) not in [first, nil] end)
    assert {:ok, "HELLO AGAIN"} = Upcaser.Client.ask("hello again")
    os_pid = NetRunner.Daemon.os_pid(Upcaser.Server)
    :ok = Application.stop(:upcaser)
    refute File.exists?("/proc/#{os_pid}")
  end

  defp wait(fun), do: fun.() || (Process.sleep(10) && wait(fun))
end
