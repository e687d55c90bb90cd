# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Ruby: Open3, and the gem. Arguments and samples are those of peer.py.

require "open3"

PIECE = 1 << 16
WARM_UP = 3

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

# With stdin, stdout, stderr and what waits for the end.
def start(variant, argv)
  return Open3.popen3(*argv) if variant == "Open3"

  program = NetRunner.spawn(*argv, stderr: :pipe)
  [program.stdin, program.stdout, program.stderr, program]
end

def finish(variant, program)
  variant == "Open3" ? program.value : program.wait
end

def measure_spawn(variant, count, argv)
  (-WARM_UP...count).each do |n|
    started = now
    *pipes, program = start(variant, argv)
    blocked = now
    finish(variant, program)
    ended = now
    pipes.each(&:close)
    program.close if variant != "Open3"
    puts "blocked #{(blocked - started) * 1e6}", "exit #{(ended - started) * 1e6}" unless n.negative?
  end
end

def measure_read(variant, mib, argv)
  _, out, _, program = start(variant, argv)
  started = now
  used = cpu
  left = mib << 20
  buffer = String.new(capacity: PIECE)
  left -= buffer.bytesize while out.readpartial(PIECE, buffer)
rescue EOFError
  puts "read #{mib / (now - started)}", "cpu #{(cpu - used) * 1e3}"
  finish(variant, program)
  raise "#{left} bytes are missing" if left != 0
end

def measure_echo(variant, mib, argv)
  data = "\0" * (mib << 20)
  started = now
  output =
    if variant == "Open3"
      Open3.capture3(*argv, stdin_data: data, binmode: true).first
    else
      NetRunner.run(*argv, input: data, binmode: true).stdout
    end
  puts "echo #{(now - started) * 1e3}"
  raise "bytes are missing" if output.bytesize != data.bytesize
end

def measure_turn(variant, count, argv)
  input, out, _, program = start(variant, argv)
  (-50...count).each do |n|
    started = now
    input.write("x")
    input.flush
    out.readpartial(1)
    puts "turn #{(now - started) * 1e6}" unless n.negative?
  end
  input.close
  finish(variant, program)
end

variant, what, count, *argv = ARGV
require "netrunner" if variant == "NetRunner"
if what == "spawn"
  memory = Array.new(Integer(argv.shift)) { "x" * (1 << 20) }
  measure_spawn(variant, Integer(count), argv)
  memory.clear
else
  send("measure_#{what}", variant, Integer(count), argv)
end
