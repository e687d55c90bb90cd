# SPDX-License-Identifier: Apache-2.0
defmodule Upcaser.Application do
  @moduledoc """
  A server that is an external program, and a client that talks to it. They live and die
  together: `:rest_for_one`.
  """
  use Application

  # Stands for any server: it answers each line, logs to stderr, and ends well on SIGTERM.
  @server """
  trap 'echo closed >&2; exit 0' TERM
  while read -r line; do echo "$line" | tr a-z A-Z; echo "served $line" >&2; done
  """

  @impl true
  def start(_type, _args) do
    children = [
      {NetRunner.Daemon,
       cmd: "sh",
       args: ["-c", @server],
       name: Upcaser.Server,
       logger_fun: {Upcaser.Client, :answer},
       kill_timeout: 2_000},
      Upcaser.Client
    ]

    Supervisor.start_link(children, strategy: :rest_for_one, name: Upcaser.Supervisor)
  end
end
