// SPDX-License-Identifier: Apache-2.0

//! Programs in an event loop.
#![allow(missing_docs)]
#![cfg(feature = "tokio")]

mod support;

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use netrunner::tokio::{Child, Command};
use netrunner::{errno, Error, Reason, Stdio};
use support::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

const MANY: usize = 10 << 20;

/// On one thread, where nothing may block, and on two.
fn run<T>(test: impl Fn() -> T)
where
    T: Future<Output = ()>,
{
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    for runtime in [one, two.unwrap()] {
        runtime.block_on(async { timeout(LONG * 2, test()).await.expect("it hangs") });
    }
}

fn piped(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn output_and_status() {
    run(|| async {
        let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output();
        let output = output.await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3));
        let status = Command::new("sh").args(["-c", "kill -9 $$"]).status().await.unwrap();
        assert_eq!(status.signal(), Some(9));
    });
}

#[test]
fn spawn_errors_have_kind_and_words() {
    run(|| async {
        let error = Command::new("/no/such/program").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(Error::of(&error).unwrap().why().contains("/no/such/program"), "{error}");
        let error = Command::new("/etc/passwd").output().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Command::new("true").current_dir("/no/dir").status().await.unwrap_err();
        assert!(error.to_string().contains("/no/dir"), "{error}");
        let error = Command::new("true").arg("\0").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = Command::new("true").shepherd("/no").own_shepherd(true).spawn().await;
        assert_eq!(errno(&error.unwrap_err()), Some(libc::ENOPKG));
    });
}

#[test]
fn all_exit_codes() {
    run(|| async {
        for code in 0..=255 {
            let status = Command::new(testprog()).args(["exit", &code.to_string()]).status();
            assert_eq!(status.await.unwrap().code(), Some(code));
        }
    });
}

#[test]
fn ten_megabytes_through_cat() {
    let input = pattern(MANY);
    run(|| async {
        let output = Command::new("cat").output_with(&input).await.unwrap();
        assert!(output.stdout == input, "{} bytes", output.stdout.len());
    });
}

#[test]
fn ten_megabytes_through_cat_by_two_tasks() {
    run(|| async {
        let mut child = piped("cat").spawn().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = tokio::spawn(async move { stdin.write_all(&pattern(MANY)).await });
        let mut output = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut output).await.unwrap();
        writer.await.unwrap().unwrap();
        assert!(output == pattern(MANY), "{} bytes", output.len());
        assert!(child.wait().await.unwrap().success());
        assert_eq!(child.stats().unwrap().stdout_bytes, MANY as u64);
    });
}

