# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

module NetRunner
  # How a program ended, like ::Process::Status, with a reason.
  class Status
    # The program's process id.
    attr_reader :pid

    # The exit code, 0 to 255, or nil if a signal ended it.
    attr_reader :exitstatus

    # The number of the signal that ended it, or nil.
    attr_reader :termsig

    # On whose behalf it ended:
    #
    # [:own]           by itself, or by the signal of somebody else
    # [:killed]        by this process: kill, stop, signal, close
    # [:timeout]       its time was up
    # [:output_limit]  it wrote more than it may
    # [:out_of_memory] the kernel killed it for its cgroup's memory limit
    attr_reader :reason

    def initialize(pid, exitstatus:, termsig:, reason:, coredump:) # :nodoc:
      @pid = pid
      @exitstatus = exitstatus
      @termsig = termsig
      @reason = reason
      @coredump = coredump
      freeze
    end

    # Whether it exited with code 0; nil if it did not exit.
    def success?
      exitstatus&.zero?
    end

    # Whether it exited.
    def exited?
      !exitstatus.nil?
    end

    # Whether a signal ended it.
    def signaled?
      !termsig.nil?
    end

    # Whether it dumped core.
    def coredump?
      @coredump
    end

    # Whether its time was up.
    def timeout?
      reason == :timeout
    end

    # The number that wait(2) would give.
    def to_i
      return exitstatus << 8 if exited?

      coredump? ? termsig | 0x80 : termsig
    end

    # "pid 123 exit 1", "pid 123 SIGKILL (signal 9), timeout"
    def to_s
      "pid #{pid} #{in_words}"
    end

    # Without the pid.
    def in_words # :nodoc:
      how = exited? ? "exit #{exitstatus}" : "SIG#{Signal.signame(termsig)} (signal #{termsig})"
      how += " (core dumped)" if coredump?
      reason == :own ? how : "#{how}, #{reason.to_s.tr("_", " ")}"
    end

    def inspect
      "#<#{self.class}: #{self}>"
    end

    def ==(other)
      other.is_a?(Status) && [pid, to_i, reason] == [other.pid, other.to_i, other.reason]
    end
    alias eql? ==

    def hash
      [pid, to_i, reason].hash
    end
  end

  # How a program ended, and what it wrote.
  #
  #   result = NetRunner.run("sort", input: "b\na\n")
  #   result.stdout          # => "a\nb\n"
  #   result.success?        # => true
  #   out, err, status = *result
  class Result
    # What it wrote to stdout, or the screen of its terminal; nil if that was not
    # a pipe.
    attr_reader :stdout

    # What it wrote to stderr; nil if that was not a pipe.
    attr_reader :stderr

    # A Status.
    attr_reader :status

    def initialize(stdout, stderr, status) # :nodoc:
      @stdout = stdout
      @stderr = stderr
      @status = status
    end

    def success?
      status.success?
    end

    # For multiple assignment, in the order of Open3.capture3.
    def to_a
      [stdout, stderr, status]
    end
    alias to_ary to_a
    alias deconstruct to_a

    def deconstruct_keys(_keys) # :nodoc:
      { stdout: stdout, stderr: stderr, status: status }
    end
  end

  # A program did not exit with code 0, where +exception: true+ asked to be told.
  class Failed < StandardError
    # What came of the program.
    attr_reader :result

    def initialize(name, result) # :nodoc:
      @result = result
      super("#{name}: #{result.status.in_words}")
    end

    # How it ended.
    def status
      result.status
    end
  end

  # Numbers about a program; nil is not known. Times are in seconds, the rest are
  # bytes or counts. +memory+ and +processes+ are known with a cgroup only, what
  # is below them after the end only.
  Stats = Struct.new(
    :stdin_bytes, :stdout_bytes, :stderr_bytes, :writes, :reads, :wall, :user, :system,
    :memory, :memory_peak, :processes, :minor_faults, :major_faults, :blocks_in, :blocks_out,
    :voluntary_switches, :involuntary_switches, keyword_init: true
  )
end
