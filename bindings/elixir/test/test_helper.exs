# SPDX-License-Identifier: Apache-2.0
Code.require_file("support.exs", __DIR__)
ExUnit.start()
