# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require "fcntl"
require "fiber"

require_relative "netrunner/version"
require_relative "netrunner/library"
require_relative "netrunner/status"
require_relative "netrunner/streams"
require_relative "netrunner/options"
require_relative "netrunner/process"

# Runs operating system processes, and never loses one.
#
#   NetRunner.run("sort", input: "b\na\n", timeout: 10).stdout   # => "a\nb\n"
#
#   NetRunner.spawn("bc", "-q") do |bc|
#     bc.stdin.puts "6 * 7"
#     bc.stdout.gets                                             # => "42\n"
#   end
#
# == Commands
#
# A command is <tt>[env,] program, argument...</tt>, as of Process.spawn, but a
# shell is never involved: <tt>"ls -l"</tt> is the name of a program. The program
# is looked up in PATH, that of +env+ if it has one. <tt>[program, name]</tt> gives
# it another argv[0]. In +env+ a nil removes a variable.
#
# == Options
#
# Streams: +stdin+, +stdout+ and +stderr+ are +:pipe+, +:null+, +:inherit+, an IO,
# the number of a descriptor, or a stream of another program, which is handed
# over and closed here; +stderr+ may also be +:stdout+. +fds+ is
# <tt>{ number => IO }</tt>; all other descriptors are closed in the program.
# +pipe_size+ is in bytes.
#
# Terminal: <tt>pty: true</tt> or <tt>pty: [rows, columns]</tt> runs the program on a
# terminal of its own: stdin types, stdout is the screen. <tt>echo: false</tt> hides
# what is typed.
#
# Ending, in seconds: after +timeout+ the tree is stopped, that is SIGTERM,
# +kill_timeout+ of grace (5 if not given; 0 is none), SIGKILL. +output_limit+ is
# the number of bytes that will be read; when there are more the tree is killed.
# <tt>linger: true</tt> leaves what the program has started alive when it ends, until it is
# closed.
#
# Surroundings: +chdir+, +unsetenv_others+, +umask+, +nice+, +uid+, +gid+, +groups+, +session+,
# +no_new_privs+, +pid_namespace+, +own_shepherd+, <tt>rlimits: { nofile: 64, cpu: [1, 2] }</tt>,
# +cgroup_base+, +cgroup_path+, <tt>cgroup: { "memory.max" => 1 << 28 }</tt>, +shepherd+ (a path).
#
# == Errors
#
# A program that can't be executed is the SystemCallError of what the kernel said,
# such as Errno::ENOENT, and its message names the step that failed. A bad option
# is an ArgumentError, a TypeError or Errno::EINVAL. Errno::ENOPKG: no usable
# netrunner-shepherd. Errno::ECHILD: this process is a fork of the one that has
# used the library.
module NetRunner
  class << self
    # Runs a program, waits for its end, and returns a Result with what it wrote.
    #
    # +input+ is its stdin, which otherwise is empty. Output is text in
    # Encoding.default_external, or bytes with <tt>binmode: true</tt>. A program
    # that fails, is out of time, or writes too much is no error, but with
    # <tt>exception: true</tt> a Failed. Other options are those of NetRunner.
    #
    # When it is interrupted, the program is stopped.
    def run(*command, input: nil, binmode: false, exception: false, **options)
      raise ArgumentError, "both input and stdin are given" if input && options.key?(:stdin)

      streams = { stdin: input ? :pipe : :null, stdout: :pipe, stderr: :pipe }
      streams = {} if options[:pty]
      name = nil
      result = start(command, { **streams, **options }) do |process|
        name = process.name
        [process.stdout, process.stderr].compact.each(&:binmode) if binmode
        process.communicate(input)
      ensure
        process.abandon
      end
      raise Failed.new(name, result) if exception && !result.success?

      result
    end

    # Starts a program and returns its Process when it has been executed. stdin
    # and stdout are pipes, stderr is inherited, if not set otherwise.
    #
    # With a block it yields the process, closes it (Process#close) when the
    # block returns or raises, and returns what the block does: nothing of the
    # program is left then.
    def spawn(*command, **options)
      return start(command, options) unless block_given?

      start(command, options) do |process|
        yield process
      ensure
        process.close
      end
    end

    # The version of the library.
    def library_version
      Library.version
    end

    private

    def start(command, options)
      prepared = Options.new(command, options)
      Process.start(prepared) do |process|
        prepared.handed_over.each(&:close)
        block_given? ? yield(process) : process
      end
    end
  end
end
