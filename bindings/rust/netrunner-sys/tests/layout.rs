// SPDX-License-Identifier: Apache-2.0

//! Compares everything here with what a C compiler makes of the header.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_int, c_void};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use netrunner_sys::*;

fn header() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../include/netrunner.h")
}

/// Names and numbers of this crate, and a C program that prints its own.
struct Comparison {
    rust: BTreeMap<String, i128>,
    c: String,
}

impl Comparison {
    fn number(&mut self, name: &str, c: &str, value: i128) {
        self.rust.insert(name.to_owned(), value);
        // All values fit into one of the two.
        let format = if value < 0 { "%lld\", (long long)" } else { "%llu\", (unsigned long long)" };
        writeln!(self.c, "printf(\"{name} {format}({c})); puts(\"\");").unwrap();
    }
}

macro_rules! constants {
    ($all:ident, $($name:ident)*) => {
        $($all.number(stringify!($name), stringify!($name), $name as i128);)*
    };
}

/// Offset and size of each field; `rust = c` where the names differ.
macro_rules! structure {
    ($all:ident, $type:ident, $($field:ident $(= $c:literal)?),*) => {
        let value = $type::default();
        let start = std::ptr::addr_of!(value) as usize;
        $all.number(
            stringify!($type),
            concat!("sizeof(", stringify!($type), ")"),
            std::mem::size_of::<$type>() as i128,
        );
        $all.number(
            concat!(stringify!($type), "_align"),
            concat!("_Alignof(", stringify!($type), ")"),
            std::mem::align_of::<$type>() as i128,
        );
        let mut covered = 0;
        $(
            #[allow(unused_mut, unused_assignments)]
            let mut c = stringify!($field);
            $(c = $c;)?
            let offset = std::ptr::addr_of!(value.$field) as usize - start;
            let name = format!("{}.{c}", stringify!($type));
            $all.number(&name, &format!("offsetof({}, {c})", stringify!($type)), offset as i128);
            let size = std::mem::size_of_val(&value.$field);
            let expression = format!("sizeof((({} *)0)->{c})", stringify!($type));
            $all.number(&format!("{name}_size"), &expression, size as i128);
            covered += size;
        )*
        // So no field has been forgotten: there is no padding in the header.
        assert_eq!(covered, std::mem::size_of::<$type>(), stringify!($type));
    };
}

/// The C compiler checks the second form, the Rust compiler the first.
macro_rules! functions {
    ($all:ident, $names:ident, $($name:ident: $rust:ty = $c:literal;)*) => {
        $(
            let _: $rust = $name;
            $names.insert(stringify!($name));
            writeln!(
                $all.c,
                "_Static_assert(__builtin_types_compatible_p(__typeof__(&{0}), {1}), \"{0}\");",
                stringify!($name), $c
            ).unwrap();
        )*
    };
}

