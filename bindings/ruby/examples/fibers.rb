# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Programs in a Fiber scheduler, that of the gem async.
#
# Prints:
#   3 programs in one thread: [1, 2, 3]
#   given up: SIGTERM (signal 15), killed

require "async"
require "netrunner"

Async do |task|
  numbers = (1..3).map { |n| task.async { NetRunner.run("sh", "-c", "sleep 0.1; echo #{n}").stdout.to_i } }
  puts "3 programs in one thread: #{numbers.map(&:wait)}"

  NetRunner.spawn("sleep", "60") do |program|
    waiting = task.async { program.wait }
    program.stop
    puts "given up: #{waiting.wait.to_s.sub(/\Apid \d+ /, "")}"
  end
end
