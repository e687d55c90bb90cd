# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Each example is run, and prints what it says.
class TestExamples < Minitest::Test
  include Helper

  Dir.glob(File.expand_path("../examples/*.rb", __dir__)).each do |path|
    define_method("test_#{File.basename(path, ".rb")}") do
      skip "the gem async is not installed" if path.end_with?("fibers.rb") && !async?

      text = File.read(path)
      expected = text[/^# Prints:\n((?:#   .*\n)+)/, 1].gsub(/^#   /, "")
      result = NetRunner.run(RbConfig.ruby, *$LOAD_PATH.map { |dir| "-I#{dir}" }, "-W", path, timeout: Helper::LONG)
      assert_equal ["", true], [result.stderr, result.success?]
      assert_equal expected, result.stdout.gsub("\r\n", "\n")
    end
  end

  def async?
    require "async"
  rescue LoadError
    false
  else
    true
  end
end
