# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.DocTest do
  use ExUnit.Case, async: true

  doctest NetRunner
  doctest NetRunner.Command
  doctest NetRunner.Process
  doctest NetRunner.Signal
end
