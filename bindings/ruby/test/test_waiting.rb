# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"
require_relative "scheduler"

begin
  require "async"
rescue LoadError
  nil # its tests are skipped
end

# Whatever waits can be interrupted, and lets others run.
class TestWaiting < Minitest::Test
  include Helper

  # Each waits for ever, given a program that neither reads nor writes nor ends.
  BLOCKED = {
    wait: ->(program) { program.wait },
    read: ->(program) { program.stdout.read },
    gets: ->(program) { program.stdout.gets },
    readpartial: ->(program) { program.stdout.readpartial(1) },
    eof: ->(program) { program.stdout.eof? },
    write: ->(program) { program.stdin.write("x" * (10 << 20)) },
    communicate: ->(program) { program.communicate("x" * (10 << 20)) },
    select: ->(program) { IO.select([program.stdout]) }
  }.freeze

  def silent(&block)
    NetRunner.spawn("sleep", "1000", kill_timeout: 0, &block)
  end

  def test_timeout
    BLOCKED.each do |name, call|
      silent do |program|
        assert_raises(Timeout::Error, name.to_s) { Timeout.timeout(0.05) { call.(program) } }
        assert program.alive?
      end
    end
  end

  def test_thread_raise_and_kill
    BLOCKED.each do |name, call|
      silent do |program|
        error = Class.new(StandardError)
        thread = Thread.new do
          Thread.current.report_on_exception = false
          call.(program)
        end
        eventually("#{name} waits") { thread.status == "sleep" }
        thread.raise(error)
        assert_raises(error, name.to_s) { thread.join(Helper::LONG) }

        thread = Thread.new { call.(program) }
        eventually("#{name} waits") { thread.status == "sleep" }
        assert thread.kill.join(Helper::LONG), name.to_s
      end
    end
  end

  def test_an_interrupted_run_ends_its_program
    tag = "nri#{Process.pid}"
    # At every point of its way, the first ones of which are in the spawn.
    [0.0001, 0.0003, 0.001, 0.002, 0.003, 0.005, 0.02, 0.1].each do |time|
      begin
        Timeout.timeout(time) { NetRunner.run(Helper::HOSTILE, tag, "59", "leader", kill_timeout: 0) }
      rescue Timeout::Error
        nil
      end
      eventually("it is gone") { processes_named(tag).empty? }
    end
  end

  # Interrupts the thread in the worst moment: when bytes have just been read.
  def interrupting_reads(error)
    library = NetRunner.send(:const_get, :Library)
    original = library.method(:call)
    library.singleton_class.send(:remove_method, :call)
    library.define_singleton_method(:call) do |name, *arguments|
      reader = Thread.current
      original.call(name, *arguments).tap do |count|
        Thread.new { reader.raise(error) }.join if name == :nr_read && count.positive?
      end
    end
    yield
  ensure
    library.singleton_class.send(:remove_method, :call)
    library.define_singleton_method(:call, original)
  end

  def test_nothing_read_is_lost_by_interrupts
    error = Class.new(StandardError)
    NetRunner.spawn("cat") do |cat|
      interrupting_reads(error) do
        %w[one two].each do |word|
          cat.stdin.write(word)
          assert_raises(error) { in_time { cat.stdout.read } }
        end
      end
      cat.stdin.close
      assert_equal "onetwo", cat.stdout.read
    end
  end

  def test_other_threads_run
    silent do |program|
      waiters = BLOCKED.each_value.map { |call| Thread.new { call.(program) rescue nil } } # rubocop:disable Style/RescueModifier
      count = 0
      counter = Thread.new { loop { count += 1 } }
      eventually("others run") { count > 100_000 }
      counter.kill
      program.kill
      waiters.each { |thread| assert thread.join(Helper::LONG) }
    end
  end

  def test_close_wakes_who_waits
    process = NetRunner.spawn("sleep", "1000")
    waiter = Thread.new { process.wait }
    reader = Thread.new do
      process.stdout.read
    rescue IOError => e
      e
    end
    eventually("they wait") { [waiter, reader].all? { |thread| thread.status == "sleep" } }
    process.close
    assert_equal :killed, waiter.value.reason
    assert_kind_of Object, reader.value
  end

  def test_many_threads_at_once
    threads = Array.new(50) { |n| Thread.new { NetRunner.run("cat", input: "number #{n}").stdout } }
    assert_equal(Array.new(50) { |n| "number #{n}" }, in_time { threads.map(&:value) })
  end

  # Concurrent programs on one thread: were one wait blocking, the first program
  # would wait for ever for the second one's doing.
  def concurrent(schedule)
    NetRunner.spawn("cat") do |cat|
      lines = []
      reader = schedule.call do
        lines << cat.stdout.gets
        lines << cat.stdout.gets
      end
      writer = schedule.call do
        cat.stdin.puts NetRunner.run("echo", "one").stdout
        cat.stdin.puts NetRunner.run("cat", input: "two" * 100_000).stdout.size
      end
      waiter = schedule.call { lines << cat.wait.exitstatus }
      yield reader, writer
      cat.stdin.close
      yield waiter
      assert_equal ["one\n", "300000\n", 0], lines
    end
  end

  def test_fiber_scheduler
    result = nil
    thread = Thread.new do
      Fiber.set_scheduler(TestScheduler.new)
      Fiber.schedule do
        lines = []
        cat = NetRunner.spawn("cat")
        Fiber.schedule { 2.times { lines << cat.stdout.gets } && cat.stdin.close }
        Fiber.schedule do
          cat.stdin.puts NetRunner.run("echo", "one").stdout
          cat.stdin.puts NetRunner.run("cat", input: "two" * 100_000).stdout.size
        end
        lines << cat.wait.exitstatus
        cat.close
        result = lines
      end
    end
    assert thread.join(Helper::LONG), "it hangs"
    assert_equal ["one\n", "300000\n", 0], result
  end

  def test_timeout_in_a_fiber
    results = []
    thread = Thread.new do
      Fiber.set_scheduler(TestScheduler.new)
      Fiber.schedule do
        silent do |program|
          BLOCKED.except(:select).each_value do |call|
            Timeout.timeout(0.05) { call.(program) }
          rescue Timeout::Error => e
            results << e
          end
        end
      end
    end
    assert thread.join(Helper::LONG), "it hangs"
    assert_equal BLOCKED.size - 1, results.size
  end

  def test_async
    skip "the gem async is not installed" unless defined?(Async)

    result = nil
    in_time do
      Async do |task|
        concurrent(->(&block) { task.async(&block) }) { |*tasks| tasks.each(&:wait) }
        result = Array.new(20) { |n| task.async { NetRunner.run("sh", "-c", "sleep 0.1; echo #{n}").stdout.to_i } }
                      .map(&:wait)
      end
    end
    assert_equal (0...20).to_a, result
  end

  # (The scheduler of async 1 takes the error of its own with_timeout for an
  # event, for plain IOs, too; so tasks are stopped here.)
  def test_async_tasks_can_be_stopped
    skip "the gem async is not installed" unless defined?(Async)

    pid = nil
    in_time do
      Async do |task|
        silent do |program|
          pid = program.pid
          BLOCKED.except(:select).each_value { |call| task.async { call.(program) }.stop }
        end
      end
    end
    refute alive?(pid)
  end
end
