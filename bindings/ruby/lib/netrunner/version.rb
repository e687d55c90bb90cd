# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

module NetRunner
  VERSION = "0.1.0"
end
