# SPDX-License-Identifier: Apache-2.0
[
  inputs: ["{mix,.formatter}.exs", "{lib,test,bench,example}/**/*.{ex,exs}"],
  locals_without_parens: [defcommand: 2, defcommand: 3],
  export: [locals_without_parens: [defcommand: 2, defcommand: 3]]
]
