# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# What a program leaves behind is killed before its end is told.
#
# Prints:
#   the program: exit 0
#   its daemon: gone

require "netrunner"

# In a session of its own, and with a pipe that would keep Open3 waiting.
result = NetRunner.run("sh", "-c", "setsid sleep 1000 & echo $!")
puts "the program: exit #{result.status.exitstatus}"
puts "its daemon: #{File.exist?("/proc/#{result.stdout.chomp}") ? "lives" : "gone"}"
