# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# The job of job.h in Fibers, under the scheduler of the gem async; any other
# scheduler does, too.
#
#     files_fibers.rb [-t MILLISECONDS] COMMAND FILE...
#
# A fiber that writes waits while the program does not read, and a program waits
# that nobody reads from.

require "async"
require "netrunner"
require "optparse"

timeout = nil
OptionParser.new { |o| o.on("-t MILLISECONDS", Integer) { |ms| timeout = ms / 1000.0 } }.parse!
command, *files = ARGV
abort "usage: files_fibers.rb [-t MILLISECONDS] COMMAND FILE..." if files.empty?

def feed(program, source)
  while (chunk = source.read(1 << 16))
    program.stdin.write(chunk)
  end
rescue Errno::EPIPE
  nil # it does not want more
ensure
  program.stdin.close
end

def run(task, command, file, timeout)
  File.open(file, "rb") do |source|
    NetRunner.spawn("sh", "-c", command, timeout: timeout) do |program|
      feeding = task.async { feed(program, source) }
      program.stdout.each_line(chomp: true) { |line| puts "#{file}: #{line}" }
      status = program.wait
      feeding.wait
      how = status.exited? ? "exit #{status.exitstatus}" : "signal #{status.termsig}"
      warn "#{file}: #{status.timeout? ? "out of time" : how}"
      status.success?
    end
  end
rescue SystemCallError => e
  warn e.message
  false
end

ended = Async { |task| files.map { |file| task.async { run(task, command, file, timeout) } }.map(&:wait) }.wait
exit ended.all?
