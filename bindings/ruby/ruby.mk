# SPDX-License-Identifier: Apache-2.0

# The gem is built from copies, so that what has been built stays out of the
# sources.
.PHONY: gem
gem: all ## build the Ruby gem, with the library and the shepherd, into build/
	@rm -rf $(BUILD)/gem $(BUILD)/netrunner-*.gem
	@mkdir -p $(BUILD)/gem
	@cp -r bindings/ruby/lib bindings/ruby/sig bindings/ruby/examples bindings/ruby/README.md \
		bindings/ruby/netrunner.gemspec LICENSE $(BUILD)/gem
	@cp $(BUILD)/libnetrunner.so $(BUILD)/gem/lib/netrunner/libnetrunner.so.0
	@cp $(BUILD)/netrunner-shepherd $(BUILD)/gem/lib/netrunner/
	@cd $(BUILD)/gem && gem build netrunner.gemspec >gem.log 2>&1 || { cat gem.log; exit 1; }
	@mv $(BUILD)/gem/netrunner-*.gem $(BUILD)/
	@ls $(BUILD)/netrunner-*.gem
