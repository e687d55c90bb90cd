// SPDX-License-Identifier: Apache-2.0

//! Nothing is left behind: by programs, and by hosts that die.
#![allow(missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Duration;

use netrunner::{errno, Command, Stdio};
use support::*;

#[test]
fn background_jobs_and_daemons_die_with_the_program() {
    let script = "sleep 1000 & echo child $!; setsid sleep 1000 & echo child $!; \
                  (setsid sh -c 'echo child $$; exec sleep 1000' &) ; sleep 0.1; exit 5";
    // They hold the pipe, so this would also hang if they lived.
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let children = children_told(&output.stdout);
    assert_eq!(children.len(), 3);
    for pid in children {
        assert!(!is_alive(pid), "{pid} lives");
    }
}

#[test]
fn a_stubborn_child_dies_with_the_program() {
    let output = Command::new(testprog()).args(["background", "stubborn", "3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!is_alive(children_told(&output.stdout)[0]));
}

#[test]
fn hostile_trees_die() {
    let tag = format!("nrrs{}", process::id());
    let mut command = Command::new(hostile());
    command.args([&tag, "50", "leader(deaf.daemon,5*session,child(scrub.bare(stopped)))"]);
    command.kill_timeout(Duration::ZERO);
    let mut child = command.spawn().unwrap();
    until("the tree is there", || processes_named(&tag).len() >= 8);
    child.stop().unwrap();
    child.wait().unwrap();
    assert_eq!(processes_named(&tag), Vec::<u32>::new());
}

#[test]
fn what_lingers_lives_until_the_drop() {
    let mut command = Command::new("sh");
    command.args(["-c", "setsid sleep 1000 & echo child $!"]).linger(true).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let handle = child.handle();
    let output = child.wait_with_output().unwrap();
    let pid = children_told(&output.stdout)[0];
    // The child is gone, so it is being stopped.
    until_dead(pid);
    assert!(handle.try_wait().unwrap().unwrap().success());

    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = children_told(line.as_bytes())[0];
    assert!(child.wait().unwrap().success());
    assert!(is_alive(pid));
    drop(child);
    until_dead(pid);
}

/// Starts a host, and gives the pids that it tells of.
fn host_with_programs(test: &str) -> (process::Child, Vec<u32>) {
    let mut host = host(test).spawn().unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(host.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        pids.extend(children_told(line.as_bytes()));
        if line == "go" {
            break;
        }
    }
    assert!(pids.len() >= 3 && pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    (host, pids)
}

#[test]
fn nothing_survives_a_killed_host() {
    for test in ["host_with_threads", "host_with_fork"] {
        let (mut host, pids) = host_with_programs(test);
        host.kill().unwrap();
        host.wait().unwrap();
        pids.into_iter().for_each(until_dead);
    }
}

#[test]
fn nothing_survives_a_host_that_ends() {
    let (mut host, pids) = host_with_programs("host_with_threads");
    drop(host.stdin.take());
    assert!(host.wait().unwrap().success());
    pids.into_iter().for_each(until_dead);
}

#[test]
fn nothing_survives_a_host_that_executes_another_program() {
    let (mut host, pids) = host_with_programs("host_that_executes");
    drop(host.stdin.take());
    assert!(host.wait().unwrap().success());
    pids.into_iter().for_each(until_dead);
}

/// A program, a stubborn one with a child, and a daemon, none of them dropped.
fn start_programs() {
    let mut children = vec![
        Command::new("sleep").arg("1000").spawn().unwrap(),
        Command::new(testprog()).args(["family", "stubborn"]).spawn().unwrap(),
        Command::new("sh")
            .args(["-c", "setsid sleep 1000 & echo child $!; sleep 1000"])
            .kill_on_drop(false)
            .spawn()
            .unwrap(),
    ];
    for child in &children {
        println!("child {}", child.id());
    }
    // Three of ours and two of theirs, written by themselves to the same pipe.
    std::thread::sleep(Duration::from_millis(200));
    println!("go");
    children.drain(..).for_each(std::mem::forget);
}

fn wait_for_end_of_input() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[test]
#[ignore = "run by a test"]
fn host_with_threads() {
    start_programs();
    wait_for_end_of_input();
    process::exit(0);
}

#[test]
#[ignore = "run by a test"]
fn host_with_fork() {
    // A fork holds copies of all descriptors of the host, and lives on a while.
    start_programs();
    // SAFETY: the child only sleeps.
    unsafe {
        if libc::fork() == 0 {
            libc::sleep(20);
            libc::_exit(0);
        }
    }
    wait_for_end_of_input();
}

#[test]
#[ignore = "run by a test"]
fn host_that_executes() {
    start_programs();
    wait_for_end_of_input();
    panic!("{}", process::Command::new("true").exec());
}

#[test]
fn a_fork_is_told_that_it_is_one() {
    let output = host("host_that_forks").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("spawn: ECHILD, wait: ECHILD"), "{text}");
    assert!(text.contains("parent: exit status: 0"), "{text}");
}

#[test]
#[ignore = "run by a test"]
fn host_that_forks() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    // SAFETY: of the other threads none holds a lock that the child needs: the
    // harness waits for this test.
    match unsafe { libc::fork() } {
        0 => {
            let name = |error: &std::io::Error| match errno(error) {
                Some(libc::ECHILD) => "ECHILD".to_owned(),
                other => format!("{other:?}"),
            };
            let spawn = Command::new("true").spawn().unwrap_err();
            assert!(spawn.to_string().contains("fork"), "{spawn}");
            let wait = child.try_wait().unwrap_err();
            drop(child);
            println!("spawn: {}, wait: {}", name(&spawn), name(&wait));
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => {
            // SAFETY: pid is our child.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            println!("parent: {}", child.wait().unwrap());
        }
    }
}

#[test]
fn a_killed_shepherd_is_told() {
    let mut child = Command::new("sleep").arg("1000").own_shepherd(true).spawn().unwrap();
    let shepherd = parent_of(child.id()) as i32;
    // SAFETY: the parent of our program is its shepherd.
    unsafe { libc::kill(shepherd, libc::SIGKILL) };
    let error = child.wait().unwrap_err();
    assert_eq!(errno(&error), Some(libc::EOWNERDEAD));
    assert!(error.to_string().contains("shepherd"));
    until_dead(child.id());
    assert!(Command::new("true").status().unwrap().success(), "the next one works");
}
