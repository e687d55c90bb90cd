// SPDX-License-Identifier: Apache-2.0

//! Bytes to and from a program.
#![allow(missing_docs)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use netrunner::{errno, Command, Reason, Stdio};
use support::*;

const MANY: usize = 10 << 20;

fn cat() -> Command {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn ten_megabytes_through_cat_at_once() {
    let input = pattern(MANY);
    let output = Command::new("cat").output_with(&input).unwrap();
    assert!(output.status.success());
    assert!(output.stdout == input, "{} bytes", output.stdout.len());
}

#[test]
fn ten_megabytes_through_cat_by_two_threads() {
    let mut child = cat().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&pattern(MANY)));
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    assert!(output == pattern(MANY), "{} bytes", output.len());
    assert!(child.wait().unwrap().success());

    let stats = child.stats().unwrap();
    assert_eq!(
        (stats.stdin_bytes, stats.stdout_bytes, stats.stderr_bytes),
        (MANY as u64, MANY as u64, 0)
    );
    assert!(stats.reads > 0 && stats.writes > 0 && stats.wall.is_some() && stats.user.is_some());
}

#[test]
fn one_write_of_more_than_a_pipe_holds() {
    let mut child = Command::new("sh")
        .args(["-c", "sleep 0.1; wc -c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 500_001]).unwrap();
    stdin.close().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"500001\n");
}

#[test]
fn a_small_buffer_loses_nothing() {
    let mut child = Command::new(testprog())
        .args(["write", "1", "100003"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut total, mut buf) = (0, [0; 7]);
    assert_eq!(stdout.read(&mut []).unwrap(), 0);
    loop {
        match stdout.read(&mut buf).unwrap() {
            0 => break,
            n => total += n,
        }
    }
    assert_eq!(total, 100_003);
    assert_eq!(stdout.read(&mut buf).unwrap(), 0, "the end is the end");
}

#[test]
fn stdin_closed_early() {
    let mut child = cat().spawn().unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn a_program_that_does_not_read() {
    let output = Command::new("true").output_with(pattern(MANY)).unwrap();
    assert!(output.status.success());

    let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    child.wait().unwrap();
    assert_eq!(stdin.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn nothing_is_written_where_nobody_reads() {
    let mut child = Command::new(testprog()).arg("flood").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGPIPE));
}

#[test]
fn much_stderr_while_stdout_is_read() {
    let mut command = Command::new(testprog());
    command.args(["write", "2", "3000000", "1", "1000", "2", "3000000"]);
    let output = command.output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 6_000_000));
}

#[test]
fn both_outputs_in_order() {
    let output = Command::new(testprog()).args(["alternate", "1000"]).output().unwrap();
    assert_eq!(output.stdout.split(|&b| b == b'\n').count(), 501);
    assert_eq!(output.stderr.split(|&b| b == b'\n').count(), 501);

    let output = Command::new(testprog())
        .args(["alternate", "1000"])
        .stderr(Stdio::stdout())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..1000));
}

#[test]
fn a_dialog_line_by_line() {
    let mut child = Command::new(testprog())
        .arg("lines")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..500 {
        writeln!(stdin, "line {number}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("got line {number}"));
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn limit_of_output() {
    let mut command = Command::new(testprog());
    command.arg("flood").output_limit(100_000);
    let output = command.output().unwrap();
    assert_eq!(output.status.reason(), Reason::OutputLimit);
    assert_eq!(output.stdout.len(), 100_000);

    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut read = Vec::new();
    let error = child.stdout.take().unwrap().read_to_end(&mut read).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EFBIG));
    assert_eq!(read.len(), 100_000);
    assert_eq!(child.wait().unwrap().reason(), Reason::OutputLimit);

    let exactly = Command::new(testprog())
        .args(["write", "1", "5000", "2", "5000"])
        .output_limit(10_000)
        .output()
        .unwrap();
    assert!(exactly.status.success());
    assert_eq!(exactly.stdout.len() + exactly.stderr.len(), 10_000);
}

#[test]
fn size_of_pipes() {
    // More than the kernel's default, so this would block.
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::piped())
        .pipe_size(1 << 20)
        .kill_timeout(Duration::ZERO)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&vec![0; 1 << 20]).unwrap();
    child.kill().unwrap();
}

#[test]
fn descriptors_can_be_polled() {
    let mut child = cat().spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    assert_eq!(stdout.as_fd().as_raw_fd(), stdout.as_raw_fd());
    let ready = |timeout| {
        let mut one = libc::pollfd { fd: stdout.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one is valid.
        unsafe { libc::poll(&mut one, 1, timeout) }
    };
    assert_eq!(ready(0), 0);
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(ready(30_000), 1);
}

#[test]
fn the_end_of_output_and_of_the_program_come_in_any_order() {
    let mut child = Command::new(testprog())
        .arg("close-outputs")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.wait().unwrap();

    let mut child = Command::new("echo").arg("late").stdout(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    let mut read = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, b"late\n");
}

#[test]
fn streams_outlive_their_child() {
    let mut child = Command::new("sh")
        .args([
            "-c",
            "echo before; trap 'echo after; exit' TERM; echo ready; while :; do sleep 0.01; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    drop(child);
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["after"], "the drop stops it, and what it says is read");
}

#[test]
fn a_socket_as_stream() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new("cat");
    command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let mut ours = File::from(std::os::fd::OwnedFd::from(ours));
    ours.write_all(b"through a socket").unwrap();
    drop(ours);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through a socket");
}

#[test]
fn everything_can_be_sent_and_shared() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<Command>();
    check::<netrunner::Child>();
    check::<netrunner::ChildStdin>();
    check::<netrunner::ChildStdout>();
    check::<netrunner::Handle>();
    check::<netrunner::Stdio>();
    check::<netrunner::Error>();
}
