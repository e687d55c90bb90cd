// SPDX-License-Identifier: Apache-2.0

//! Programs on terminals.
#![allow(missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};

use netrunner::{Command, Stdio};
use support::*;

#[test]
fn it_is_a_terminal_and_its_end_is_an_end() {
    let output = Command::new(testprog()).arg("tty").pty(24, 80).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("fd0=/dev/pts/") && text.contains("session=yes"), "{text}");
    assert!(output.status.success());

    let mut child = Command::new("echo").arg("x").pty(24, 80).spawn().unwrap();
    let mut screen = String::new();
    child.stdout.take().unwrap().read_to_string(&mut screen).expect("no EIO");
    assert_eq!(screen, "x\r\n");
}

#[test]
fn size_and_resize() {
    let mut child =
        Command::new(testprog()).arg("winsize").pty(30, 100).pty_echo(false).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "size 30 100");
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child.resize(50, 132).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "size 50 132");
    child.wait().expect("closing stdin ends it");

    let plain = Command::new("true").spawn().unwrap();
    assert_eq!(plain.resize(1, 1).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
}

#[test]
fn default_size() {
    let output = Command::new("stty").arg("size").pty(0, 0).output().unwrap();
    assert_eq!(output.stdout, b"24 80\r\n");
}

#[test]
fn echo() {
    let typed = |on| {
        let mut command = Command::new("cat");
        command.pty(24, 80).pty_echo(on);
        String::from_utf8(command.output_with("typed\n").unwrap().stdout).unwrap()
    };
    assert_eq!(typed(true).matches("typed").count(), 2);
    assert_eq!(typed(false), "typed\r\n");
}

#[test]
fn much_input_on_a_terminal() {
    let line = "x".repeat(99) + "\n";
    let input = line.repeat(2000);
    let output =
        Command::new("wc").arg("-c").pty(24, 80).pty_echo(false).output_with(&input).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "200000");
}

#[test]
fn stderr_apart() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo out; echo err >&2"]).pty(24, 80).stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\r\n"[..], &b"err\n"[..]));
}

#[test]
fn an_interrupt_is_typed() {
    let mut child =
        Command::new(testprog()).args(["handle", "2", "42"]).pty(24, 80).spawn().unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    screen.read_line(&mut String::new()).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn a_raw_terminal_has_no_end_of_file() {
    let mut child = Command::new(testprog()).arg("raw").pty(24, 80).spawn().unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    screen.read_line(&mut String::new()).unwrap();
    let error = child.stdin.take().unwrap().close().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
}

#[test]
fn end_of_file_is_typed_when_stdin_is_closed() {
    let mut child = Command::new("cat").pty(24, 80).pty_echo(false).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"no newline").unwrap();
    stdin.close().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"no newline");
}
