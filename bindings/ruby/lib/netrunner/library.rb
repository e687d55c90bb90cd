# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require "fiddle"

module NetRunner
  # The C functions and structs of netrunner.h. Nothing in here blocks: Fiddle's
  # calls can't be interrupted, so whoever has to wait does it in Ruby.
  module Library # :nodoc:
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3

    STDIO_AUTO = 0
    STDIO_PIPE = 1
    STDIO_NULL = 2
    STDIO_INHERIT = 3
    STDIO_FD = 4
    STDIO_STDOUT = 5

    PTY = 1 << 0
    PTY_NOECHO = 1 << 1
    SESSION = 1 << 2
    ASYNC = 1 << 3
    LINGER = 1 << 4
    OWN_SHEPHERD = 1 << 5
    PID_NAMESPACE = 1 << 6
    NO_NEW_PRIVS = 1 << 7
    SET_UID = 1 << 16
    SET_GID = 1 << 17
    SET_GROUPS = 1 << 18
    SET_UMASK = 1 << 19
    SET_NICE = 1 << 20

    KILL_NOW = -1

    REASONS = { 0 => :own, 1 => :killed, 2 => :timeout, 3 => :output_limit, 4 => :out_of_memory }.freeze

    # Fields in the header's order, with their directives of Array#pack. There is
    # no padding in these structs, which a test compares with the header.
    OPTIONS = {
      size: "J", flags: "Q", argv: "J", file: "J", env: "J", cwd: "J",
      in_mode: "l", in_fd: "l", out_mode: "l", out_fd: "l", err_mode: "l", err_fd: "l",
      fds: "J", nfds: "J", pipe_size: "L", reserved0: "L", rows: "S", cols: "S", umask: "L",
      timeout_ms: "q", kill_timeout_ms: "q", output_limit: "Q", uid: "L", gid: "L",
      groups: "J", ngroups: "J", rlimits: "J", nrlimits: "J",
      cgroup_base: "J", cgroup_path: "J", cgroup_set: "J", nice: "l", reserved: "l", shepherd: "J"
    }.freeze
    OUTCOME = { size: "J", code: "l", signal: "l", reason: "l", core: "l" }.freeze
    STATISTICS = {
      size: "J", stdin_bytes: "Q", stdout_bytes: "Q", stderr_bytes: "Q", writes: "Q", reads: "Q",
      wall_ns: "Q", user_ns: "Q", system_ns: "Q", memory: "Q", memory_peak: "Q", processes: "Q",
      minor_faults: "Q", major_faults: "Q", blocks_in: "Q", blocks_out: "Q",
      voluntary_switches: "Q", involuntary_switches: "Q"
    }.freeze

    UNKNOWN = (1 << 64) - 1

    class << self
      # The bytes of a struct, zero where nothing is given.
      def pack(fields, **values)
        unknown = values.keys - fields.keys
        raise ArgumentError, "no such field: #{unknown.first}" unless unknown.empty?

        values[:size] = size(fields)
        fields.keys.map { |name| values.fetch(name, 0) }.pack(fields.values.join)
      end

      def size(fields)
        fields.keys.map { 0 }.pack(fields.values.join).bytesize
      end

      def unpack(fields, bytes)
        fields.keys.zip(bytes.unpack(fields.values.join)).to_h
      end

      # Memory that does not move, with these bytes, until it is collected.
      def memory(bytes)
        pointer = Fiddle::Pointer.malloc([bytes.bytesize, 1].max, Fiddle::RUBY_FREE)
        pointer[0, bytes.bytesize] = bytes unless bytes.empty?
        pointer
      end

      # Calls a function of the library.
      def call(name, *arguments)
        functions.fetch(name).call(*arguments)
      end

      # As #call; a negative result is raised.
      def check(name, *arguments)
        result = call(name, *arguments)
        result.negative? ? raise(error(result)) : result
      end

      # The SystemCallError for a negative result, of the class Errno::... .
      def error(result, why = nil)
        why = EXPLANATIONS[-result] if why.nil? || why.empty?
        # Ruby's own text of the errno comes before it.
        SystemCallError.new(why&.sub(/: #{Regexp.escape(strerror(result))}\z/i, ""), -result)
      end

      def strerror(result)
        call(:nr_strerror, result).to_s
      end

      def version
        call(:nr_version_string).to_s
      end

      # The path of the shared object.
      def path
        functions
        @path
      end

      private

      LOADING = Mutex.new
      private_constant :LOADING

      # Loading starts nothing, the first spawn does.
      def functions
        @functions || LOADING.synchronize { @functions ||= load }
      end

      # The one of $NETRUNNER_LIBRARY, of the gem, of the repository, of the system.
      def load
        candidates = [
          File.expand_path("libnetrunner.so.0", __dir__),
          File.expand_path("../../../../build/libnetrunner.so.0", __dir__)
        ]
        @path = ENV["NETRUNNER_LIBRARY"] || candidates.find { |path| File.exist?(path) } || "libnetrunner.so.0"
        handle = Fiddle.dlopen(@path)
        SIGNATURES.to_h do |name, (result, arguments, quick)|
          [name, Fiddle::Function.new(handle[name.to_s], arguments, result, name: name.to_s, need_gvl: quick)]
        end.freeze
      rescue Fiddle::DLError => e
        raise LoadError, "libnetrunner: #{e.message}; set NETRUNNER_LIBRARY to the path of libnetrunner.so"
      end
    end

    # What these mean here.
    EXPLANATIONS = {
      Errno::ECHILD::Errno => "this process is a fork of the one that uses libnetrunner",
      Errno::EOWNERDEAD::Errno => "the shepherd was killed, and the program with it: how it ended is not known",
      Errno::EFBIG::Errno => "the program's output exceeds its limit"
    }.freeze
    private_constant :EXPLANATIONS

    int = Fiddle::TYPE_INT
    long = Fiddle::TYPE_LONG # 64 bits, as all systems have it that this runs on
    pointer = Fiddle::TYPE_VOIDP
    size = -Fiddle::TYPE_LONG
    short = -Fiddle::TYPE_SHORT
    # name => result, arguments, and whether it is so quick that letting other
    # threads run meanwhile would cost more than it brings.
    SIGNATURES = {
      nr_version: [-int, [], true],
      nr_version_string: [pointer, [], true],
      nr_strerror: [pointer, [int], true],
      nr_errname: [pointer, [int], true],
      nr_spawn: [long, [pointer, pointer, size], false],
      nr_why: [int, [long, pointer, size], true],
      nr_pid: [int, [long], true],
      nr_fd: [int, [long, int], true],
      nr_read: [long, [long, int, pointer, size], true],
      nr_write: [long, [long, pointer, size], true],
      nr_close: [int, [long, int], true],
      nr_winsize: [int, [long, short, short], true],
      nr_kill: [int, [long, int], false],
      nr_stop: [int, [long], false],
      nr_wait: [int, [long, int, pointer], true],
      nr_stats: [int, [long, pointer], true],
      nr_cgroup_get: [long, [long, pointer, pointer, size], false],
      nr_cgroup_set: [int, [long, pointer, pointer], false],
      nr_release: [int, [long], false]
    }.freeze
    private_constant :SIGNATURES
  end
  private_constant :Library
end