#[test]
fn a_dialog_line_by_line() {
    run(|| async {
        let mut command = Command::new(testprog());
        command.arg("lines").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for number in 0..200 {
            stdin.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
            let line = lines.next_line().await.unwrap().unwrap();
            assert_eq!(line, format!("got line {number}"));
        }
        stdin.shutdown().await.unwrap();
        assert_eq!(stdin.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(lines.next_line().await.unwrap().is_none());
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn much_stderr_and_unread_stdin() {
    run(|| async {
        let mut command = Command::new(testprog());
        command.args(["write", "2", "3000000", "1", "1000"]);
        let output = command.output_with(vec![0; MANY]).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 3_000_000));
    });
}

#[test]
fn a_program_that_has_gone_reads_nothing() {
    run(|| async {
        let mut child = piped("true").spawn().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().await.unwrap();
        assert_eq!(stdin.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn wait_is_cancel_safe() {
    run(|| async {
        let mut command = Command::new(testprog());
        command.args(["gate", "7"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().await.unwrap();
        let stdin = child.stdin.take();
        for _ in 0..50 {
            let waited = timeout(Duration::from_millis(1), child.wait()).await;
            assert!(waited.is_err());
        }
        assert!(child.id().is_some());
        drop(stdin);
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
        assert_eq!(child.id(), None);
    });
}

#[test]
fn reads_are_cancel_safe() {
    run(|| async {
        let mut command = Command::new(testprog());
        command.args(["write", "1", "2000003"]).stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut total, mut buf) = (0, vec![0; 5000]);
        loop {
            tokio::select! {
                biased;
                n = stdout.read(&mut buf) => match n.unwrap() {
                    0 => break,
                    n => total += n,
                },
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(total, 2_000_003);
    });
}

#[test]
fn dropping_ends_the_program() {
    run(|| async {
        let mut child = piped("cat").spawn().await.unwrap();
        let (pid, stdin) = (child.id().unwrap(), child.stdin.take());
        drop(child);
        until_dead(pid); // though what was its input is open
        drop(stdin);

        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 1000 & echo child $!; sleep 1000; sleep 1000"]);
        command.stdout(Stdio::piped()).kill_timeout(Duration::from_millis(50));
        let mut child = command.spawn().await.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let pids = [child.id().unwrap(), children_told(line.as_bytes())[0]];
        drop(child);
        pids.into_iter().for_each(until_dead);
    });
}

#[test]
fn cancelling_ends_the_program() {
    run(|| async {
        // The future is dropped at every point of its way, the first ones of
        // which are in the spawn.
        for micros in [0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 20_000] {
            let tag = format!("nrc{}x{micros}", std::process::id());
            let mut command = Command::new(hostile());
            command.args([&tag, "59", "leader"]).kill_timeout(Duration::ZERO);
            let _ = timeout(Duration::from_micros(micros), command.output()).await;
            until("it is gone", || processes_named(&tag).is_empty());
        }
    });
}

#[test]
fn a_program_may_run_on_after_the_drop() {
    run(|| async {
        let child = Command::new("sleep").arg("1000").kill_on_drop(false).spawn().await.unwrap();
        let pid = child.id().unwrap();
        drop(child);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(is_alive(pid));
        // SAFETY: the program still has its number.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        until_dead(pid);
    });
}

#[test]
fn kill_stop_and_signals() {
    run(|| async {
        let mut child = Command::new("sleep").arg("1000").spawn().await.unwrap();
        child.kill().await.unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!((status.signal(), status.reason()), (Some(9), Reason::Killed));
        child.start_kill().expect("one that has ended is no error");
        assert_eq!(errno(&child.send_signal(0).unwrap_err()), Some(libc::ESRCH));

        let mut command = Command::new(testprog());
        command.args(["ignore", "15"]).kill_timeout(Duration::from_millis(50));
        let mut child = command.stdout(Stdio::piped()).spawn().await.unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        let handle = child.handle();
        handle.stop().unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));

        let mut child = Command::new("sleep").arg("1000").spawn().await.unwrap();
        child.send_signal(libc::SIGUSR1).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGUSR1));
    });
}

#[test]
fn limits() {
    run(|| async {
        let mut command = Command::new(testprog());
        command.args(["family", "stubborn"]).timeout(Duration::from_millis(100));
        let output = command.kill_timeout(Duration::from_millis(100)).output().await.unwrap();
        assert_eq!(output.status.reason(), Reason::Timeout);
        assert!(!is_alive(children_told(&output.stdout)[0]));

        let mut command = Command::new(testprog());
        command.arg("flood").output_limit(100_000);
        let output = command.output().await.unwrap();
        assert_eq!((output.status.reason(), output.stdout.len()), (Reason::OutputLimit, 100_000));
        let mut child = command.stdout(Stdio::piped()).spawn().await.unwrap();
        let mut read = Vec::new();
        let error = child.stdout.take().unwrap().read_to_end(&mut read).await.unwrap_err();
        assert_eq!((errno(&error), read.len()), (Some(libc::EFBIG), 100_000));
    });
}

#[test]
fn terminals() {
    run(|| async {
        let output = Command::new(testprog()).arg("tty").pty(24, 80).output().await.unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("session=yes"));

        let mut command = Command::new(testprog());
        let mut child = command.arg("winsize").pty(30, 100).pty_echo(false).spawn().await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "size 30 100");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        child.resize(50, 132).unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "size 50 132");
        child.stdin.as_mut().unwrap().shutdown().await.unwrap();
        assert!(lines.next_line().await.expect("no EIO").is_none());
        assert!(child.wait().await.unwrap().success());

        let input = ("x".repeat(99) + "\n").repeat(2000);
        let mut command = Command::new("wc");
        let output = command.arg("-c").pty(24, 80).pty_echo(false).output_with(&input).await;
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap().trim(), "200000");

        let mut child = Command::new(testprog()).arg("raw").pty(24, 80).spawn().await.unwrap();
        let mut line = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
        let error = child.stdin.as_mut().unwrap().shutdown().await.unwrap_err();
        assert_eq!(errno(&error), Some(libc::ENOTTY));
    });
}

#[test]
fn what_lingers_does_not_hold_up() {
    run(|| async {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 1000 & echo child $!"]).linger(true);
        let output = command.output().await.unwrap();
        until_dead(children_told(&output.stdout)[0]);
    });
}

#[test]
fn pipelines() {
    run(|| async {
        let mut first = piped("sh");
        let mut first = first.args(["-c", "echo b; echo a"]).spawn().await.unwrap();
        let between = Stdio::try_from(first.stdout.take().unwrap()).unwrap();
        let output = Command::new("sort").stdin(between).output().await.unwrap();
        assert_eq!(output.stdout, b"a\nb\n");
        let mut second = piped("cat").spawn().await.unwrap();
        let fd = second.stdin.take().unwrap().into_owned_fd().unwrap();
        let mut third = Command::new("echo");
        assert!(third.arg("x").stdout(fd).status().await.unwrap().success());
        drop(third);
        assert_eq!(second.wait_with_output().await.unwrap().stdout, b"x\n");
    });
}

#[test]
fn hundreds_at_once() {
    run(|| async {
        let mut tasks = Vec::new();
        for number in 0..200 {
            tasks.push(tokio::spawn(async move {
                let mut command = Command::new("cat");
                let text = format!("number {number}");
                let output = command.output_with(&text).await.unwrap();
                assert_eq!(output.stdout, text.as_bytes());
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_killed_shepherd_is_told() {
    run(|| async {
        let mut command = Command::new("sleep");
        let mut child = command.arg("1000").own_shepherd(true).spawn().await.unwrap();
        let shepherd = parent_of(child.id().unwrap()) as i32;
        // SAFETY: the parent of our program is its shepherd.
        unsafe { libc::kill(shepherd, libc::SIGKILL) };
        assert_eq!(errno(&child.wait().await.unwrap_err()), Some(libc::EOWNERDEAD));
        until_dead(child.id().unwrap());
    });
}

#[test]
fn everything_can_be_sent_and_shared() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    fn check_future<T: Send>(_: T) {}
    check::<Command>();
    check::<Child>();
    check::<netrunner::tokio::ChildStdin>();
    check::<netrunner::tokio::ChildStdout>();
    check_future(Command::new("true").output());
    check_future(Command::new("true").spawn());
}
