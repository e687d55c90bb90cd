// SPDX-License-Identifier: Apache-2.0

//! What a program is started with, and what happens when it can't be.
#![allow(missing_docs)]

mod support;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use netrunner::{errno, Command, Error, Stdio};
use support::*;

fn why(error: &io::Error) -> &str {
    Error::of(error).expect("a text").why()
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn missing_program() {
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(errno(&error), Some(libc::ENOENT));
    assert!(why(&error).contains("/no/such/program"), "{error}");
    assert_eq!(error.to_string(), why(&error));

    let error =
        Command::new("no-such-program-in-path").env("PATH", "/usr/bin").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn not_executable() {
    let error = Command::new("/etc/passwd").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);

    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("garbage");
    fs::write(&script, [0, 1, 2, 3]).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Command::new(&script).spawn().unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOEXEC), "{error}");
}

#[test]
fn missing_directory_is_told_from_missing_program() {
    let error = Command::new("true").current_dir("/no/such/dir").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(why(&error).contains("/no/such/dir"), "{error}");
}

#[test]
fn nul_bytes_are_refused() {
    for command in [
        Command::new("tr\0ue"),
        Command::new("true").arg("a\0b").take(),
        Command::new("true").env("A", "b\0c").take(),
        Command::new("true").env("A\0", "b").take(),
        Command::new("true").current_dir("/\0").take(),
    ] {
        let mut command = command;
        let error = command.spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(why(&error).contains("NUL"), "{error}");
    }
}

/// Builder chains give references.
trait Take {
    fn take(&mut self) -> Self;
}

impl Take for Command {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Command::new(""))
    }
}

#[test]
fn bad_options_are_refused() {
    type Change = fn(&mut Command) -> &mut Command;
    let bad: [Change; 10] = [
        |c| c.env("", "x"),
        |c| c.env("A=B", "x"),
        |c| c.output_limit(0),
        |c| c.umask(0o1000),
        |c| c.nice(20),
        |c| c.rlimit(libc::RLIMIT_NOFILE, 2, 1),
        |c| c.rlimit(u32::MAX, 1, 1),
        |c| c.fd(2, File::open("/dev/null").unwrap()),
        |c| c.pty_echo(false),
        |c| c.uid(u32::MAX),
    ];
    for (number, change) in bad.into_iter().enumerate() {
        let error = change(&mut Command::new("true")).spawn().expect_err(&number.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
        assert!(!why(&error).is_empty());
    }
    let error = Command::new("").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn missing_shepherd() {
    let error = Command::new("true").shepherd("/no/shepherd").own_shepherd(true).spawn();
    let error = error.unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOPKG));
    assert!(why(&error).contains("/no/shepherd"), "{error}");
}

#[test]
fn arguments_arrive_byte_by_byte() {
    let every: Vec<u8> = (1..=255).collect();
    let args = [
        OsString::from(""),
        OsString::from_vec(every),
        OsString::from("a b\tc\nd"),
        OsString::from("$HOME `x` \"y\" 'z' * ?"),
        OsString::from("--"),
        OsString::from_vec(b"\xff\xfe".to_vec()),
        OsString::from("x".repeat(100_000)),
    ];
    let output = Command::new(testprog()).arg("args").args(&args).output().unwrap();
    let mut told = output.stdout.split(|&byte| byte == 0).skip(2);
    for arg in &args {
        assert_eq!(told.next().unwrap(), arg.as_encoded_bytes());
    }
    assert_eq!(told.next(), Some(&b""[..]));
    assert_eq!(told.next(), None);
}

#[test]
fn too_many_arguments_are_an_error() {
    let error = Command::new("true").arg("x".repeat(3 << 20)).spawn().unwrap_err();
    assert_eq!(errno(&error), Some(libc::E2BIG), "{error}");
}

#[test]
fn own_name() {
    let mut command = Command::new(testprog());
    let told = output_of(command.arg0("another name").arg("args"));
    assert_eq!(told.split('\0').next(), Some("another name"));
}

fn env_of(command: &mut Command) -> Vec<String> {
    let told = output_of(command.arg("env"));
    let mut told: Vec<_> = told.split_terminator('\0').map(str::to_owned).collect();
    told.sort();
    told
}

