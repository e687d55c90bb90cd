# frozen_string_literal: true

# SPDX-License-Identifier: Apache-2.0

require_relative "helper"

# Nothing is left behind: by programs, and by hosts that die.
class TestContainment < Minitest::Test
  include Helper

  def test_background_jobs_and_daemons_die_with_the_program
    script = "sleep 1000 & echo child $!; setsid sleep 1000 & echo child $!;" \
             "(setsid sh -c 'echo child $$; exec sleep 1000' &); sleep 0.1; exit 5"
    # They hold the pipe, so this would also hang if they lived.
    result = in_time { NetRunner.run("sh", "-c", script) }
    assert_equal 5, result.status.exitstatus
    children = children_told(result.stdout)
    assert_equal 3, children.size
    assert_empty children.select { |pid| alive?(pid) }
  end

  def test_a_stubborn_child_dies_with_the_program
    result = NetRunner.run(Helper::TESTPROG, "background", "stubborn", "3")
    refute alive?(children_told(result.stdout).fetch(0))
  end

  def test_hostile_trees_die
    tag = "nrrb#{Process.pid}"
    tree = "leader(deaf.daemon,5*session,child(scrub.bare(stopped)))"
    NetRunner.spawn(Helper::HOSTILE, tag, "50", tree, kill_timeout: 0) do
      eventually("the tree is there") { processes_named(tag).size >= 8 }
    end
    assert_empty processes_named(tag)
  end

  def test_what_lingers
    command = ["sh", "-c", "setsid sleep 1000 & echo child $!"]
    result = in_time { NetRunner.run(*command, linger: true) }
    assert_dies children_told(result.stdout).fetch(0)

    pid = nil
    NetRunner.spawn(*command, linger: true) do |program|
      pid = children_told(program.stdout.gets).fetch(0)
      assert program.wait.success?
      assert alive?(pid)
    end
    assert_dies pid
  end

  PROGRAMS = <<~RUBY.freeze
    programs = [
      NetRunner.spawn("sleep", "1000"),
      NetRunner.spawn(#{Helper::TESTPROG.inspect}, "family", "stubborn"),
      NetRunner.spawn("sh", "-c", "setsid sleep 1000 & echo child $!; sleep 1000")
    ]
    programs.each { |program| puts "child \#{program.pid}" }
    programs.last(2).each { |program| puts program.stdout.gets }
    puts "go"
  RUBY
  private_constant :PROGRAMS

  def with_host(code)
    host(PROGRAMS + code) do |io, pid|
      lines = []
      lines << io.gets until lines.last == "go\n"
      pids = children_told(lines.join)
      assert_equal 5, pids.size
      assert(pids.all? { |program| alive?(program) })
      yield io, pid
      pids.each { |program| assert_dies program }
    end
  end

  def test_nothing_survives_a_killed_host
    with_host("$stdin.read") { |_, pid| Process.kill(:KILL, pid) }
  end

  def test_nothing_survives_a_killed_host_with_a_fork
    with_host("fork { sleep 20 }; $stdin.read") { |_, pid| Process.kill(:KILL, pid) }
  end

  def test_nothing_survives_a_host_that_ends
    with_host("$stdin.read") { |io, _| io.close_write }
    with_host("$stdin.read; exit!") { |io, _| io.close_write }
  end

  def test_nothing_survives_a_host_that_executes_another_program
    with_host("$stdin.read; exec 'true'") { |io, _| io.close_write }
  end

  def test_a_fork_is_told_that_it_is_one
    code = <<~RUBY
      cat = NetRunner.spawn("cat")
      pid = fork do
        messages = [-> { NetRunner.run("true") }, -> { cat.wait }, -> { cat.stdin.write("x") }].map do |call|
          call.call
        rescue Errno::ECHILD => error
          error.message
        end
        cat.close
        puts messages.uniq.grep_v(/fork/).inspect
      end
      Process.wait(pid)
      puts $?.success?
      cat.stdin.close # the fork's copy is closed
      puts cat.wait(20)&.exitstatus.inspect
    RUBY
    host(code) do |io, _|
      lines = io.readlines(chomp: true)
      assert_equal %w[[] true 0], lines
    end
  end

  def test_the_fork_does_not_keep_a_stdin_open
    code = <<~RUBY
      cat = NetRunner.spawn("cat")
      reader, writer = IO.pipe
      fork { writer.close; reader.read }
      cat.stdin.close
      puts cat.wait(20)&.exitstatus.inspect
      writer.close
      Process.wait
    RUBY
    host(code) { |io, _| assert_equal "0\n", io.read }
  end

  def test_forks_before_the_first_spawn_work
    code = <<~RUBY
      pids = Array.new(3) { |n| fork { exit NetRunner.run("sh", "-c", "exit \#{n}").status.exitstatus } }
      puts pids.map { |pid| Process.wait2(pid).last.exitstatus }.inspect
      puts NetRunner.run("echo", "parent").stdout
      Process.daemon(true, true)
      NetRunner.run("true") rescue puts $!.class
    RUBY
    host(code) { |io, _| assert_equal "[0, 1, 2]\nparent\nErrno::ECHILD\n", io.read }
  end

  def test_a_killed_shepherd_is_told
    process = NetRunner.spawn("sleep", "1000", own_shepherd: true)
    Process.kill(:KILL, parent_of(process.pid))
    error = assert_raises(Errno::EOWNERDEAD) { in_time { process.wait } }
    assert_includes error.message, "shepherd"
    assert_dies process.pid
    process.close
    assert NetRunner.run("true").success?
  end
end
