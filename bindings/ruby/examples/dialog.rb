# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Talks to a program line by line.
#
# Prints:
#   1 + 1 = 2
#   6 * 7 = 42
#   exit 0

require "netrunner"

CALCULATOR = "while read -r sum; do echo $(($sum)); done"

NetRunner.spawn("sh", "-c", CALCULATOR) do |calculator|
  ["1 + 1", "6 * 7"].each do |sum|
    calculator.stdin.puts sum
    puts "#{sum} = #{calculator.stdout.gets}"
  end
  calculator.stdin.close
  puts "exit #{calculator.wait.exitstatus}"
end
