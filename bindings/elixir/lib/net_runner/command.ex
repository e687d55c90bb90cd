# SPDX-License-Identifier: Apache-2.0
defmodule NetRunner.Command do
  @moduledoc """
  Commands as data: a program, arguments and options.

      defmodule Tools do
        use NetRunner.Command

        defcommand :upcase, "tr", args: ["a-z", "A-Z"]
        defcommand :curl, "curl", args: ["-s", "-L"], timeout: 10_000
      end

      NetRunner.run(Tools.curl(["https://example.com"]))
      NetRunner.run(Tools.curl(["https://example.com"]), timeout: 60_000)
      NetRunner.stream!(Tools.upcase(), input: "hello")

  Or without a module:

      iex> cmd = NetRunner.Command.new("echo", ["hello"], timeout: 5_000)
      iex> NetRunner.run(cmd)
      {"hello\\n", 0}
  """

  @enforce_keys [:executable]
  defstruct [:executable, args: [], opts: []]

  @type t :: %__MODULE__{executable: String.t(), args: [String.t()], opts: keyword()}

  @doc """
  Makes a command.

      iex> NetRunner.Command.new("ls", ["-l"])
      %NetRunner.Command{executable: "ls", args: ["-l"], opts: []}
  """
  @spec new(String.t(), [String.t()], keyword()) :: t()
  def new(executable, args \\ [], opts \\ []) do
    check!("executable", executable, is_binary(executable), "a string")
    check!("args", args, is_list(args), "a list")
    %__MODULE__{executable: executable, args: args, opts: opts}
  end

  @doc """
  The parts of a command. Options given here replace those of the command.

      iex> cmd = NetRunner.Command.new("echo", ["hi"], timeout: 5_000)
      iex> NetRunner.Command.to_cmd_args_opts(cmd, timeout: 100, stderr: :redirect)
      {"echo", ["hi"], [timeout: 100, stderr: :redirect]}
  """
  @spec to_cmd_args_opts(t(), keyword()) :: {String.t(), [String.t()], keyword()}
  def to_cmd_args_opts(%__MODULE__{} = command, opts \\ []) do
    {command.executable, command.args, Keyword.merge(command.opts, opts)}
  end

  @doc false
  defmacro __using__(_opts) do
    quote do
      import NetRunner.Command, only: [defcommand: 2, defcommand: 3]
      Module.register_attribute(__MODULE__, :net_runner_commands, accumulate: true)
      @before_compile NetRunner.Command
    end
  end

  @doc false
  defmacro __before_compile__(env) do
    names = env.module |> Module.get_attribute(:net_runner_commands) |> Enum.reverse()

    quote do
      @doc "The names of the commands of this module, in their order."
      @spec __commands__() :: [atom()]
      def __commands__, do: unquote(names)
    end
  end

  @doc """
  Defines a function `name(extra_args \\\\ [])` that returns a command.

  `:args` of the options are the first arguments; the other options are those of the
  command. A list of strings instead of options is the arguments alone.
  """
  defmacro defcommand(name, executable, opts \\ []) do
    quote bind_quoted: [name: name, executable: executable, opts: opts] do
      {args, opts} = NetRunner.Command.__define__(executable, opts)
      @net_runner_commands name
      @doc "The command `#{executable}`, with further arguments."
      @spec unquote(name)([String.t()]) :: NetRunner.Command.t()
      def unquote(name)(extra_args \\ []) do
        %NetRunner.Command{
          executable: unquote(executable),
          args: unquote(args) ++ extra_args,
          opts: unquote(Macro.escape(opts))
        }
      end
    end
  end

  @doc false
  def __define__(executable, [arg | _] = args) when is_binary(arg),
    do: __define__(executable, args: args)

  def __define__(executable, opts) do
    {args, opts} = Keyword.pop(opts, :args, [])
    check!("defcommand executable", executable, is_binary(executable), "a string")
    check!("defcommand :args", args, is_list(args), "a list")
    {args, opts}
  end

  defp check!(_, _, true, _), do: :ok

  defp check!(what, value, false, wanted),
    do: raise(ArgumentError, "#{what} must be #{wanted}, got: #{inspect(value)}")
end
