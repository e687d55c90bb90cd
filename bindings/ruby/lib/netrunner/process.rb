# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

module NetRunner
  # A running or ended program. NetRunner.spawn makes it.
  #
  # Its methods may be called by any thread. Those that wait can be interrupted
  # (Timeout, Thread#raise, Thread#kill) and let other fibers run where there is
  # a Fiber scheduler.
  #
  # A program runs until it ends, or until it is stopped, or until this process
  # ends: that nobody holds its object any more does not stop it.
  class Process
    # The program's process id. After its end it may be somebody else's: use
    # #signal, not ::Process.kill.
    attr_reader :pid

    # The program, as it was given.
    attr_reader :name

    # A Writer, or nil if stdin is not connected to this process.
    attr_reader :stdin

    # A Reader, or nil.
    attr_reader :stdout

    # A Reader, or nil.
    attr_reader :stderr

    class << self
      # Running processes, which the collector must leave alone.
      RUNNING = {} # rubocop:disable Style/MutableConstant
      private_constant :RUNNING

      def hold(handle, process) # :nodoc:
        # Some look from time to time for those that have ended, unseen.
        if RUNNING.size >= (@look_at ||= 32)
          RUNNING.each_value.to_a.each(&:poll_quietly)
          @look_at = [32, RUNNING.size * 2].max
        end
        RUNNING[handle] = process
      end

      def let_go(handle) # :nodoc:
        RUNNING.delete(handle)
      end

      # Without self, which would be kept for ever.
      def releaser(handle) # :nodoc:
        proc { Library.call(:nr_release, handle) }
      end

      private :new
    end

    # Starts the program and returns when it has been executed; with a block, what
    # that returns. However this is left, the program is not left alone.
    def self.start(options) # :nodoc:
      process = nil
      started = false
      # An interrupt must not come between the spawn and our having the handle.
      Thread.handle_interrupt(Object => :never) { process = new(options) }
      process.wait_for_start
      result = block_given? ? yield(process) : process
      started = true
      result
    ensure # not rescue: Timeout unwinds by throw
      process&.abandon unless started
    end

    def initialize(options) # :nodoc:
      @name = options.name
      @linger = options.linger?
      @handle = options.spawn
      ObjectSpace.define_finalizer(self, Process.releaser(@handle))
      Process.hold(@handle, self)
      @exit = IO.for_fd(Library.check(:nr_fd, @handle, Library::EXIT), "rb", autoclose: false)
      @stdin = open_stream(Writer, Library::STDIN)
      @stdout = open_stream(Reader, Library::STDOUT)
      @stderr = open_stream(Reader, Library::STDERR)
    rescue StandardError
      abandon if @handle
      raise
    end

    # Waits until the program has ended and its tree is gone, and returns its
    # Status; nil if +timeout+, in seconds, was over before. It can be called
    # again.
    #
    # A program that reads its stdin waits for more until that is closed, and one
    # that writes much waits for who reads it: see #communicate.
    #
    # Errno::EOWNERDEAD: the shepherd was killed by force, and the tree with it.
    def wait(timeout = nil)
      deadline = timeout && (now + timeout)
      until poll
        left = deadline && [deadline - now, 0].max
        wait_for_news(left)
        return poll if left&.zero?
      end
      @status
    end

    # Its Status, or nil while it runs. Never waits.
    def poll
      return @status if @status

      outcome = Library.memory(Library.pack(Library::OUTCOME))
      result = closed? ? -Errno::EBADF::Errno : Library.call(:nr_wait, @handle, 0, outcome)
      return nil if result == -Errno::EAGAIN::Errno

      Process.let_go(@handle)
      raise Library.error(result) if result.negative?

      @status = new_status(Library.unpack(Library::OUTCOME, outcome[0, outcome.size]))
    end
    alias status poll

    # Whether it still runs.
    def alive?
      poll.nil?
    end

    # Kills the program with SIGKILL. That it has ended is no error.
    def kill
      signal(:KILL)
    rescue Errno::ESRCH
      self
    end

    # Begins to end the tree: SIGTERM, the grace of +kill_timeout+, SIGKILL. It
    # does not wait.
    def stop
      Library.check(:nr_stop, @handle) unless closed?
      self
    end

    # Sends a signal, by number or name, to the program's process group or, if it
    # has a cgroup, to all in it. 0 asks whether it runs. After its end that is
    # Errno::ESRCH.
    def signal(signal)
      raise Errno::ESRCH, "the program has ended" if closed?

      Library.check(:nr_kill, @handle, signal_number(signal))
      self
    end

    # Writes +input+, if any, to stdin and closes it, reads both outputs to their
    # ends, all at once, and waits. Returns a Result.
    #
    # That the program does not read all of the input is no error.
    def communicate(input = nil)
      Process.outside_of_scheduler { exchange(input ? input.to_s.b : +"") }
    end

    # The size of the terminal, [rows, columns]. Errno::ENOTTY: there is none.
    def winsize=(size)
      rows, columns = size
      unless [rows, columns].all? { |number| (0..65_535).cover?(Integer(number)) }
        raise ArgumentError, "winsize: #{size.inspect}"
      end

      Library.check(:nr_winsize, @handle, rows, columns)
    end

    # Numbers about it, as Stats.
    def stats
      memory = Library.memory(Library.pack(Library::STATISTICS))
      Library.check(:nr_stats, @handle, memory)
      numbers = Library.unpack(Library::STATISTICS, memory[0, memory.size]).except(:size)
      numbers.transform_values! { |number| number == Library::UNKNOWN ? nil : number }
      %i[wall user system].each do |name|
        ns = numbers.delete(:"#{name}_ns")
        numbers[name] = ns && (ns / 1e9)
      end
      Stats.new(**numbers)
    end

    # The text of a file of its cgroup, such as "memory.peak". Errno::ENOENT: no
    # such file, or no cgroup.
    def cgroup_get(file)
      size = 256
      loop do
        text = Library.memory("\0" * size)
        length = Library.check(:nr_cgroup_get, @handle, c_string(file), text, size)
        return text[0, length] if length < size

        size = length * 2
      end
    end

    # Writes a file of its cgroup.
    def cgroup_set(file, value)
      Library.check(:nr_cgroup_set, @handle, c_string(file), c_string(value.to_s))
      value
    end

    # Ends it: closes the streams, stops the tree, waits until it is gone, and
    # gives back what it cost. What is interrupted goes on without us. Closing
    # twice is fine.
    def close
      return if closed?

      begin
        close_streams
        stop
        wait
      rescue Errno::EOWNERDEAD, Errno::ECHILD
        nil # the tree is gone, or none of ours
      ensure
        abandon
      end
      nil
    end

    def closed?
      @exit.closed?
    end

    def inspect
      state = @status ? @status.in_words : "running"
      state = "closed" if closed? && !@status
      "#<#{self.class}: #{@name.inspect} pid #{pid.inspect} #{state}>"
    end

    # Until NR_ASYNC has come to a result.
    def wait_for_start # :nodoc:
      @exit.wait_readable until started?
    end

    # Releases it without waiting: the shepherd ends it.
    def abandon # :nodoc:
      Thread.handle_interrupt(Object => :never) do
        Process.let_go(@handle)
        close_streams
        @exit&.close
        ObjectSpace.undefine_finalizer(self)
        Library.call(:nr_release, @handle)
      end
    end

    def poll_quietly # :nodoc:
      poll
    rescue SystemCallError
      nil # it is told to who asks
    end

    # IO.select, of which not every Fiber scheduler knows, is called in a thread.
    # That is something that they can wait for.
    def self.outside_of_scheduler # :nodoc:
      return yield if Fiber.scheduler.nil? || Fiber.current.blocking?

      begin
        thread = Thread.new { yield } # rubocop:disable Style/ExplicitBlockArgument
        thread.report_on_exception = false
        thread.value
      ensure
        thread&.kill
      end
    end

    private

    def now
      ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end

    def open_stream(type, number)
      type.new(self, @handle, number)
    rescue Errno::EINVAL
      nil # not connected to us
    end

    def started?
      result = Library.call(:nr_wait, @handle, 0, nil)
      pid = Library.call(:nr_pid, @handle)
      if pid.positive?
        @pid = pid
      elsif result != -Errno::EAGAIN::Errno
        why = Library.memory("\0" * 512)
        Library.call(:nr_why, @handle, why, why.size)
        raise Library.error(result, why.to_s)
      end
    end

    def wait_for_news(timeout)
      @exit.wait_readable(timeout)
    rescue IOError
      raise unless closed? # by another thread, which has seen to the end
    end

    def new_status(outcome)
      Status.new(
        pid,
        exitstatus: outcome[:code].negative? ? nil : outcome[:code],
        termsig: outcome[:signal].negative? ? nil : outcome[:signal],
        reason: Library::REASONS.fetch(outcome[:reason], :unknown),
        coredump: outcome[:core] == 1
      )
    end

    def signal_number(signal)
      return signal if signal.is_a?(Integer)

      name = signal.to_s.delete_prefix("SIG")
      Signal.list.fetch(name) { raise ArgumentError, "unsupported signal SIG#{name}" }
    end

    def c_string(text)
      raise ArgumentError, "contains a null byte: #{text.inspect}" if text.include?("\0")

      text
    end

    def close_streams
      @stdin&.abandon
      @stdout&.close
      @stderr&.close
    end

    def exchange(input)
      outputs = [stdout, stderr].compact.reject(&:closed?)
      loop do
        input = feed(input) if input
        moved = outputs.map(&:capture).any?
        ended = poll
        next if moved
        break if ended && (@linger || outputs.all?(&:ended?))

        wait_for_any(input, outputs.reject(&:ended?), ended)
      end
      Result.new(*[stdout, stderr].map { |stream| stream&.captured if outputs.include?(stream) }, wait)
    end

    # What is left to be written, or nil.
    def feed(input)
      return if stdin.nil? || stdin.closed?

      until input.empty?
        count = stdin.write_nonblock(input, exception: false)
        return input if count == :wait_writable

        input = input.byteslice(count, input.bytesize - count)
      end
      stdin.try_close ? nil : input
    rescue SystemCallError
      stdin.abandon # it does not want more, or can't be told that there is none
      nil
    end

    def wait_for_any(input, outputs, ended)
      readers = outputs.map(&:descriptor)
      readers << @exit unless ended
      IO.select(readers, input && [stdin.descriptor])
    end
  end
end
