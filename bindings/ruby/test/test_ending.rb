# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# How programs end, by themselves and by others.
class TestEnding < Minitest::Test
  include Helper

  def test_all_exit_codes
    256.times do |code|
      status = NetRunner.run(Helper::TESTPROG, "exit", code.to_s).status
      assert_equal [code, nil, :own, code << 8], [status.exitstatus, status.termsig, status.reason, status.to_i]
      assert_equal code.zero?, status.success?
      assert status.exited? && !status.signaled? && !status.coredump?
    end
  end

  def test_deadly_signals
    [1, 2, 3, 6, 8, 9, 10, 11, 13, 14, 15, 24, 31, 34, 64].each do |signal|
      status = NetRunner.run(Helper::TESTPROG, "die", signal.to_s, rlimits: { core: 0 }).status
      assert_equal [nil, signal, :own, nil], [status.exitstatus, status.termsig, status.reason, status.success?]
      assert status.signaled? && !status.exited?
    end
  end

  def test_core_dumps
    Dir.mktmpdir do |dir|
      limit = { core: 1 << 24 }
      status = NetRunner.run(Helper::TESTPROG, "die", "6", rlimits: limit, chdir: dir).status
      # Where cores go, and whether, is the machine's affair: compare.
      system("sh", "-c", "ulimit -c 16384 && exec #{Helper::TESTPROG} die 6", chdir: dir)
      assert_equal [$?.coredump?, $?.to_i], [status.coredump?, status.to_i]
    end
  end

  def test_status_in_words
    assert_match(/\Apid \d+ exit 3\z/, NetRunner.run("sh", "-c", "exit 3").status.to_s)
    status = NetRunner.run("sleep", "60", timeout: 0.01).status
    assert_match(/\Apid \d+ SIGTERM \(signal 15\), timeout\z/, status.to_s)
    assert_includes status.inspect, "NetRunner::Status"
    assert_equal status, status.dup
    refute_equal status, NetRunner.run("true").status
  end

  def test_exceptions_for_who_wants_them
    assert NetRunner.run("true", exception: true).success?
    error = assert_raises(NetRunner::Failed) { NetRunner.run("sh", "-c", "echo x; exit 3", exception: true) }
    assert_equal "sh: exit 3", error.message
    assert_equal ["x\n", 3], [error.result.stdout, error.status.exitstatus]
  end

  def test_waiting
    NetRunner.spawn(Helper::TESTPROG, "gate", "7") do |gate|
      assert_nil gate.poll
      assert_nil gate.wait(0)
      assert_nil gate.wait(0.02)
      assert gate.alive?
      assert alive?(gate.pid)
      gate.stdin.close
      status = gate.wait
      assert_equal [7, gate.pid], [status.exitstatus, status.pid]
      assert_same status, gate.wait
      assert_same status, gate.poll
      assert_same status, gate.wait(1)
      refute gate.alive?
    end
  end

  def test_kill_and_signals
    NetRunner.spawn(Helper::TESTPROG, "ignore", "15") do |program|
      program.stdout.gets
      assert_same program, program.signal(0).signal(:TERM).signal("SIGTERM")
      assert_raises(ArgumentError) { program.signal(:NONSENSE) }
      assert_raises(Errno::EINVAL) { program.signal(1000) }
      program.kill
      assert_equal [9, :killed], [program.wait.termsig, program.wait.reason]
      assert_same program, program.kill
      assert_raises(Errno::ESRCH) { program.signal(:TERM) }
      program.stop
    end
  end

  def test_stop_is_graceful_and_sure
    NetRunner.spawn(Helper::TESTPROG, "handle", "15", "42") do |polite|
      polite.stdout.gets
      assert_equal [42, :killed], [polite.stop.wait.exitstatus, polite.wait.reason]
    end
    NetRunner.spawn(Helper::TESTPROG, "ignore", "15", kill_timeout: 0.1) do |stubborn|
      stubborn.stdout.gets
      assert_equal [9, :killed], [stubborn.stop.wait.termsig, stubborn.wait.reason]
    end
  end

  def test_signals_arrive_exactly_once
    NetRunner.spawn(Helper::TESTPROG, "count") do |counter|
      counter.stdout.gets
      200.times { counter.signal(40) } # a real-time signal: these queue
      ask = lambda do
        counter.stdin.puts
        counter.stdout.gets.strip
      end
      eventually("200 signals") { ask.call == "40:200" }
      sleep 0.05
      assert_equal "40:200", ask.call
    end
  end

  def test_time_limit_ends_the_tree
    result = in_time { NetRunner.run(Helper::TESTPROG, "family", "stubborn", timeout: 0.3, kill_timeout: 0.1) }
    assert result.status.timeout?
    refute alive?(children_told(result.stdout).fetch(0))
    assert_equal :timeout, NetRunner.run("sleep", "60", timeout: 0).status.reason
    assert NetRunner.run("true", timeout: 1e30, kill_timeout: 1 << 80).success?
    assert NetRunner.run("true", timeout: Float::INFINITY).success?
  end

  def test_the_end_of_a_block_is_the_end_of_the_program
    pid = NetRunner.spawn("sleep", "60", &:pid)
    refute alive?(pid)
    pid = nil
    assert_raises(RuntimeError) do
      NetRunner.spawn(Helper::TESTPROG, "family", kill_timeout: 0.1) do |program|
        pid = children_told(program.stdout.gets).fetch(0)
        raise "in the block"
      end
    end
    refute alive?(pid)
    assert_equal(1, NetRunner.spawn("sleep", "60") { break 1 })
  end

  def test_closing
    process = NetRunner.spawn("sleep", "60")
    status = process.tap(&:close).wait
    assert_equal [15, :killed], [status.termsig, status.reason]
    assert process.closed?
    process.close
    process.kill
    process.stop
    assert_raises(Errno::ESRCH) { process.signal(:TERM) }
    assert_raises(IOError) { process.stdout.read }
    assert_raises(Errno::EBADF) { process.stats }
    refute process.alive?
  end

  # In a thread of its own, for the collector finds references on the stack.
  def forgotten(count, *command)
    Thread.new { Array.new(count) { NetRunner.spawn(*command, stdin: :null, stdout: :null).pid } }.value
  end

  def test_the_collector_leaves_running_programs_alone
    pids = forgotten(20, "sleep", "60")
    10.times { Array.new(1000) { +"garbage" } && GC.start }
    sleep 0.1
    assert(pids.all? { |pid| alive?(pid) })
    ObjectSpace.each_object(NetRunner::Process) { |process| process.close if pids.include?(process.pid) }
    refute(pids.any? { |pid| alive?(pid) })
  end

  def test_what_has_ended_is_collected
    before = descriptors
    4.times { forgotten(64, "true") }
    eventually("descriptors are given back") do
      forgotten(40, "true")
      GC.start
      descriptors <= before + 100
    end
  end
end
