# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Runs a program with input, a time limit and a limit of output, and says how it
# ended.
#
# Prints:
#   exit 0: apple, banana, cherry
#   exit 3, and on stderr "no such fruit"
#   time was up: SIGTERM
#   output_limit: 1000 bytes
#   No such file or directory - execve /no/such/program

require "netrunner"

sorted = NetRunner.run("sort", input: "cherry\napple\nbanana\n")
puts "exit #{sorted.status.exitstatus}: #{sorted.stdout.lines(chomp: true).join(", ")}"

_, err, status = *NetRunner.run("sh", "-c", "echo no such fruit >&2; exit 3")
puts "exit #{status.exitstatus}, and on stderr #{err.chomp.inspect}"

slow = NetRunner.run("sleep", "60", timeout: 0.1).status
puts "time was up: SIG#{Signal.signame(slow.termsig)}" if slow.timeout?

endless = NetRunner.run("yes", output_limit: 1000)
puts "#{endless.status.reason}: #{endless.stdout.bytesize} bytes"

begin
  NetRunner.run("/no/such/program")
rescue Errno::ENOENT => e
  puts e.message
end