#[test]
fn environment_is_exact() {
    let mut inherited: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
    inherited.sort();
    assert_eq!(env_of(&mut Command::new(testprog())), inherited);

    assert_eq!(env_of(Command::new(testprog()).env_clear()), Vec::<String>::new());
    let mut command = Command::new(testprog());
    command.env("LOST", "1").env_clear().env("A", "1").env("B", "x=y\nz").env("EMPTY", "");
    assert_eq!(env_of(&mut command), ["A=1", "B=x=y\nz", "EMPTY="]);

    let mut command = Command::new(testprog());
    command.env("NETRUNNER_RUST_TEST", "1").env_remove("PATH");
    let told = env_of(&mut command);
    assert!(told.contains(&"NETRUNNER_RUST_TEST=1".to_owned()));
    assert!(!told.iter().any(|var| var.starts_with("PATH=")));
    assert_eq!(told.len(), inherited.len());
}

#[test]
fn path_of_the_program_s_environment_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(testprog(), dir.path().join("only-here")).unwrap();
    let status = Command::new("only-here").arg("exit").arg("4").env("PATH", dir.path()).status();
    assert_eq!(status.unwrap().code(), Some(4));
}

#[test]
fn directory() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let told = output_of(Command::new("pwd").current_dir(&real).env_remove("PWD"));
    assert_eq!(OsStr::new(told.trim_end()), real);
}

#[test]
fn getters() {
    let mut command = Command::new("program");
    command.args(["a", "b"]).env("K", "v").env_remove("R").current_dir("/d");
    assert_eq!(command.get_program(), "program");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["a", "b"]);
    let envs: Vec<_> = command.get_envs().collect();
    assert_eq!(envs, [("K".as_ref(), Some("v".as_ref())), ("R".as_ref(), None)]);
    assert_eq!(command.get_current_dir(), Some("/d".as_ref()));
}

#[test]
fn a_command_runs_again() {
    let mut command = Command::new("echo");
    command.arg("once");
    assert_eq!(output_of(&mut command), "once\n");
    command.arg("more");
    assert_eq!(output_of(&mut command), "once more\n");
}

#[test]
fn files_as_streams() {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"from a file").unwrap();
    input.rewind().unwrap();
    let mut both = tempfile::tempfile().unwrap();
    let status = Command::new("sh")
        .args(["-c", "cat; echo; echo error >&2"])
        .stdin(input)
        .stdout(both.try_clone().unwrap())
        .stderr(Stdio::stdout())
        .status();
    assert!(status.unwrap().success());
    let mut text = String::new();
    both.rewind().unwrap();
    both.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from a file\nerror\n");
}