#[test]
fn everything_is_as_in_the_header() {
    let mut all = Comparison { rust: BTreeMap::new(), c: String::new() };

    constants!(all, NR_VERSION_MAJOR NR_VERSION_MINOR NR_VERSION_PATCH NR_VERSION
        NR_STDIN NR_STDOUT NR_STDERR NR_EXIT
        NR_STDIO_AUTO NR_STDIO_PIPE NR_STDIO_NULL NR_STDIO_INHERIT NR_STDIO_FD NR_STDIO_STDOUT
        NR_PTY NR_PTY_NOECHO NR_SESSION NR_ASYNC NR_LINGER NR_OWN_SHEPHERD NR_PID_NAMESPACE
        NR_NO_NEW_PRIVS NR_SET_UID NR_SET_GID NR_SET_GROUPS NR_SET_UMASK NR_SET_NICE
        NR_KILL_NOW
        NR_REASON_OWN NR_REASON_KILLED NR_REASON_TIMEOUT NR_REASON_OUTPUT NR_REASON_OOM);

    structure!(all, nr_stdio, mode, fd);
    structure!(all, nr_fdmap, fd, target);
    structure!(all, nr_rlimit, resource, reserved, soft, hard);
    structure!(
        all,
        nr_options,
        size,
        flags,
        argv,
        file,
        env,
        cwd,
        in_ = "in",
        out,
        err,
        fds,
        nfds,
        pipe_size,
        reserved0,
        rows,
        cols,
        umask,
        timeout_ms,
        kill_timeout_ms,
        output_limit,
        uid,
        gid,
        groups,
        ngroups,
        rlimits,
        nrlimits,
        cgroup_base,
        cgroup_path,
        cgroup_set,
        nice,
        reserved,
        shepherd
    );
    structure!(all, nr_outcome, size, code, signal, reason, core);
    structure!(
        all,
        nr_statistics,
        size,
        stdin_bytes,
        stdout_bytes,
        stderr_bytes,
        writes,
        reads,
        wall_ns,
        user_ns,
        system_ns,
        memory,
        memory_peak,
        processes,
        minor_faults,
        major_faults,
        blocks_in,
        blocks_out,
        voluntary_switches,
        involuntary_switches
    );

    let mut names = BTreeSet::new();
    functions!(all, names,
        nr_version: unsafe extern "C" fn() -> u32 = "uint32_t (*)(void)";
        nr_version_string: unsafe extern "C" fn() -> *const c_char = "const char *(*)(void)";
        nr_strerror: unsafe extern "C" fn(c_int) -> *const c_char = "const char *(*)(int)";
        nr_errname: unsafe extern "C" fn(c_int) -> *const c_char = "const char *(*)(int)";
        nr_spawn: unsafe extern "C" fn(*const nr_options, *mut c_char, usize) -> i64
            = "int64_t (*)(const nr_options *, char *, size_t)";
        nr_why: unsafe extern "C" fn(i64, *mut c_char, usize) -> c_int
            = "int (*)(int64_t, char *, size_t)";
        nr_pid: unsafe extern "C" fn(i64) -> c_int = "int (*)(int64_t)";
        nr_fd: unsafe extern "C" fn(i64, c_int) -> c_int = "int (*)(int64_t, int)";
        nr_read: unsafe extern "C" fn(i64, c_int, *mut c_void, usize) -> isize
            = "ssize_t (*)(int64_t, int, void *, size_t)";
        nr_write: unsafe extern "C" fn(i64, *const c_void, usize) -> isize
            = "ssize_t (*)(int64_t, const void *, size_t)";
        nr_close_stdin: unsafe extern "C" fn(i64) -> c_int = "int (*)(int64_t)";
        nr_close: unsafe extern "C" fn(i64, c_int) -> c_int = "int (*)(int64_t, int)";
        nr_winsize: unsafe extern "C" fn(i64, u16, u16) -> c_int
            = "int (*)(int64_t, uint16_t, uint16_t)";
        nr_kill: unsafe extern "C" fn(i64, c_int) -> c_int = "int (*)(int64_t, int)";
        nr_stop: unsafe extern "C" fn(i64) -> c_int = "int (*)(int64_t)";
        nr_wait: unsafe extern "C" fn(i64, c_int, *mut nr_outcome) -> c_int
            = "int (*)(int64_t, int, nr_outcome *)";
        nr_stats: unsafe extern "C" fn(i64, *mut nr_statistics) -> c_int
            = "int (*)(int64_t, nr_statistics *)";
        nr_cgroup_get: unsafe extern "C" fn(i64, *const c_char, *mut c_char, usize) -> isize
            = "ssize_t (*)(int64_t, const char *, char *, size_t)";
        nr_cgroup_set: unsafe extern "C" fn(i64, *const c_char, *const c_char) -> c_int
            = "int (*)(int64_t, const char *, const char *)";
        nr_release: unsafe extern "C" fn(i64) -> c_int = "int (*)(int64_t)";
    );

    let printed = compile_and_run(&all.c);
    let told: BTreeMap<String, i128> = printed
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect();
    for (name, value) in &all.rust {
        assert_eq!(told[name], *value, "{name}");
    }

    // What a later header has and this crate has not.
    let text = fs::read_to_string(header()).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words {
        let is_macro = ["NR_API", "NR_VERSION", "NR_STDIO_", "NR_REASON_", "NR_"].contains(&word);
        if word.starts_with("NR_") && !is_macro {
            assert!(all.rust.contains_key(word), "{word} is not in this crate");
        }
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("NR_API ")) {
        let name = line.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap();
        assert!(names.contains(name), "{name}() is not in this crate");
    }
}

fn compile_and_run(body: &str) -> String {
    let dir = std::env::temp_dir().join(format!("netrunner-layout-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let source = dir.join("layout.c");
    let program = dir.join("layout");
    let includes = "#include <netrunner.h>\n#include <stdio.h>\n#include <stddef.h>\n";
    fs::write(&source, format!("{includes}int main(void)\n{{\n{body}return 0;\n}}\n")).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(compiler)
        .args(["-std=gnu11", "-Wall", "-Werror", "-I"])
        .arg(header().parent().unwrap())
        .arg("-o")
        .args([&program, &source])
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = Command::new(&program).output().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_library_is_of_this_version() {
    // SAFETY: takes no pointers.
    let version = unsafe { nr_version() };
    assert_eq!(version >> 16, NR_VERSION_MAJOR);
    assert!(version >= NR_VERSION);
}
