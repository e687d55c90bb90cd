// SPDX-License-Identifier: Apache-2.0

//! What the tests share. Each test program uses a part of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// Only what hangs takes as long as this.
pub const LONG: Duration = Duration::from_secs(30);

fn helper(name: &str, variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../build/tests").join(name),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `make tests`", path.display());
    path
}

/// The program of many behaviours, see tests/c/helpers/testprog.c.
pub fn testprog() -> PathBuf {
    helper("testprog", "TESTPROG")
}

/// Builds trees that do not want to die, see tests/c/helpers/hostile.c.
pub fn hostile() -> PathBuf {
    helper("hostile", "HOSTILE")
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited too long: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Zombies count as gone: they are their parent's affair.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap().trim_start().chars().next();
        !matches!(state, Some('Z' | 'X'))
    })
}

pub fn until_dead(pid: u32) {
    until(&format!("process {pid} lives"), || !is_alive(pid));
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Pids of processes whose name begins like this.
pub fn processes_named(name: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid: &u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.starts_with(name)) && is_alive(pid)
        })
        .collect()
}

/// The pids after "child " in lines of output.
pub fn children_told(output: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(output);
    let told = text.lines().filter_map(|line| line.strip_prefix("child "));
    told.map(|pid| pid.trim().parse().unwrap()).collect()
}

/// Runs the ignored test of this name of this very test program, as a host of
/// its own, with pipes.
pub fn host(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture", test])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Bytes in which a lost, doubled or moved piece shows.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
