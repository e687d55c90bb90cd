#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Ruby, by bindings/ruby. Ruby 3.1 installs handlers without SA_ONSTACK.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need ruby ruby
export NETRUNNER_LIBRARY=$LIB/libnetrunner.so
unset RUBYOPT RUBYLIB

host=(ruby -W -I "$ROOT/bindings/ruby/lib" "$HOSTS/ruby_host.rb")
for name in storm forks prefork; do
	check "$name" t "${host[@]}" "$name"
done
check "killed" dies_with_all "${host[@]}" killed

finish
