# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Runs programs on terminals: one looks at its terminal, one asks for a secret.
#
# Prints:
#   40 100
#   Secret? [hunter2] is none any more.

require "netrunner"

puts NetRunner.run("stty", "size", pty: [40, 100]).stdout

question = "printf 'Secret? '; read -r secret; echo \"[$secret] is none any more.\""
NetRunner.spawn("sh", "-c", question, pty: true, echo: false) do |program|
  prompt = program.stdout.readpartial(100)
  program.stdin.puts "hunter2"
  puts prompt + program.stdout.read.chomp
end
