# SPDX-License-Identifier: Apache-2.0
ExUnit.start(capture_log: true)
