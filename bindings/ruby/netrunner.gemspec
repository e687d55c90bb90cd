# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "lib/netrunner/version"

Gem::Specification.new do |spec|
  spec.name = "netrunner"
  spec.version = NetRunner::VERSION
  spec.summary = "Run operating system processes, and never lose one"
  spec.description = <<~TEXT
    Runs programs under a shepherd that kills them, and all that they have started, when they end, when they are
    closed, and when the Ruby process dies. With time limits, output limits, terminals and cgroups; for threads, Timeout
    and Fiber schedulers.
  TEXT
  spec.authors = ["The libnetrunner authors"]
  spec.license = "Apache-2.0"
  spec.required_ruby_version = ">= 3.0"
  # It carries the library and the shepherd: see `make gem`.
  spec.platform = Gem::Platform.local
  spec.files = Dir["lib/**/*", "sig/*.rbs", "examples/*.rb", "README.md", "LICENSE"].select { |path| File.file?(path) }
  # Ruby's own until 3.4.
  spec.add_dependency "fiddle", ">= 1.0.1"
  spec.metadata = { "rubygems_mfa_required" => "true" }
end
