# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# Many programs at a time: with threads, and with one IO.select.
#
# Prints:
#   [0, 1, 4, 9, 16]
#   fast fast slow

require "netrunner"

squares = Array.new(5) { |n| Thread.new { NetRunner.run("sh", "-c", "echo $((#{n} * #{n}))").stdout.to_i } }
puts squares.map(&:value).inspect

programs = { "slow" => 0.4, "fast" => 0.1 }.map do |name, pause|
  NetRunner.spawn("sh", "-c", "sleep #{pause}; echo #{name}; #{"sleep 0.1; echo fast" if name == "fast"}")
end
streams = programs.map(&:stdout)
words = []
until streams.empty?
  IO.select(streams).first.each do |stream|
    words.concat(stream.readpartial(1000).split)
  rescue EOFError
    streams.delete(stream)
  end
end
puts words.join(" ")
programs.each(&:close)
