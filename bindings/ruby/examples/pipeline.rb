# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Connects two programs; the bytes do not pass through this process.
#
# Prints:
#   banana
#   cherry
#   true true

require "netrunner"

NetRunner.spawn("printf", "%s\n", "cherry", "apple", "banana") do |first|
  second = NetRunner.run("sh", "-c", "grep -v apple | sort", stdin: first.stdout)
  puts second.stdout
  puts "#{first.wait.success?} #{second.success?}"
end
