# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Run alone, for others would be counted.
class TestLeaks < Minitest::Test
  include Helper

  def test_three_hundred_spawns_leave_nothing
    Dir.mktmpdir do |dir|
      tag = "nrl#{Process.pid}"
      program = "#{dir}/#{tag}"
      File.symlink(Helper::TESTPROG, program)
      kinds = [
        -> { NetRunner.run(program, "background", "stubborn", "0") },
        -> { NetRunner.run(program, "copy", input: "x") },
        -> { assert_raises(Errno::ENOENT) { NetRunner.spawn("/no/such/program") } },
        -> { NetRunner.run(program, "exit", pty: true) },
        -> { NetRunner.spawn(program, "pause") { nil } },
        -> { NetRunner.spawn(program, "exit").close }
      ]
      kinds.each(&:call) # what is made once
      shepherd = NetRunner.spawn("cat") { |cat| parent_of(cat.pid) }
      before = [descriptors, Thread.list.size]
      threads_before = threads
      300.times { |number| kinds[number % kinds.size].call }
      eventually("no program lives") { processes_named(tag).empty? }
      assert_equal before, [descriptors, Thread.list.size]
      # The Go runtime may add one when it sees fit.
      assert_operator threads, :<=, threads_before + 1
      assert_equal shepherd, (NetRunner.spawn("cat") { |cat| parent_of(cat.pid) })
    end
  end
end
