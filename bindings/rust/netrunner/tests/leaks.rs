// SPDX-License-Identifier: Apache-2.0

//! Alone in its program, for others would be counted.
#![allow(missing_docs)]

mod support;

use std::os::unix::fs::symlink;
use std::process;

use netrunner::{Command, Stdio};
use support::*;

/// The shepherd is the parent of all programs.
fn shepherd() -> u32 {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let parent = parent_of(child.id());
    child.wait().unwrap();
    parent
}

#[test]
fn three_hundred_spawns_leave_nothing() {
    let tag = format!("nrl{}", process::id());
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(&tag);
    symlink(testprog(), &program).unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args);
        command
    };
    let spawn = |number: usize| match number % 6 {
        0 => drop(command(&["background", "stubborn", "0"]).output().unwrap()),
        1 => drop(command(&["copy"]).output_with("x").unwrap()),
        2 => drop(Command::new("/no/such/program").spawn().unwrap_err()),
        3 => drop(command(&["exit"]).pty(24, 80).output().unwrap()),
        4 => drop(command(&["pause"]).stdin(Stdio::piped()).spawn().unwrap()),
        _ => drop(command(&["exit"]).kill_on_drop(false).spawn().unwrap()),
    };
    (0..12).for_each(spawn); // what is made once
    let (shepherd_before, fds, threads_before) = (shepherd(), descriptors(), threads());
    (0..300).for_each(spawn);
    until("as many descriptors as before", || {
        // A spawn releases what has been left to itself, and has ended.
        Command::new("true").status().unwrap();
        descriptors() <= fds
    });
    until("no program lives", || processes_named(&tag).is_empty());
    // The Go runtime may add one when it sees fit.
    assert!(threads() <= threads_before + 1, "{} threads, {threads_before} before", threads());
    assert_eq!(shepherd(), shepherd_before);
}
