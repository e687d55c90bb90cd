# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Hosts in Ruby, one by the name of each method: ruby_host.rb NAME

require "netrunner"
require "open3"
require "socket"

PATIENCE = 60
TREE = ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; wait"].freeze
SIGNALS = %i[USR1 USR2 CHLD ALRM].freeze

def check(condition, what)
  abort "#{what}\n#{caller.first(3).join("\n")}" unless condition
end

def eventually(what)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
  until yield
    check(Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline, what)
    sleep 0.005
  end
end

def echoed?(text)
  NetRunner.run("cat", input: text).stdout == text
end

def exit_code(code)
  NetRunner.run("sh", "-c", "exit #{code}").status.exitstatus
end

# Counts signals, by handlers of Signal.trap.
def count_signals
  seen = Hash.new(0)
  SIGNALS.each { |name| trap(name) { seen[name] += 1 } }
  seen
end

def check_handlers(seen)
  SIGNALS.each do |name|
    before = seen[name]
    Process.kill(name, Process.pid)
    eventually("a handler of #{name}") { seen[name] > before }
  end
end

# Threads that run programs, under a storm of signals, while garbage is collected.
def storm
  seen = count_signals
  over = false
  noise = [
    # From outside: to any thread that has it not blocked.
    spawn("while kill -USR1 #{Process.pid} && kill -ALRM #{Process.pid}; do :; done 2>/dev/null"),
    Thread.new { Process.kill(:USR2, Process.pid) && sleep(0.0005) until over },
    # Ruby's own children.
    Thread.new { check(Open3.capture2("sh", "-c", "echo a; exit 3")[1].exitstatus == 3, "an own child") until over }
  ]
  threads = Array.new(4) do |number|
    Thread.new do
      40.times do |i|
        check(echoed?("#{number} #{i} " * 1000), "an echo")
        check(exit_code(i) == i, "a status")
        GC.start if (i % 10).zero?
      end
    end
  end
  threads.each(&:join)
  over = true
  noise.drop(1).each(&:join)
  Process.kill(:KILL, noise.first)
  Process.wait(noise.first)
  check(SIGNALS.all? { |name| seen[name].positive? }, seen)
  check_handlers(seen)
  # Each allocation collects. That takes its time, so there is no storm.
  GC.stress = true
  check(exit_code(9) == 9, "a status under GC.stress")
  GC.stress = false
end

# fork, before the first program and then while others run.
def forks
  children = Array.new(3) { |n| fork { exit!(exit_code(n)) } }
  children.each_with_index { |child, n| check(Process.wait2(child)[1].exitstatus == n, "a fork before") }

  over = false
  threads = Array.new(2) { Thread.new { check(echoed?("x" * 100_000), "an echo") until over } }
  check(exit_code(4) == 4, "a status")
  25.times do
    child = fork do
      exit_code(1)
    rescue Errno::ECHILD
      exit!(0)
    end
    check(Process.wait2(child)[1].success?, "a fork is told that it is one")
  end
  NetRunner.spawn("cat") do |cat|
    child = fork { sleep }
    cat.stdin.write("still there")
    cat.stdin.close
    check(cat.stdout.read == "still there", "a fork keeps no input open")
    Process.kill(:KILL, child)
    Process.wait(child)
  end
  over = true
  threads.each(&:join)
end

def serve(server)
  loop do
    connection = server.accept
    command = connection.gets
    if command == "hang\n"
      NetRunner.spawn(*TREE) do |program|
        program.stdout.gets
        connection.puts "#{Process.pid} #{program.pid}"
        sleep
      end
    end
    connection.write NetRunner.run("sh", "-c", command).stdout
    connection.close
  end
end

# A server whose workers are forked before the first program. One of them is
# killed while it has a program: that dies with it, and the others work on.
def prefork
  address = Addrinfo.unix("\0netrunner-test-#{Process.pid}")
  server = Socket.new(:UNIX, :STREAM)
  server.bind(address)
  server.listen(64)
  listening = UNIXServer.for_fd(server.fileno)
  listening.autoclose = false
  ask = lambda do |command|
    connection = address.connect
    connection.puts command
    connection.gets
  ensure
    connection&.close
  end
  workers = Array.new(3) { fork { serve(listening) } }
  4.times do
    worker, program = ask.("hang").split.map(&:to_i)
    check(ask.("echo hello") == "hello\n", "another worker answers")
    Process.kill(:KILL, worker)
    Process.wait(worker)
    workers.delete(worker)
    workers << fork { serve(listening) }
    eventually("the program of a killed worker is dead") { !File.exist?("/proc/#{program}") }
    15.times { |number| check(ask.("echo #{number}") == "#{number}\n", "an answer") }
  end
  # The master has started nothing, and may still begin to.
  check(exit_code(7) == 7, "a status")
  workers.each { |worker| Process.kill(:TERM, worker) && Process.wait(worker) }
end

# To be killed while it starts and ends programs, in threads and under signals.
def killed
  count_signals
  trees = Array.new(5) { NetRunner.spawn(*TREE) }
  trees.each { |tree| tree.stdout.gets }
  2.times { Thread.new { loop { NetRunner.run("sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0") } } }
  $stdout.puts "ready"
  $stdout.flush
  loop { Process.kill(:USR1, Process.pid) && sleep(0.001) }
end

Thread.abort_on_exception = true
send(ARGV.fetch(0))
