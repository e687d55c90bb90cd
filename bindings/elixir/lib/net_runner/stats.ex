# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Process.Stats do
  @moduledoc """
  What a program has read, written and used; nil is what is not known.

    * `:bytes_in`, `:bytes_out`, `:bytes_err`: written to stdin, read from stdout and
      stderr
    * `:read_count`, `:write_count`: calls that moved bytes
    * `:started_at`: in milliseconds of `System.monotonic_time/1`
    * `:duration_ms`: from start to end, nil while the program runs
    * `:exit_status`: nil while the program runs
    * `:usage`: a map of the rest, such as `:user_ns`, `:system_ns`, `:memory_peak` (bytes),
      and, with a cgroup, `:memory` and `:processes`
  """

  defstruct bytes_in: 0,
            bytes_out: 0,
            bytes_err: 0,
            started_at: nil,
            duration_ms: nil,
            read_count: 0,
            write_count: 0,
            exit_status: nil,
            usage: %{}

  @type t :: %__MODULE__{
          bytes_in: non_neg_integer(),
          bytes_out: non_neg_integer(),
          bytes_err: non_neg_integer(),
          started_at: integer() | nil,
          duration_ms: non_neg_integer() | nil,
          read_count: non_neg_integer(),
          write_count: non_neg_integer(),
          exit_status: 0..255 | nil,
          usage: %{atom() => non_neg_integer() | nil}
        }

  @doc false
  def new(stats) do
    {known, usage} =
      stats
      |> NetRunner.Process.nils()
      |> Map.split([
        :stdin_bytes,
        :stdout_bytes,
        :stderr_bytes,
        :started_at,
        :wall_ns,
        :reads,
        :writes,
        :status
      ])

    %__MODULE__{
      bytes_in: known.stdin_bytes,
      bytes_out: known.stdout_bytes,
      bytes_err: known.stderr_bytes,
      started_at: known.started_at,
      duration_ms: known.status && div(known.wall_ns, 1_000_000),
      read_count: known.reads,
      write_count: known.writes,
      exit_status: known.status,
      usage: usage
    }
  end
end
