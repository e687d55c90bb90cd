# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Bytes to and from a program.
class TestStreams < Minitest::Test
  include Helper

  MANY = 10 << 20

  def test_ten_megabytes_through_cat_at_once
    input = pattern(MANY)
    assert_equal input, in_time { NetRunner.run("cat", input: input, binmode: true) }.stdout
  end

  def test_ten_megabytes_through_cat_by_two_threads
    input = pattern(MANY)
    in_time do
      NetRunner.spawn("cat") do |cat|
        writer = Thread.new do
          cat.stdin.write(input)
          cat.stdin.close
        end
        assert_equal input, cat.stdout.binmode.read
        writer.join
        assert cat.wait.success?
        stats = cat.stats
        assert_equal [MANY, MANY, 0], [stats.stdin_bytes, stats.stdout_bytes, stats.stderr_bytes]
        assert_operator stats.wall, :>, 0
        assert_nil stats.memory
      end
    end
  end

  def test_one_write_of_more_than_a_pipe_holds
    in_time do
      NetRunner.spawn("sh", "-c", "sleep 0.1; wc -c") do |wc|
        assert_equal 500_001, wc.stdin.write("x" * 500_000, :y)
        wc.stdin.close
        assert_equal "500001\n", wc.stdout.read
      end
    end
  end

  def test_a_program_that_does_not_read
    assert in_time { NetRunner.run("true", input: "x" * MANY) }.success?
    NetRunner.spawn("true") do |program|
      program.wait
      assert_raises(Errno::EPIPE) { program.stdin.write("x") }
    end
  end

  def test_stdin_closed_early
    NetRunner.spawn("cat") do |cat|
      2.times { cat.stdin.close }
      assert_raises(IOError) { cat.stdin.write("x") }
      assert_nil cat.stdout.gets
      assert cat.wait.success?
    end
  end

  def test_nothing_is_written_where_nobody_reads
    NetRunner.spawn(Helper::TESTPROG, "flood") do |flood|
      flood.stdout.close
      assert_raises(IOError) { flood.stdout.read }
      assert_equal Signal.list["PIPE"], flood.wait(Helper::LONG).termsig
    end
  end

  def test_much_stderr_while_stdout_is_read
    result = in_time { NetRunner.run(Helper::TESTPROG, "write", "2", "3000000", "1", "1000", "2", "3000000") }
    assert_equal [1000, 6_000_000], [result.stdout.bytesize, result.stderr.bytesize]
  end

  def test_a_dialog
    in_time do
      NetRunner.spawn(Helper::TESTPROG, "lines") do |program|
        300.times do |number|
          program.stdin.puts "line #{number}"
          assert_equal "got line #{number}\n", program.stdout.gets
        end
        program.stdin.close
        assert_nil program.stdout.gets
        assert_raises(EOFError) { program.stdout.readline }
      end
    end
  end

  def test_ways_to_write
    NetRunner.spawn("cat") do |cat|
      cat.stdin << "a" << 1
      cat.stdin.print("b", 2)
      cat.stdin.puts("c", %W[d e\n])
      cat.stdin.printf("%03d\n", 7)
      assert_same cat.stdin, cat.stdin.flush
      assert_equal 0, cat.stdin.write("")
      assert_equal 3, cat.stdin.write_nonblock("end")
      cat.stdin.close
      assert_equal "a1b2c\nd\ne\n007\nend", cat.stdout.read
    end
  end

  def test_writing_without_waiting
    NetRunner.spawn("sleep", "60", kill_timeout: 0) do |program|
      nil while program.stdin.write_nonblock("x" * 65_536, exception: false) != :wait_writable
      assert_raises(IO::WaitWritable) { program.stdin.write_nonblock("x") }
      assert_nil program.stdin.wait_writable(0.01)
    end
  end

  # The same calls on a Reader and on an IO give the same.
  def compare(text)
    results = [
      NetRunner.run("true").then do
        NetRunner.spawn("printf", "%s", text, stdin: :null) do |p|
          collect do
            yield p.stdout
          end
        end
      end,
      IO.popen(["printf", "%s", text]) { |io| collect { yield io } }
    ]
    assert_equal results.last, results.first
    assert_equal results.last.map { |r| r.respond_to?(:encoding) && r.encoding },
                 results.first.map { |r| r.respond_to?(:encoding) && r.encoding }
  end

  def collect
    Array(yield)
  rescue EOFError => e
    [e.class]
  end

  def test_reading_is_like_that_of_an_io
    text = "one\ntwo\r\n\n\n\nthree äöü\nfour"
    compare(text, &:read)
    compare(text, &:readlines)
    compare(text) { |io| io.each_line(chomp: true).to_a }
    compare(text) { |io| io.each_line("o").to_a }
    compare(text) { |io| io.each_line("o", chomp: true).to_a }
    compare(text) { |io| io.each_line("").to_a }
    compare(text) { |io| io.each_line(nil).to_a }
    compare(text) { |io| io.each_line(2).to_a } unless text.encoding == Encoding::UTF_8
    compare(text) { |io| [io.gets, io.read(3), io.gets, io.getbyte, io.read(0), io.read(1000), io.read(1), io.read] }
    compare(text) { |io| [io.gets("\n", 2), io.gets("\n", 100), io.gets(nil), io.gets, io.eof?] }
    compare(text) { |io| [io.readpartial(4), io.readline("wo"), io.read, io.gets(""), io.getbyte] }
    compare(text) { |io| [io.read, io.readline] }
    compare(text) { |io| [io.read, io.readpartial(1)] }
    compare("") { |io| [io.eof?, io.read, io.read(5), io.gets] }
    compare("\n\n\na\n\n\n\nb") { |io| [io.gets(""), io.gets(""), io.gets("")] }
    compare("x\ny") { |io| [io.read(2, +"buffer"), io.readpartial(5, +"buffer")] }
  end

  def test_reading_without_waiting
    NetRunner.spawn("cat") do |cat|
      assert_equal :wait_readable, cat.stdout.read_nonblock(5, exception: false)
      assert_raises(IO::WaitReadable) { cat.stdout.read_nonblock(5) }
      assert_nil cat.stdout.wait_readable(0.01)
      cat.stdin.write("hello, world")
      cat.stdout.wait_readable
      assert_equal "hello", cat.stdout.read_nonblock(5)
      assert_same cat.stdout, cat.stdout.wait_readable(0)
      assert_equal ", world", cat.stdout.read_nonblock(50)
      cat.stdin.close
      cat.stdout.wait_readable
      assert_nil cat.stdout.read_nonblock(5, exception: false)
      assert_raises(EOFError) { cat.stdout.read_nonblock(5) }
    end
  end

  def test_encodings
    NetRunner.spawn("printf", "ä\nö\n") do |program|
      assert_equal Encoding.default_external, program.stdout.gets.encoding
      program.stdout.set_encoding("ISO-8859-1")
      assert_equal Encoding::ISO_8859_1, program.stdout.gets.encoding
    end
    assert_equal Encoding::BINARY, NetRunner.run("echo", binmode: true).stdout.encoding
    assert_equal "Ä\n", NetRunner.run("cat", input: "Ä\n").stdout
  end

  def test_select
    NetRunner.spawn("cat") do |cat|
      assert_nil IO.select([cat.stdout], nil, nil, 0)
      assert_equal [[], [cat.stdin], []], IO.select(nil, [cat.stdin], nil, 0)
      cat.stdin.write("a\nb\n")
      assert_equal [[cat.stdout], [], []], IO.select([cat.stdout], nil, nil, Helper::LONG)
      cat.stdout.gets
      # The second line is in our buffer already.
      assert_equal [[cat.stdout], [], []], IO.select([cat.stdout], nil, nil, 0)
      cat.stdout.gets
      assert_nil IO.select([cat.stdout], nil, nil, 0)
      cat.stdin.close
      assert_equal [[cat.stdout], [], []], IO.select([cat.stdout], nil, nil, Helper::LONG)
      assert cat.stdout.eof?
    end
  end

  def test_copy_stream
    input = pattern(1_000_000)
    NetRunner.spawn("cat") do |cat|
      copy = StringIO.new.binmode
      writer = Thread.new do
        IO.copy_stream(StringIO.new(input), cat.stdin)
        cat.stdin.close
      end
      in_time { IO.copy_stream(cat.stdout, copy) }
      writer.join
      assert_equal input, copy.string
    end
  end

  def test_limit_of_output
    result = NetRunner.run(Helper::TESTPROG, "flood", output_limit: 100_000)
    assert_equal [:output_limit, 100_000], [result.status.reason, result.stdout.bytesize]
    NetRunner.spawn(Helper::TESTPROG, "flood", output_limit: 100_000) do |flood|
      assert_equal 100_000, flood.stdout.read(100_000).bytesize
      assert_raises(Errno::EFBIG) { flood.stdout.read(1) }
      assert_equal :output_limit, flood.wait.reason
    end
    exactly = NetRunner.run(Helper::TESTPROG, "write", "1", "5000", "2", "5000", output_limit: 10_000)
    assert exactly.success?
  end

  def test_size_of_pipes
    NetRunner.spawn("sleep", "60", pipe_size: 1 << 20, kill_timeout: 0) do |program|
      in_time { assert_equal 1 << 20, program.stdin.write("x" * (1 << 20)) }
    end
  end

  def test_results
    result = NetRunner.run("sh", "-c", "echo out; echo err >&2; exit 3")
    out, err, status = *result
    assert_equal ["out\n", "err\n", 3], [out, err, status.exitstatus]
    case result
    in { stdout: "out\n", status: NetRunner::Status => matched }
      assert_same status, matched
    end
  end
end
