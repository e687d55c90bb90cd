# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :net_runner,
      version: @version,
      elixir: "~> 1.14",
      description: "Runs operating system processes, and does not leave them behind",
      deps: deps(),
      docs: docs(),
      package: [licenses: ["Apache-2.0"]],
      # Tests have protocols of their own.
      consolidate_protocols: Mix.env() != :test
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end

  # No hex package: the Erlang binding beside this one is built with its Makefile.
  defp deps do
    [
      {:netrunner,
       path: System.get_env("NETRUNNER_ERLANG", "../erlang"), manager: :make, compile: "make -s"}
    ]
  end

  # For ex_doc, where it is installed.
  defp docs do
    [
      main: "NetRunner",
      source_ref: "v#{@version}",
      extras: ["../../docs/migrating.md"],
      groups_for_modules: [
        Processes: [NetRunner.Process, NetRunner.Process.Stats, NetRunner.Daemon],
        Commands: [NetRunner.Command, NetRunner.Signal],
        Streams: [NetRunner.Stream, NetRunner.Stream.Sink],
        Exceptions: [NetRunner.Error, NetRunner.Stream.AbnormalExit]
      ]
    ]
  end
end
