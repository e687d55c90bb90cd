# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

module NetRunner
  # What is to be run, and how, on its way to the library's struct.
  class Options # :nodoc:
    KEYS = %i[
      chdir unsetenv_others stdin stdout stderr fds pipe_size pty echo session
      timeout kill_timeout output_limit linger own_shepherd pid_namespace no_new_privs
      uid gid groups umask nice rlimits cgroup_base cgroup_path cgroup shepherd
    ].freeze

    FLAGS = {
      session: Library::SESSION, linger: Library::LINGER, own_shepherd: Library::OWN_SHEPHERD,
      pid_namespace: Library::PID_NAMESPACE, no_new_privs: Library::NO_NEW_PRIVS
    }.freeze
    private_constant :FLAGS

    # The program's name.
    attr_reader :name

    # Streams of other programs that this one gets.
    attr_reader :handed_over

    # +command+ is [env,] program, argument..., as of Process.spawn.
    def initialize(command, options)
      unknown = options.keys - KEYS
      raise ArgumentError, "unknown keyword: #{unknown.first.inspect}" unless unknown.empty?

      env, command = split(command)
      @options = options
      @memory = []
      @handed_over = []
      @name = command.first
      @struct = { flags: flags }
      fill_command(env, command)
      fill_streams
      fill_limits
      fill_identity
      fill_cgroup
    end

    # Starts the program and returns its handle.
    def spawn
      why = Library.memory("\0" * 512)
      options = Library.memory(Library.pack(Library::OPTIONS, **@struct))
      handle = Library.call(:nr_spawn, options, why, why.size)
      raise Library.error(handle, why.to_s) if handle.negative?

      handle
    rescue RangeError => e
      raise ArgumentError, e.message
    end

    def linger?
      @options[:linger] ? true : false
    end

    private

    def split(command)
      command = command.dup
      env = command.first.respond_to?(:to_hash) ? command.shift.to_hash : {}
      raise ArgumentError, "no program given" if command.empty?

      # ["program", "name"], as of Process.spawn.
      if command.first.is_a?(Array)
        raise ArgumentError, "[program, name] expected" unless command.first.size == 2

        @file, command[0] = command.first
      end
      [env, command.map { |word| string(word, "argument") }]
    end

    def string(value, what)
      value = value.to_path if value.respond_to?(:to_path)
      raise TypeError, "#{what}: String expected, not #{value.inspect}" unless value.respond_to?(:to_str)

      value = value.to_str.b
      raise ArgumentError, "#{what}: contains a null byte: #{value.inspect}" if value.include?("\0")

      value
    end

    # The address of a copy.
    def address(bytes)
      @memory << Library.memory(bytes)
      @memory.last.to_i
    end

    def string_address(name)
      value = @options[name]
      value.nil? ? 0 : address("#{string(value, name)}\0")
    end

    # The address of an array of strings, with NULL at its end.
    def list(strings)
      base = address(strings.map { |text| "#{text}\0" }.join)
      pointers = strings.map { |text| base.tap { base += text.bytesize + 1 } }
      address([*pointers, 0].pack("J*"))
    end

    def flags
      flags = FLAGS.sum { |name, flag| @options[name] ? flag : 0 }
      flags |= Library::PTY if @options[:pty]
      flags |= Library::PTY_NOECHO if @options[:echo] == false
      flags | Library::ASYNC
    end

    def fill_command(env, command)
      @struct[:argv] = list(command)
      @struct[:file] = address("#{string(@file, "program")}\0") if @file
      @struct[:cwd] = string_address(:chdir)
      @struct[:shepherd] = string_address(:shepherd)
      return if env.empty? && !@options[:unsetenv_others]

      all = @options[:unsetenv_others] ? {} : ENV.to_h
      env.each do |key, value|
        key = string(key, "environment")
        raise ArgumentError, "environment: bad name #{key.inspect}" if key.empty? || key.include?("=")

        value.nil? ? all.delete(key) : all[key] = string(value, "environment")
      end
      @struct[:env] = list(all.map { |key, value| "#{key.b}=#{value.b}" })
    end

    def fill_streams
      { stdin: :in, stdout: :out, stderr: :err }.each do |name, field|
        @struct[:"#{field}_mode"], @struct[:"#{field}_fd"] = stdio(name, @options[name])
      end
      fds = (@options[:fds] || {}).map { |target, io| [descriptor(io, :fds), Integer(target)] }
      @struct[:fds] = address(fds.flatten.pack("l*"))
      @struct[:nfds] = fds.size
      @struct[:pipe_size] = number(:pipe_size)
      return if [nil, false, true].include?(@options[:pty])

      @struct[:rows], @struct[:cols] = @options[:pty].map { |size| within(Integer(size), 0..65_535, :pty) }
    end

    def stdio(name, value)
      case value
      when nil then [Library::STDIO_AUTO, 0]
      when :pipe then [Library::STDIO_PIPE, 0]
      when :null then [Library::STDIO_NULL, 0]
      when :inherit then [Library::STDIO_INHERIT, 0]
      when :stdout, %i[child out]
        raise ArgumentError, "#{name}: #{value.inspect} is for stderr" unless name == :stderr

        [Library::STDIO_STDOUT, 0]
      when Symbol then raise ArgumentError, "#{name}: no such stream: #{value.inspect}"
      else [Library::STDIO_FD, descriptor(value, name)]
      end
    end

    def descriptor(value, name)
      case value
      when Integer then value
      when Stream
        @handed_over << value
        value.hand_over
      else
        raise TypeError, "#{name}: IO expected, not #{value.inspect}" unless value.respond_to?(:to_io)

        io = value.to_io
        io.flush if io.respond_to?(:flush) && writable?(io)
        io.fileno
      end
    end

    def writable?(io)
      (io.fcntl(Fcntl::F_GETFL) & Fcntl::O_ACCMODE) != Fcntl::O_RDONLY
    end

    def fill_limits
      @struct[:timeout_ms] = [milliseconds(:timeout), 1].max if @options[:timeout]
      if @options[:kill_timeout]
        grace = milliseconds(:kill_timeout)
        @struct[:kill_timeout_ms] = grace.zero? ? Library::KILL_NOW : grace
      end
      if @options[:output_limit]
        @struct[:output_limit] = number(:output_limit)
        raise ArgumentError, "output_limit: must be positive; for no output use :null" if @struct[:output_limit].zero?
      end
      rlimits = (@options[:rlimits] || {}).map { |resource, limits| rlimit(resource, limits) }
      @struct[:rlimits] = address(rlimits.join)
      @struct[:nrlimits] = rlimits.size
    end

    # Rounded up. Some 290 years are for ever.
    def milliseconds(name)
      seconds = @options[name]
      raise TypeError, "#{name}: seconds expected, not #{seconds.inspect}" unless seconds.is_a?(Numeric)
      raise ArgumentError, "#{name}: #{seconds} seconds" if seconds.negative? || (seconds.is_a?(Float) && seconds.nan?)

      [seconds, 9_000_000_000].min.*(1000).ceil
    end

    def number(name)
      within(Integer(@options[name] || 0), 0..(1 << 63) - 1, name)
    end

    def within(value, range, name)
      raise ArgumentError, "#{name}: #{value} is not in #{range}" unless range.cover?(value)

      value
    end

    # resource => limit or [soft, hard], as of Process.setrlimit.
    def rlimit(resource, limits)
      unless resource.is_a?(Integer)
        name = "RLIMIT_#{resource.to_s.upcase}"
        raise ArgumentError, "rlimits: no resource #{resource.inspect}" unless ::Process.const_defined?(name)

        resource = ::Process.const_get(name)
      end
      soft, hard = Array(limits).map { |limit| limit == :infinity ? Library::UNKNOWN : Integer(limit) }
      hard ||= soft
      [soft, hard].each { |limit| within(limit, 0..Library::UNKNOWN, :rlimits) }
      [resource, 0, soft, hard].pack("l2Q2")
    end

    def fill_identity
      set = ->(name, flag) { @struct[:flags] |= flag if @options[name] }
      { uid: Library::SET_UID, gid: Library::SET_GID, umask: Library::SET_UMASK }.each do |name, flag|
        @struct[name] = within(Integer(@options[name] || 0), 0..0xffff_fffe, name)
        set.(name, flag)
      end
      @struct[:nice] = within(Integer(@options[:nice] || 0), -20..19, :nice)
      set.(:nice, Library::SET_NICE)
      groups = (@options[:groups] || []).map { |id| within(Integer(id), 0..0xffff_fffe, :groups) }
      @struct[:groups] = address(groups.pack("L*"))
      @struct[:ngroups] = groups.size
      set.(:groups, Library::SET_GROUPS)
    end

    def fill_cgroup
      @struct[:cgroup_base] = string_address(:cgroup_base)
      @struct[:cgroup_path] = string_address(:cgroup_path)
      settings = (@options[:cgroup] || {}).map { |file, value| string("#{file}=#{value}", "cgroup") }
      @struct[:cgroup_set] = list(settings) unless settings.empty?
    end
  end
  private_constant :Options
end
