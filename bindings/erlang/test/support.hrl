%% SPDX-License-Identifier: Apache-2.0
-include_lib("eunit/include/eunit.hrl").
%% A test that takes longer hangs.
-define(T(Name), {timeout, 60, {atom_to_list(Name), fun Name/0}}).
