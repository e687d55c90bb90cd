# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__)) unless ENV["NETRUNNER_INSTALLED"]

require "minitest/autorun"
require "netrunner"
require "pathname"
require "rbconfig"
require "tempfile"
require "timeout"
require "tmpdir"

# What the tests share.
module Helper
  # Only what hangs takes as long as this.
  LONG = 30

  build = ENV.fetch("BUILD_DIR", File.expand_path("../../../build", __dir__))
  # Programs of many behaviours, see tests/c/helpers.
  TESTPROG = File.join(build, "tests/testprog")
  HOSTILE = File.join(build, "tests/hostile")

  def setup
    [TESTPROG, HOSTILE].each { |path| File.exist?(path) or raise "#{path} is missing: run `make tests`" }
    super
  end

  def eventually(what)
    deadline = now + LONG
    until yield
      flunk "waited too long: #{what}" if now > deadline
      sleep 0.002
    end
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # Fails where something hangs, in whatever it hangs.
  def in_time(&block)
    Timeout.timeout(LONG, &block)
  end

  # Zombies count as gone: they are their parent's affair.
  def alive?(pid)
    !%w[Z X].include?(File.read("/proc/#{pid}/stat").rpartition(")").last.split.first)
  rescue Errno::ENOENT, Errno::ESRCH
    false
  end

  def assert_dies(pid)
    eventually("process #{pid} lives") { !alive?(pid) }
  end

  def parent_of(pid)
    File.read("/proc/#{pid}/stat").rpartition(")").last.split[1].to_i
  end

  # The pids after "child " in lines of output.
  def children_told(output)
    output.scan(/^child (\d+)/).flatten.map(&:to_i)
  end

  def descriptors
    Dir.children("/proc/self/fd").size
  end

  def threads
    Dir.children("/proc/self/task").size
  end

  # Pids of processes whose name begins like this.
  def processes_named(name)
    Dir.children("/proc").grep(/\A\d+\z/).map(&:to_i).select do |pid|
      File.read("/proc/#{pid}/comm").start_with?(name) && alive?(pid)
    rescue Errno::ENOENT, Errno::ESRCH
      false
    end
  end

  # Bytes in which a lost, doubled or moved piece shows.
  def pattern(length)
    Random.new(1).bytes(length)
  end

  # Runs code in a Ruby of its own, as a host. Yields its stdin and stdout, and
  # its pid.
  def host(code)
    code = "$LOAD_PATH.replace(#{$LOAD_PATH.inspect}); require 'netrunner'; $stdout.sync = true; #{code}"
    IO.popen([RbConfig.ruby, "-e", code], "r+") do |io|
      yield io, io.pid
    end
  end
end
