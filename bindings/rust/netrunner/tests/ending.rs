// SPDX-License-Identifier: Apache-2.0

//! How programs end, by themselves and by others.
#![allow(missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use netrunner::{Command, Reason, Stdio};
use support::*;

#[test]
fn all_exit_codes() {
    for code in 0..=255 {
        let status = Command::new(testprog()).arg("exit").arg(code.to_string()).status().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(code), None));
        assert_eq!(status.reason(), Reason::Own);
        assert_eq!(status.success(), code == 0);
        assert!(!status.core_dumped());
        assert_eq!(std::process::ExitStatus::from(status).code(), Some(code));
    }
}

#[test]
fn all_deadly_signals() {
    for signal in [1, 2, 3, 6, 8, 9, 10, 11, 13, 14, 15, 24, 31, 34, 64] {
        let mut command = Command::new(testprog());
        command.arg("die").arg(signal.to_string()).rlimit(libc::RLIMIT_CORE, 0, 0);
        let status = command.status().unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(signal)));
        assert_eq!(status.reason(), Reason::Own);
        assert!(!status.success());
    }
}

#[test]
fn core_dumps_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(testprog());
    command.args(["die", "6"]).rlimit(libc::RLIMIT_CORE, 1 << 24, 1 << 24).current_dir(dir.path());
    let Ok(status) = command.status() else {
        println!("skip core_dumps_are_told: no right to raise the limit");
        return;
    };
    // Where cores go, and whether, is the machine's affair: compare.
    let plain = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -c 16384 && exec {} die 6", testprog().display()))
        .current_dir(dir.path())
        .status()
        .unwrap();
    assert_eq!(std::process::ExitStatus::from(status), plain);
    assert_eq!(status.to_string(), plain.to_string());
    assert_eq!(status.core_dumped(), std::os::unix::process::ExitStatusExt::core_dumped(&plain));
}

#[test]
fn status_in_words() {
    let status = |code: &str| Command::new("sh").args(["-c", code]).status().unwrap().to_string();
    assert_eq!(status("exit 3"), "exit status: 3");
    assert_eq!(status("kill -9 $$"), "signal: 9 (SIGKILL)");
}

#[test]
fn waiting_again_and_polling() {
    let mut child = Command::new(testprog())
        .args(["gate", "7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    assert!(is_alive(child.id()));
    // wait() closes stdin, or this would hang.
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
    assert_eq!(child.wait_timeout(LONG).unwrap().unwrap().code(), Some(7));
}

#[test]
fn kill() {
    let mut child =
        Command::new(testprog()).args(["ignore", "15"]).stdout(Stdio::null()).spawn().unwrap();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.reason()), (Some(9), Reason::Killed));
    child.kill().expect("one that has ended is no error");
    assert_eq!(child.send_signal(15).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    assert_eq!(child.send_signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    child.stop().unwrap();
}

#[test]
fn stop_is_graceful_and_sure() {
    let start = |args: &[&str]| {
        let mut command = Command::new(testprog());
        command.args(args).stdout(Stdio::piped()).kill_timeout(Duration::from_millis(100));
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        (child, stdout)
    };
    let (mut polite, _stdout) = start(&["handle", "15", "42"]);
    polite.stop().unwrap();
    let status = polite.wait().unwrap();
    assert_eq!((status.code(), status.reason()), (Some(42), Reason::Killed));

    let (mut stubborn, _stdout) = start(&["ignore", "15"]);
    stubborn.stop().unwrap();
    let status = stubborn.wait().unwrap();
    assert_eq!((status.signal(), status.reason()), (Some(9), Reason::Killed));
}

#[test]
fn a_handle_ends_what_another_thread_waits_for() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let handle = child.handle();
    assert_eq!(handle.try_wait().unwrap(), None);
    let waiter = thread::spawn(move || child.wait());
    handle.clone().kill().unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().signal(), Some(9));
    assert_eq!(handle.try_wait().unwrap().unwrap().signal(), Some(9));
    assert!(handle.stats().unwrap().wall.is_some());
}

#[test]
fn signals_arrive_exactly_once() {
    // Real-time signals queue, so each one counts.
    let mut child = Command::new(testprog())
        .arg("count")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    for _ in 0..200 {
        child.send_signal(40).unwrap();
    }
    until("200 signals", || {
        stdin.write_all(b"\n").unwrap();
        lines.next().unwrap().unwrap().trim_end() == "40:200"
    });
    thread::sleep(Duration::from_millis(50));
    stdin.write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap().trim_end(), "40:200");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn time_limit_ends_the_tree() {
    let mut command = Command::new(testprog());
    command
        .args(["family", "stubborn"])
        .timeout(Duration::from_millis(300))
        .kill_timeout(Duration::from_millis(100));
    let start = Instant::now();
    let output = command.output().unwrap();
    assert!(start.elapsed() < LONG);
    assert_eq!(output.status.reason(), Reason::Timeout);
    let children = children_told(&output.stdout);
    assert_eq!(children.len(), 1);
    assert!(!is_alive(children[0]));
}

#[test]
fn the_shortest_time_limit_is_one() {
    let status = Command::new("sleep").arg("1000").timeout(Duration::ZERO).status().unwrap();
    assert_eq!(status.reason(), Reason::Timeout);
}

#[test]
fn dropping_the_child_ends_the_program() {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id();
    drop(child);
    until_dead(pid);

    // Also while others hold on to what was the child's.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (pid, handle, _stdin) = (child.id(), child.handle(), child.stdin.take());
    drop(child);
    until_dead(pid);
    until("its end is told", || handle.try_wait().unwrap().is_some());
    assert_eq!(handle.try_wait().unwrap().unwrap().reason(), Reason::Killed);
}

#[test]
fn a_program_may_run_on_after_the_drop() {
    let child = Command::new("sleep").arg("1000").kill_on_drop(false).spawn().unwrap();
    let pid = child.id();
    drop(child);
    thread::sleep(Duration::from_millis(200));
    assert!(is_alive(pid));
    // SAFETY: the program still has its number.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    until_dead(pid);
}

#[test]
fn a_panic_ends_the_program() {
    let pid = thread::spawn(|| {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        std::panic::panic_any(child.id());
    });
    let pid = *pid.join().unwrap_err().downcast::<u32>().unwrap();
    until_dead(pid);
}
