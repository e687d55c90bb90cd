# SPDX-License-Identifier: Apache-2.0

PYTHON ?= python3

.PHONY: wheel
wheel: all ## build the Python wheel into build/wheel/
	@bindings/python/deps.sh
	@bindings/python/venv $(BUILD)/python/venv $(PYTHON)
	@rm -rf $(BUILD)/wheel $(BUILD)/python/build
	@NETRUNNER_BUILD=$(abspath $(BUILD)) $(BUILD)/python/venv/bin/python -m build --wheel --no-isolation \
		--outdir $(BUILD)/wheel bindings/python >$(BUILD)/python/wheel.log 2>&1 || \
		{ cat $(BUILD)/python/wheel.log; exit 1; }
	@ls $(BUILD)/wheel/*.whl
