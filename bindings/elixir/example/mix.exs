# SPDX-License-Identifier: Apache-2.0
defmodule Upcaser.MixProject do
  use Mix.Project

  def project do
    [
      app: :upcaser,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:net_runner, path: ".."}]
    ]
  end

  def application do
    [mod: {Upcaser.Application, []}, extra_applications: [:logger]]
  end
end
