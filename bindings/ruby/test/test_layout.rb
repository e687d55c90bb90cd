# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Compares structs, constants and functions with what a C compiler makes of the
# header.
class TestLayout < Minitest::Test
  include Helper

  INCLUDE = File.expand_path("../../../include", __dir__)
  LIBRARY = NetRunner.send(:const_get, :Library)
  STRUCTS = {
    "nr_options" => LIBRARY::OPTIONS, "nr_outcome" => LIBRARY::OUTCOME, "nr_statistics" => LIBRARY::STATISTICS
  }.freeze

  def compile(body)
    Dir.mktmpdir do |dir|
      File.write("#{dir}/a.c",
                 "#include <netrunner.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {#{body} return 0; }")
      assert system(ENV.fetch("CC", "cc"), "-I", INCLUDE, "-o", "#{dir}/a", "#{dir}/a.c")
      return IO.popen("#{dir}/a", &:read).lines.to_h { |line| line.split.then { |name, value| [name, value.to_i] } }
    end
  end

  def test_structs
    expected = {}
    STRUCTS.each do |struct, fields|
      offset = 0
      fields.each do |field, directive|
        # in_mode is in.mode, as that is a struct of its own.
        c = field.to_s.sub(/\A(in|out|err)_(mode|fd)\z/, '\1.\2')
        expected["offsetof(#{struct},#{c})"] = offset
        size = [0].pack(directive).bytesize
        expected["sizeof(((#{struct}*)0)->#{c})"] = size
        offset += size
      end
      expected["sizeof(#{struct})"] = offset
    end
    # nr_fdmap and nr_rlimit, as they are packed.
    expected["sizeof(nr_fdmap)"] = [0, 0].pack("l2").bytesize
    expected["offsetof(nr_fdmap,target)"] = 4
    expected["sizeof(nr_rlimit)"] = [0, 0, 0, 0].pack("l2Q2").bytesize
    expected["offsetof(nr_rlimit,soft)"] = 8
    expected["offsetof(nr_rlimit,hard)"] = 16
    assert_equal expected, compile(expected.keys.map { |name| "printf(\"#{name} %zu\\n\", #{name});" }.join)
  end

  def test_constants
    expected = LIBRARY.constants.to_h { |name| [name, LIBRARY.const_get(name)] }
    expected.select! { |_, value| value.is_a?(Integer) }
    renamed = { UNKNOWN: "UINT64_MAX" }
    expected = expected.to_h { |name, value| [renamed.fetch(name, "NR_#{name}"), value & ((1 << 64) - 1)] }
    reasons = %w[OWN KILLED TIMEOUT OUTPUT OOM].each_with_index.to_h { |name, number| ["NR_REASON_#{name}", number] }
    assert_equal reasons.values, LIBRARY::REASONS.keys
    expected = expected.merge(reasons)
    printed = compile(expected.keys.map { |name| "printf(\"#{name} %llu\\n\", (unsigned long long)#{name});" }.join)
    assert_equal expected, printed

    header = File.read("#{INCLUDE}/netrunner.h")
    others = %w[NR_API NR_VERSION NR_STDIO_ NR_REASON_ NR_VERSION_MAJOR NR_VERSION_MINOR NR_VERSION_PATCH NR_]
    assert_empty header.scan(/\bNR_[A-Z_]*/).uniq - expected.keys - others
    functions = header.scan(/^NR_API .*?\b\*?(nr_\w+)\(/).flatten
    assert_empty functions - LIBRARY.send(:const_get, :SIGNATURES).keys.map(&:to_s) - ["nr_close_stdin"]
    version = %w[MAJOR MINOR PATCH].map { |part| header[/VERSION_#{part} (\d+)/, 1] }
    assert_equal version.join("."), NetRunner::VERSION
    assert_equal NetRunner::VERSION, NetRunner.library_version
  end
end
