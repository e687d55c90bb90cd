# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

# A Fiber scheduler of the smallest kind, over IO.select, after the one in Ruby's
# own tests.
class TestScheduler
  def initialize
    @readable = {}
    @writable = {}
    @waiting = {}
    @ready = Thread::Queue.new
    @blocked = 0
    @wakeup = IO.pipe
  end

  def run
    until @readable.empty? && @writable.empty? && @waiting.empty? && @blocked.zero?
      readable, writable, = IO.select([*@readable.keys, @wakeup[0]], @writable.keys, nil, next_timeout)
      @wakeup[0].read_nonblock(1000, exception: false) if readable&.include?(@wakeup[0])
      fibers = [*@readable.values_at(*readable), *@writable.values_at(*writable)].compact.uniq
      time = now
      fibers |= @waiting.select { |_, at| at <= time }.keys
      fibers << @ready.pop until @ready.empty?
      fibers.each { |fiber| fiber.resume if fiber.alive? }
    end
  end

  def close
    run
    @wakeup.each(&:close)
  end

  def io_wait(io, events, timeout)
    fiber = Fiber.current
    @readable[io] = fiber if events & IO::READABLE != 0
    @writable[io] = fiber if events & IO::WRITABLE != 0
    @waiting[fiber] = now + timeout if timeout
    Fiber.yield
    events
  ensure
    @readable.delete(io) if @readable[io] == fiber
    @writable.delete(io) if @writable[io] == fiber
    @waiting.delete(fiber)
  end

  # What Timeout calls, from Ruby 3.1 on.
  def timeout_after(duration, exception, message)
    fiber = Fiber.current
    over = false
    Fiber.schedule do
      kernel_sleep(duration)
      fiber.raise(exception, message) unless over
    end
    yield
  ensure
    over = true
  end

  def kernel_sleep(duration = nil)
    block(:sleep, duration)
  end

  def block(_blocker, timeout = nil)
    fiber = Fiber.current
    timeout ? @waiting[fiber] = now + timeout : @blocked += 1
    Fiber.yield
  ensure
    timeout ? @waiting.delete(fiber) : @blocked -= 1
  end

  def unblock(_blocker, fiber)
    @ready << fiber
    @wakeup[1].write_nonblock(".", exception: false)
  end

  def fiber(&block)
    Fiber.new(blocking: false, &block).tap(&:resume)
  end

  private

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def next_timeout
    at = @waiting.values.min
    at && [at - now, 0].max
  end
end
