# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# The code in the README is run. "expression  # => value" is compared.
class TestReadme < Minitest::Test
  include Helper

  README = File.expand_path("../README.md", __dir__)

  File.read(README).scan(/^```ruby\n(.*?)^```/m).each_with_index do |(code), index|
    define_method("test_block_#{index}") do
      skip "the gem async is not installed" if code.include?("async") && !async?

      count = 0
      compare = ->(expected, actual) { (count += 1) && assert_equal(expected, actual.inspect) }
      Thread.current.thread_variable_set(:compare, compare)
      code = code.gsub(/^(\s*)(.+?) +# => (.+)$/) do
        indent, expression, value = Regexp.last_match.captures
        "#{indent}(#{expression}).tap { |v| Thread.current.thread_variable_get(:compare).(#{value.inspect}, v) }"
      end
      in_time { eval(code, TOPLEVEL_BINDING.dup, README) } # rubocop:disable Security/Eval
      assert_equal code.scan(":compare").size, count
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
