# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Programs on terminals.
class TestTerminal < Minitest::Test
  include Helper

  def test_it_is_a_terminal_and_its_end_is_an_end
    result = NetRunner.run(Helper::TESTPROG, "tty", pty: true)
    assert_includes result.stdout, "session=yes"
    NetRunner.spawn("echo", "x", pty: true) do |echo|
      assert echo.stdout.tty?
      assert_equal "x\r\n", echo.stdout.read
    end
  end

  def test_size_and_resize
    in_time do
      NetRunner.spawn(Helper::TESTPROG, "winsize", pty: [30, 100], echo: false) do |program|
        assert_equal "size 30 100", program.stdout.gets.chomp
        assert_equal "ready", program.stdout.gets.chomp
        program.winsize = [50, 132]
        assert_equal "size 50 132", program.stdout.gets.chomp
        assert_raises(ArgumentError) { program.winsize = [1, 70_000] }
        program.stdin.close
        assert_nil program.stdout.gets
        assert program.wait.success?
      end
    end
    NetRunner.spawn("cat") { |cat| assert_raises(Errno::ENOTTY) { cat.winsize = [1, 1] } }
    assert_equal "24 80\r\n", NetRunner.run("stty", "size", pty: true).stdout
  end

  def test_echo
    assert_equal 2, NetRunner.run("cat", input: "typed\n", pty: true).stdout.scan("typed").size
    assert_equal "typed\r\n", NetRunner.run("cat", input: "typed\n", pty: true, echo: false).stdout
  end

  def test_much_input
    result = in_time { NetRunner.run("wc", "-c", input: ("#{"x" * 99}\n" * 2000), pty: true, echo: false) }
    assert_equal "200000", result.stdout.strip
  end

  def test_stderr_apart
    result = NetRunner.run("sh", "-c", "echo out; echo err >&2", pty: true, stderr: :pipe)
    assert_equal %W[out\r\n err\n], result.to_a.first(2)
  end

  def test_an_interrupt_is_typed
    NetRunner.spawn(Helper::TESTPROG, "handle", "2", "42", pty: true) do |program|
      program.stdout.gets
      program.stdin.write("\x03")
      assert_equal 42, program.wait(Helper::LONG).exitstatus
    end
  end

  def test_end_of_file
    NetRunner.spawn(Helper::TESTPROG, "raw", pty: true) do |program|
      program.stdout.gets
      assert_raises(Errno::ENOTTY) { program.stdin.close }
      refute program.stdin.closed?
    end
    NetRunner.spawn("cat", pty: true, echo: false) do |cat|
      cat.stdin.write("no newline")
      cat.stdin.close
      assert_equal "no newline", cat.stdout.read
    end
  end
end
