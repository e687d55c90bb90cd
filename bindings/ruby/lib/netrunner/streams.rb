# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require "English"
require "fcntl"
require "fiddle"
require "io/wait"
require "stringio"

module NetRunner
  # What both directions have in common. A stream is no ::IO, since the library
  # counts and limits what passes, but behaves like one: blocking methods let
  # other threads run, and other fibers where there is a Fiber scheduler, can be
  # interrupted, and IO.select takes it.
  #
  # One thread at a time may read a stream, or write to it.
  class Stream
    def initialize(process, handle, number) # :nodoc:
      @process = process # must not be collected before its streams
      @handle = handle
      @number = number
      @fileno = Library.check(:nr_fd, handle, number)
      # Not to be closed by Ruby: the descriptor is the library's, which also
      # closes the copy that a fork of this process has.
      @io = IO.for_fd(@fileno, mode, autoclose: false)
      @io.instance_variable_set(:@netrunner_stream, self)
    end

    # The number of the descriptor.
    def fileno
      opened
      @fileno
    end

    # The ::IO to wait for. Never read or write it.
    def to_io
      opened
    end

    def closed?
      @io.closed?
    end

    # Whether it is a terminal.
    def tty?
      opened.tty?
    end
    alias isatty tty?

    # Closes this end. Closing twice is fine. Who waits for it in another thread
    # gets an IOError.
    def close
      return if closed?

      @io.close
      Library.call(:nr_close, @handle, @number)
      nil
    end

    def inspect
      "#<#{self.class}#{" (closed)" if closed?} of #{@process.inspect}>"
    end

    # The ::IO that it really is.
    def descriptor # :nodoc:
      opened
    end

    # For who hands the descriptor to another program, which expects it to block.
    def hand_over # :nodoc:
      flags = opened.fcntl(Fcntl::F_GETFL)
      opened.fcntl(Fcntl::F_SETFL, flags & ~Fcntl::O_NONBLOCK) unless tty?
      fileno
    end

    private

    def opened
      raise IOError, "closed stream" if closed?

      @io
    end
  end

  # A program's stdin, written to like an ::IO. There is no buffer, so nothing
  # has to be flushed.
  class Writer < Stream
    # Writes all of these, waiting where the program does not read. Returns the
    # number of bytes. Errno::EPIPE: the program has closed it, or ended.
    def write(*objects)
      objects.sum do |object|
        bytes = object.to_s.b
        written = 0
        while written < bytes.bytesize
          count = try_write(bytes, written)
          count ? written += count : opened.wait_writable
        end
        bytes.bytesize
      end
    end

    # Writes what fits now and returns the number of bytes. When nothing does, it
    # raises IO::WaitWritable, or returns :wait_writable with
    # <tt>exception: false</tt>.
    def write_nonblock(object, exception: true)
      bytes = object.to_s.b
      return 0 if bytes.empty?

      count = try_write(bytes, 0)
      return count if count
      return :wait_writable unless exception

      raise IO::EAGAINWaitWritable, "write would block"
    end
    alias syswrite write

    def <<(object)
      write(object)
      self
    end

    def print(*objects)
      write(StringIO.new.tap { |text| text.print(*objects) }.string)
      nil
    end

    def puts(*objects)
      write(StringIO.new.tap { |text| text.puts(*objects) }.string)
      nil
    end

    def printf(format, *objects)
      write(format(format, *objects))
      nil
    end

    # Nothing to do.
    def flush
      opened
      self
    end

    def sync
      true
    end

    def sync=(_always); end

    def wait_writable(timeout = nil)
      opened.wait_writable(timeout) && self
    end

    # Closes it: the program reads the end of its input behind what was written.
    # On a terminal that is the end-of-file character, typed; a program that has
    # put the terminal in raw mode makes it Errno::ENOTTY, and it stays open.
    def close
      @io.wait_writable until try_close
    end

    # Whether it is closed; a terminal may have to be asked again.
    def try_close # :nodoc:
      return true if closed?
      # Ruby's first: once the library has closed it, the number may be another's.
      return !abandon unless tty?

      result = Library.call(:nr_close, @handle, @number)
      case -result
      when 0, Errno::EBADF::Errno, Errno::ECHILD::Errno then @io.close
      when Errno::EAGAIN::Errno then return false
      else raise Library.error(result)
      end
      true
    end

    # Closes it, whatever a terminal may think of it.
    def abandon # :nodoc:
      return if closed?

      @io.close
      Library.call(:nr_close, @handle, @number)
      nil
    end

    private

    # As much as a pipe ever takes at once by default.
    CHUNK = 1 << 16
    private_constant :CHUNK

    # The number of bytes written, or nil.
    def try_write(bytes, from)
      opened
      piece = from.zero? && bytes.bytesize <= CHUNK ? bytes : bytes.byteslice(from, CHUNK)
      # An interrupt must not come between the writing and our knowing of it.
      Thread.handle_interrupt(Object => :never) do
        count = Library.call(:nr_write, @handle, piece, piece.bytesize)
        return count if count.positive?
        return nil if count == -Errno::EAGAIN::Errno

        raise Library.error(count)
      end
    end

    def mode
      "wb"
    end
  end

  # A program's stdout or stderr, or the screen of its terminal, read like an
  # ::IO. Strings have the external encoding, those of a given length are binary.
  #
  # When the program has written more than its +output_limit+, reading behind
  # that raises Errno::EFBIG.
  class Reader < Stream
    include Enumerable

    # The encoding of text, Encoding.default_external if not set.
    attr_reader :external_encoding

    def initialize(process, handle, number) # :nodoc:
      super
      @buffer = String.new(encoding: Encoding::BINARY)
      @eof = false
      @external_encoding = Encoding.default_external
    end

    def set_encoding(encoding)
      @external_encoding = Encoding.find(encoding)
      self
    end

    def binmode
      set_encoding(Encoding::BINARY)
    end

    # Reads to the end, or so many bytes. At the end that is "", or nil if bytes
    # were asked for.
    def read(length = nil, buffer = nil)
      raise ArgumentError, "negative length #{length}" if length&.negative?

      fill until @eof || (length && @buffer.bytesize >= length)
      bytes = take(length || @buffer.bytesize)
      bytes.force_encoding(external_encoding) unless length
      into(buffer, bytes)
      length&.positive? && bytes.empty? ? nil : buffer || bytes
    end

    # Reads what there is, at most so many bytes, and waits only if there is
    # nothing. EOFError at the end.
    def readpartial(length, buffer = nil)
      read_some(length, buffer) { fill }
    end

    # As #readpartial, but when there is nothing it raises IO::WaitReadable, or
    # returns :wait_readable with <tt>exception: false</tt>, which also makes the
    # end nil.
    def read_nonblock(length, buffer = nil, exception: true)
      read_some(length, buffer) do
        unless try_fill
          return :wait_readable unless exception

          raise IO::EAGAINWaitReadable, "read would block"
        end
      end
    rescue EOFError
      raise if exception
    end
    alias sysread readpartial

    # Reads a line, with its end if not +chomp+. nil at the end.
    def gets(separator = $INPUT_RECORD_SEPARATOR, limit = nil, chomp: false)
      if separator.is_a?(Integer)
        limit = separator
        separator = $INPUT_RECORD_SEPARATOR
      end
      return String.new(encoding: external_encoding) if limit&.zero?

      length, ending = separator&.empty? ? find_paragraph(limit) : find_line(separator, limit)
      line = take(length)
      return if line.empty?

      drop_newlines if separator&.empty?
      line = line.byteslice(0, line.bytesize - ending) if chomp
      line.force_encoding(external_encoding)
    end

    # As #gets. EOFError at the end.
    def readline(*arguments, **options)
      gets(*arguments, **options) || raise(EOFError, "end of file reached")
    end

    def each_line(*arguments, **options)
      return enum_for(:each_line, *arguments, **options) unless block_given?

      while (line = gets(*arguments, **options))
        yield line
      end
      self
    end
    alias each each_line

    def readlines(*arguments, **options)
      each_line(*arguments, **options).to_a
    end

    # Reads a byte. nil at the end.
    def getbyte
      read(1)&.ord
    end

    # Whether there is nothing more; waits until that is known.
    def eof?
      fill while @buffer.empty? && !@eof
      @buffer.empty?
    end
    alias eof eof?

    # Waits until there is something to read, or the end. nil when the time, in
    # seconds, was over.
    def wait_readable(timeout = nil)
      return self unless @buffer.empty? && !@eof

      opened.wait_readable(timeout) && self
    end

    # The ::IO to wait for. Never read it. IO.select asks for it each time, so
    # where bytes are already here it is one that is always readable.
    def to_io
      opened
      @buffer.empty? && !@eof ? @io : READABLE
    end

    # Takes what there is now, or nil. Too much output is an end like any other
    # for who wants all of it: the status tells.
    def capture # :nodoc:
      progress = false
      progress = true while !@eof && try_fill
      progress
    rescue Errno::EFBIG
      @eof = true
    end

    # Whether all has been read from the program.
    def ended? # :nodoc:
      @eof
    end

    # All that was captured.
    def captured # :nodoc:
      take(@buffer.bytesize).force_encoding(external_encoding)
    end

    private

    CHUNK = 1 << 16
    private_constant :CHUNK

    # The reading end of a pipe whose other end is closed.
    READABLE = IO.pipe.tap { |_, writer| writer.close }.first
    private_constant :READABLE

    def mode
      "rb"
    end

    def read_some(length, buffer)
      raise ArgumentError, "negative length #{length}" if length.negative?
      return buffer ? buffer.clear : +"" if length.zero?

      yield while @buffer.empty? && !@eof
      bytes = into(buffer, take(length))
      raise EOFError, "end of file reached" if bytes.empty?

      buffer || bytes
    end

    # A caller's buffer keeps its encoding.
    def into(buffer, bytes)
      buffer&.replace(bytes.dup.force_encoding(buffer.encoding))
      bytes
    end

    # Waits for more, or for the end.
    def fill
      opened.wait_readable until try_fill
    end

    # Takes more, or notes the end; false if there is nothing now.
    def try_fill
      opened
      scratch = Thread.current.thread_variable_get(:netrunner_scratch)
      unless scratch
        scratch = Fiddle::Pointer.malloc(CHUNK, Fiddle::RUBY_FREE)
        Thread.current.thread_variable_set(:netrunner_scratch, scratch)
      end
      # An interrupt must not come between the reading and our having it.
      Thread.handle_interrupt(Object => :never) do
        count = Library.call(:nr_read, @handle, @number, scratch, CHUNK)
        case count
        when 1.. then @buffer << scratch[0, count]
        when 0 then @eof = true
        when -Errno::EAGAIN::Errno then return false
        else raise Library.error(count)
        end
      end
      true
    end

    # The first bytes of the buffer, and out of it.
    def take(length)
      if length >= @buffer.bytesize
        all = @buffer
        @buffer = String.new(encoding: Encoding::BINARY)
        return all
      end
      bytes = @buffer.byteslice(0, length)
      @buffer = @buffer.byteslice(length, @buffer.bytesize - length)
      bytes
    end

    # How long the line is, and how much of that is its ending.
    def find_line(separator, limit)
      separator = separator&.b
      searched = 0
      loop do
        found = separator && @buffer.index(separator, searched)
        length = found + separator.bytesize if found
        return [limit, 0] if limit && (length || @buffer.bytesize) >= limit && length != limit
        return [length, ending(length, separator)] if length
        return [@buffer.bytesize, 0] if @eof

        searched = [@buffer.bytesize - (separator ? separator.bytesize - 1 : 0), 0].max
        fill
      end
    end

    # chomp takes "\r\n", too.
    def ending(length, separator)
      separator == "\n" && @buffer.byteslice(0, length).end_with?("\r\n") ? 2 : separator.bytesize
    end

    def find_paragraph(limit)
      drop_newlines
      find_line("\n\n", limit)
    end

    def drop_newlines
      loop do
        fill while @buffer.empty? && !@eof
        break unless @buffer.start_with?("\n")

        take(1)
      end
    end
  end
end
