# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# NetRunner beside Open3 and IO.popen, in one process:
#
#   ruby bench/compare.rb [BLOCKS]
#
# The variants take turns, in blocks. Printed are the medians, and their ratio to
# NetRunner's. Only the ratios mean anything on a machine that does other things.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__)) unless ENV["NETRUNNER_INSTALLED"]

require "netrunner"
require "open3"

BLOCKS = Integer(ARGV.fetch(0, 9))
BYTES = 64 << 20

def compare(title, runs, variants)
  times = variants.transform_values { [] }
  (BLOCKS + 1).times do |block|
    order = block.even? ? variants : variants.to_a.reverse
    order.each do |name, run|
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      runs.times(&run)
      time = (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) * 1e3 / runs
      times[name] << time if block.positive? # the first block warms up
    end
  end
  puts title
  medians = times.transform_values { |all| all.sort[all.size / 2] }
  medians.each { |name, time| puts format("  %-12s %9.3f ms  %.2f", name, time, time / medians.values.first) }
end

spawns = {
  "NetRunner" => ->(_) { NetRunner.run("/bin/true") },
  "Open3" => ->(_) { Open3.capture3("/bin/true") },
  "IO.popen" => ->(_) { IO.popen("/bin/true", &:read) }
}
compare("run /bin/true", 25, spawns)
ballast = Array.new(1 << 15) { "x" * (1 << 15) } # 1 GiB
compare("the same in a process of 1 GiB", 5, spawns)
ballast.clear
GC.start

input = "x" * (8 << 20)
compare("8 MiB through cat and back", 1,
        "NetRunner" => ->(_) { NetRunner.run("cat", input: input).stdout.bytesize == input.bytesize or raise },
        "Open3" => ->(_) { Open3.capture3("cat", stdin_data: input).first.bytesize == input.bytesize or raise })

command = ["head", "-c", BYTES.to_s, "/dev/zero"]
drain = lambda do |io|
  total = 0
  buffer = String.new(capacity: 1 << 16)
  while (piece = io.read_nonblock(1 << 16, buffer, exception: false))
    piece == :wait_readable ? io.wait_readable : total += piece.bytesize
  end
  total == BYTES or raise "#{total} bytes"
end
compare("read 64 MiB", 1,
        "NetRunner" => ->(_) { NetRunner.spawn(*command) { |program| drain.(program.stdout) } },
        "IO.popen" => ->(_) { IO.popen(command, &drain) })

lines = lambda do |to, from|
  500.times do
    to.puts "line"
    from.gets
  end
end
compare("500 lines through cat and back", 1,
        "NetRunner" => ->(_) { NetRunner.spawn("cat") { |cat| lines.(cat.stdin, cat.stdout) } },
        "IO.popen" => ->(_) { IO.popen("cat", "r+") { |cat| lines.(cat, cat) } })