#[test]
fn null_streams() {
    let mut command = Command::new("sh");
    command.args(["-c", "cat; echo out; echo err >&2"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
}

#[test]
fn pipeline() {
    let mut first = Command::new("sh")
        .args(["-c", "for i in 3 1 2; do echo $i; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let between = Stdio::try_from(first.stdout.take().unwrap()).unwrap();
    let output = Command::new("sort").stdin(between).output().unwrap();
    assert_eq!(output.stdout, b"1\n2\n3\n");
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_pipe_that_is_handed_on_blocks() {
    let mut first = Command::new(testprog())
        .arg("gate")
        .arg("0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = File::from(OwnedFd::try_from(first.stdout.take().unwrap()).unwrap());
    let mut ready = [0; 6];
    out.read_exact(&mut ready).unwrap();
    // Nothing to read now; a non-blocking descriptor would be an error here.
    let reader = std::thread::spawn(move || out.read(&mut [0; 1]));
    drop(first.stdin.take());
    assert_eq!(reader.join().unwrap().unwrap(), 0);
}

#[test]
fn further_descriptors_and_no_others() {
    let leak = File::open("/dev/zero").unwrap();
    let mut given = tempfile::tempfile().unwrap();
    let told = output_of(
        Command::new(testprog()).arg("fds").fd(7, given.try_clone().unwrap()).stdin(Stdio::null()),
    );
    let numbers: Vec<_> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "1", "2", "7"]);

    let mut command = Command::new("sh");
    command.args(["-c", "echo seven >&7"]).fd(7, given.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    let mut text = String::new();
    given.rewind().unwrap();
    given.read_to_string(&mut text).unwrap();
    assert_eq!(text, "seven\n");
    drop(leak);
}

#[test]
fn inherited_attributes() {
    let told = output_of(
        Command::new(testprog())
            .arg("about")
            .umask(0o027)
            .nice(5)
            .no_new_privs(true)
            .setsid(true)
            .current_dir("/"),
    );
    let get = |key: &str| {
        let line = told.lines().find(|line| line.starts_with(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("{key} in {told}"))[key.len() + 1..].to_owned()
    };
    assert_eq!(get("umask"), "027");
    assert_eq!(get("nice"), "5");
    assert_eq!(get("no_new_privs"), "1");
    assert_eq!(get("cwd"), "/");
    assert_eq!(get("sid"), get("pid"));
    assert_eq!(get("pgid"), get("pid"));
}

#[test]
fn limits_of_resources() {
    let told =
        output_of(Command::new("sh").args(["-c", "ulimit -n"]).rlimit(libc::RLIMIT_NOFILE, 77, 88));
    assert_eq!(told, "77\n");
}

#[test]
fn another_user() {
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } != 0 {
        let error = Command::new("true").uid(0).gid(0).groups(&[]).spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        return;
    }
    let told = output_of(Command::new("id").uid(1234).gid(2345).groups(&[3456]));
    assert!(told.contains("uid=1234") && told.contains("gid=2345"), "{told}");
    assert!(told.contains("3456"), "{told}");
}

#[test]
fn signals_are_as_a_program_expects_them() {
    // Rust ignores SIGPIPE; its programs must not.
    let told = output_of(Command::new("grep").args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    for line in told.lines() {
        assert!(line.ends_with("0000000000000000"), "{told}");
    }
}

#[test]
fn stdin_of_this_process_is_not_stolen() {
    // The host's input is "a\nb\n": what it does not give away is its own.
    let mut child = host("host_that_reads").stdin(Stdio2::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\nb\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("host read [a][b], program read []"), "{text}");
}

use std::process::Stdio as Stdio2;

#[test]
#[ignore = "run by a test"]
fn host_that_reads() {
    let program = Command::new("cat").output().unwrap();
    let program = String::from_utf8(program.stdout).unwrap();
    let lines: Vec<_> = io::stdin().lines().map(Result::unwrap).collect();
    println!("host read [{}], program read [{program}]", lines.join("]["));
}

#[test]
fn the_latest_durations() {
    let mut command = Command::new("true");
    command.timeout(Duration::MAX).kill_timeout(Duration::MAX);
    assert!(command.status().unwrap().success());
}

#[test]
fn cgroups() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let error = child.cgroup_get("memory.peak").unwrap_err();
    assert!(matches!(errno(&error), Some(libc::ENOENT | libc::ENOTSUP)));
    let error = child.cgroup_set("memory.max", "1").unwrap_err();
    assert!(matches!(errno(&error), Some(libc::ENOENT | libc::ENOTSUP)));
    assert!(child.cgroup_get("a\0b").is_err());
    child.wait().unwrap();
    let error = Command::new("true").cgroup_base("../x").spawn().unwrap_err();
    assert!(why(&error).contains("cgroup_base"), "{error}");

    let base = format!("netrunner-rust-{}", std::process::id());
    let mut command = Command::new("cat");
    let mut child = match command.stdin(Stdio::piped()).cgroup_base(&base).spawn() {
        Ok(child) => child,
        // No cgroup2 here, or none of ours.
        Err(error) => return println!("skip cgroups: {error}"),
    };
    let group = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(group.contains(&format!("/{base}/")), "{group}");
    assert_eq!(child.cgroup_get("cgroup.procs").unwrap(), format!("{}\n", child.id()));
    child.cgroup_set("cgroup.max.depth", "3").unwrap();
    assert_eq!(child.handle().cgroup_get("cgroup.max.depth").unwrap(), "3\n");
    let error = child.cgroup_get("no.such.file").unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOENT));
    child.wait().unwrap();

    let mut command = Command::new("cat");
    command.arg("/proc/self/cgroup").cgroup_base(&base).cgroup_set("cgroup.max.depth", "2");
    assert!(output_of(&mut command).contains(&base));
    let error = command.cgroup_set("no.such", "1").spawn().unwrap_err();
    assert!(!why(&error).is_empty());
}

#[test]
fn in_a_pid_namespace() {
    match Command::new("sh").args(["-c", "echo $$"]).pid_namespace(true).output() {
        Err(error) => {
            assert!(!why(&error).is_empty());
            println!("skip in_a_pid_namespace: {error}");
        }
        Ok(output) => assert!(output.stdout.len() <= 3, "{output:?}"),
    }
}
