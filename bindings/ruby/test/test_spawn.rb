# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# What a program is started with, and what happens when it can't be.
class TestSpawn < Minitest::Test
  include Helper

  def output(*command, **options)
    result = NetRunner.run(*command, **options)
    assert result.success?, result.inspect
    result.stdout
  end

  def test_missing_program
    error = assert_raises(Errno::ENOENT) { NetRunner.run("/no/such/program") }
    assert_includes error.message, "/no/such/program"
    assert_raises(Errno::ENOENT) { NetRunner.spawn({ "PATH" => "/usr/bin" }, "no-such-program-in-path") }
    assert_raises(Errno::ENOENT) { NetRunner.run({ "PATH" => "/usr/bin" }, "echo a shell would do this") }
    assert_raises(Errno::ENOENT) { NetRunner.run("") }
  end

  def test_not_executable
    assert_raises(Errno::EACCES) { NetRunner.run("/etc/passwd") }
    Dir.mktmpdir do |dir|
      File.binwrite("#{dir}/garbage", "\0\1\2")
      File.chmod(0o755, "#{dir}/garbage")
      assert_raises(Errno::ENOEXEC) { NetRunner.run("#{dir}/garbage") }
    end
  end

  def test_a_missing_directory_is_told_from_a_missing_program
    error = assert_raises(Errno::ENOENT) { NetRunner.run("true", chdir: "/no/such/dir") }
    assert_includes error.message, "chdir"
    assert_includes error.message, "/no/such/dir"
  end

  def test_bad_arguments
    assert_raises(ArgumentError) { NetRunner.run }
    assert_raises(ArgumentError) { NetRunner.run({ "A" => "1" }) }
    assert_raises(ArgumentError) { NetRunner.run("true", no_such_option: 1) }
    assert_raises(ArgumentError) { NetRunner.run("a\0b") }
    assert_raises(ArgumentError) { NetRunner.run({ "A\0" => "b" }, "true") }
    assert_raises(ArgumentError) { NetRunner.run({ "A=B" => "b" }, "true") }
    assert_raises(ArgumentError) { NetRunner.run({ "" => "b" }, "true") }
    assert_raises(ArgumentError) { NetRunner.run("true", chdir: "\0") }
    assert_raises(TypeError) { NetRunner.run("echo", 1) }
    assert_raises(TypeError) { NetRunner.run("true", nil) }
    assert_raises(TypeError) { NetRunner.run("true", stdout: Object.new) }
    assert_raises(ArgumentError) { NetRunner.run("true", stdout: :nowhere) }
    assert_raises(ArgumentError) { NetRunner.run("true", stdout: :stdout) }
    assert_raises(ArgumentError) { NetRunner.run("cat", input: "x", stdin: :null) }
  end

  def test_bad_options
    {
      timeout: [-1, "1", Float::NAN], kill_timeout: [-0.1, :soon], output_limit: [0, -1], nice: [20],
      umask: [-1], uid: [-1, 1 << 32], gid: [-1], groups: [[-1]], pipe_size: [-1],
      rlimits: [{ nonsense: 1 }, { nofile: -1 }], pty: [[1, 65_536], [-1, 1]]
    }.each do |option, values|
      values.each do |value|
        assert_raises(ArgumentError, TypeError, "#{option}: #{value.inspect}") do
          NetRunner.run("true", **{ option => value })
        end
      end
    end
    [{ echo: false }, { umask: 0o1000 }, { rlimits: { nofile: [2, 1] } }, { fds: { 2 => $stdin } }].each do |options|
      error = assert_raises(Errno::EINVAL, options.inspect) { NetRunner.run("true", **options) }
      assert_match(/ - ./, error.message)
    end
    assert_raises(Errno::EBADF) { NetRunner.run("true", stdin: 999) }
  end

  def test_missing_shepherd
    error = assert_raises(Errno::ENOPKG) { NetRunner.run("true", shepherd: "/no/shepherd", own_shepherd: true) }
    assert_includes error.message, "/no/shepherd"
  end

  def test_arguments_arrive_byte_by_byte
    every = (1..255).to_a.pack("C*")
    arguments = ["", every, "a b\tc\nd", "$HOME `x` \"y\" 'z' * ?", "--", "\xff\xfe", "ä€𐍈", "x" * 100_000]
    told = output(Helper::TESTPROG, "args", *arguments, binmode: true).split("\0", -1)
    assert_equal [Helper::TESTPROG, "args", *arguments].map(&:b), told[0..-2]
    assert_equal "", told.last
  end

  def test_too_many_arguments_are_an_error
    assert_raises(Errno::E2BIG) { NetRunner.run("true", "x" * (3 << 20)) }
  end

  def test_own_name
    told = output([Helper::TESTPROG, "another name"], "args")
    assert_equal "another name", told.split("\0").first
  end

  def environment(*command, **options)
    output(*command, Helper::TESTPROG, "env", binmode: true, **options).split("\0").sort
  end

  def test_environment_is_exact
    inherited = ENV.to_h.map { |key, value| "#{key}=#{value}".b }.sort
    assert_equal inherited, environment
    assert_equal [], environment(unsetenv_others: true)
    assert_equal ["A=1", "B=x=y\nz", "EMPTY="],
                 environment({ "A" => "1", "B" => "x=y\nz", "EMPTY" => "", "NONE" => nil }, unsetenv_others: true)
    told = environment({ "NETRUNNER_TEST" => "1", "PATH" => nil })
    assert_includes told, "NETRUNNER_TEST=1"
    assert_equal inherited.reject { |var| var.start_with?("PATH=") }, told - ["NETRUNNER_TEST=1"]
  end

  def test_path_of_the_program_s_environment_counts
    Dir.mktmpdir do |dir|
      File.symlink(Helper::TESTPROG, "#{dir}/only-here")
      assert_equal 4, NetRunner.run({ "PATH" => dir }, "only-here", "exit", "4").status.exitstatus
    end
  end

  def test_directory
    Dir.mktmpdir do |dir|
      assert_equal File.realpath(dir), output({ "PWD" => nil }, "pwd", chdir: Pathname(dir)).chomp
    end
  end

  def test_files_as_streams
    Tempfile.create do |input|
      input.write("from a file")
      input.rewind
      Tempfile.create do |both|
        both.write("first\n") # in Ruby's buffer
        result = NetRunner.run("sh", "-c", "cat; echo; echo error >&2", stdin: input, stdout: both, stderr: :stdout)
        assert result.success?
        assert_nil result.stdout
        assert_equal "first\nfrom a file\nerror\n", File.read(both.path)
      end
    end
  end

  def test_null_streams
    result = NetRunner.run("sh", "-c", "cat; echo out; echo err >&2", stdin: :null, stdout: :null, stderr: :null)
    assert_equal [nil, nil], result.to_a.first(2)
  end

  def test_stderr_to_stdout
    assert_equal (0...1000).to_a, output(Helper::TESTPROG, "alternate", "1000", stderr: :stdout).lines.map(&:to_i)
  end

  def test_pipeline
    first = NetRunner.spawn("sh", "-c", "echo b; sleep 0.1; echo a", stdin: :null)
    assert_equal "a\nb\n", output("sort", stdin: first.stdout)
    assert first.stdout.closed?
    assert first.wait.success?
    first.close
  end

  def test_further_descriptors_and_no_others
    File.open("/dev/zero") do |leak|
      leak.close_on_exec = false
      File.open("/dev/null") do |given|
        told = output(Helper::TESTPROG, "fds", fds: { 7 => given, 9 => given.fileno })
        assert_equal %w[0 1 2 7 9], told.lines.map { |line| line.split.first }
      end
    end
  end

  def test_attributes
    told = output(Helper::TESTPROG, "about", umask: 0o027, nice: 5, no_new_privs: true, session: true, chdir: "/")
    about = told.lines.to_h { |line| line.chomp.split("=", 2) }
    assert_equal %w[027 5 1 /], about.values_at("umask", "nice", "no_new_privs", "cwd")
    assert_equal about["pid"], about["sid"]
  end

  def test_limits_of_resources
    assert_equal "77\n", output("sh", "-c", "ulimit -n", rlimits: { nofile: [77, 88] })
    assert_equal "33\n88\n", output("sh", "-c", "ulimit -t; ulimit -Hn",
                                    rlimits: { "cpu" => 33, Process::RLIMIT_NOFILE => [77, 88], core: [0, :infinity] })
  end

  def test_another_user
    if Process.euid.zero?
      told = output("id", uid: 1234, gid: 2345, groups: [3456])
      assert_match(/uid=1234.*gid=2345.*3456/, told)
    else
      assert_raises(Errno::EPERM) { NetRunner.run("true", uid: 0, gid: 0, groups: []) }
    end
  end

  def test_signals_are_as_a_program_expects_them
    # Ruby handles and ignores some; its programs must not.
    told = output("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert_equal [0], told.lines.map { |line| line.split.last.hex }.uniq
  end

  def test_stdin_of_this_process_is_not_stolen
    host("program = NetRunner.run('cat').stdout; print $stdin.read.inspect, program.inspect") do |io, _|
      io.write("a\nb\n")
      io.close_write
      assert_equal "a\nb\n".inspect + "".inspect, io.read
    end
  end

  def test_cgroups
    NetRunner.spawn("cat") do |cat|
      assert_raises(Errno::ENOENT, Errno::ENOTSUP) { cat.cgroup_get("memory.peak") }
      assert_raises(Errno::ENOENT, Errno::ENOTSUP) { cat.cgroup_set("memory.max", 1) }
      assert_raises(ArgumentError) { cat.cgroup_get("a\0b") }
    end
    error = assert_raises(SystemCallError) { NetRunner.run("true", cgroup_base: "../x") }
    assert_includes error.message, "cgroup_base"

    base = "netrunner-ruby-#{Process.pid}"
    begin
      process = NetRunner.spawn("cat", cgroup_base: base)
    rescue Errno::ENOENT, Errno::EACCES, Errno::EPERM, Errno::EROFS, Errno::ENOTSUP => e
      skip e.message # no cgroup2 here, or none of ours
    end
    assert_includes File.read("/proc/#{process.pid}/cgroup"), "/#{base}/"
    assert_equal "#{process.pid}\n", process.cgroup_get("cgroup.procs")
    assert_equal 3, process.cgroup_set("cgroup.max.depth", 3)
    assert_equal "3\n", process.cgroup_get("cgroup.max.depth")
    assert_raises(Errno::ENOENT) { process.cgroup_get("no.such.file") }
    process.close

    told = output("cat", "/proc/self/cgroup", cgroup_base: base, cgroup: { "cgroup.max.depth" => 2 })
    assert_includes told, "/#{base}/"
    assert_raises(SystemCallError) { NetRunner.run("true", cgroup_base: base, cgroup: { "no.such" => 1 }) }
  end

  def test_pid_namespace
    assert_operator output("sh", "-c", "echo $$", pid_namespace: true).size, :<=, 3
  rescue SystemCallError => e
    skip e.message
  end

  def test_inspect
    NetRunner.spawn("cat") do |cat|
      assert_match(/"cat" pid \d+ running/, cat.inspect)
      assert_match(/Writer of/, cat.stdin.inspect)
      cat.stdin.close
      assert_match(/closed/, cat.stdin.inspect)
      cat.wait
      assert_match(/exit 0/, cat.inspect)
    end
  end
end
