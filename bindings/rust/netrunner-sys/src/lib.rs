// SPDX-License-Identifier: Apache-2.0

//! Raw bindings of libnetrunner, which runs operating system processes and does
//! not leave them behind. The crate `netrunner` is the safe interface.
//!
//! Names, types and values are those of `netrunner.h`, which is the manual; a
//! test compares both. `NR_...` constants have the type that the field or
//! argument has for which they are meant.
//!
//! # Linking
//!
//! The build script looks for `libnetrunner.so`
//!
//! 1. in the directory `NETRUNNER_LIB_DIR`,
//! 2. by pkg-config, package `netrunner`,
//! 3. in `build/` of the repository that this crate is a part of.
//!
//! In the first and third case it copies the library and the shepherd into the
//! target directory, where `cargo run` and `cargo test` find them. Crates that
//! depend on this one get the directory as `DEP_NETRUNNER_LIB_DIR` in their
//! build scripts.
//!
//! # Safety
//!
//! All functions that take pointers ask that these are valid for what
//! `netrunner.h` says is read or written through them, during the call only. No
//! function keeps a pointer. Handles need no care: a stale one is `-EBADF`. All
//! functions may be called from any thread at any time.

#![no_std]
#![allow(non_camel_case_types)]
#![allow(missing_docs)] // netrunner.h is the manual, and is not repeated here

use core::ffi::{c_char, c_int, c_void};

pub const NR_VERSION_MAJOR: u32 = 0;
pub const NR_VERSION_MINOR: u32 = 1;
pub const NR_VERSION_PATCH: u32 = 0;
pub const NR_VERSION: u32 = NR_VERSION_MAJOR << 16 | NR_VERSION_MINOR << 8 | NR_VERSION_PATCH;

/// A running or finished process. Positive; never reused.
pub type nr_proc = i64;

pub const NR_STDIN: c_int = 0;
pub const NR_STDOUT: c_int = 1;
pub const NR_STDERR: c_int = 2;
pub const NR_EXIT: c_int = 3;

pub const NR_STDIO_AUTO: i32 = 0;
pub const NR_STDIO_PIPE: i32 = 1;
pub const NR_STDIO_NULL: i32 = 2;
pub const NR_STDIO_INHERIT: i32 = 3;
pub const NR_STDIO_FD: i32 = 4;
pub const NR_STDIO_STDOUT: i32 = 5;

pub const NR_PTY: u64 = 1 << 0;
pub const NR_PTY_NOECHO: u64 = 1 << 1;
pub const NR_SESSION: u64 = 1 << 2;
pub const NR_ASYNC: u64 = 1 << 3;
pub const NR_LINGER: u64 = 1 << 4;
pub const NR_OWN_SHEPHERD: u64 = 1 << 5;
pub const NR_PID_NAMESPACE: u64 = 1 << 6;
pub const NR_NO_NEW_PRIVS: u64 = 1 << 7;
pub const NR_SET_UID: u64 = 1 << 16;
pub const NR_SET_GID: u64 = 1 << 17;
pub const NR_SET_GROUPS: u64 = 1 << 18;
pub const NR_SET_UMASK: u64 = 1 << 19;
pub const NR_SET_NICE: u64 = 1 << 20;

pub const NR_KILL_NOW: i64 = -1;

pub const NR_REASON_OWN: i32 = 0;
pub const NR_REASON_KILLED: i32 = 1;
pub const NR_REASON_TIMEOUT: i32 = 2;
pub const NR_REASON_OUTPUT: i32 = 3;
pub const NR_REASON_OOM: i32 = 4;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct nr_stdio {
    pub mode: i32,
    pub fd: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct nr_fdmap {
    pub fd: i32,
    pub target: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct nr_rlimit {
    pub resource: i32,
    pub reserved: i32,
    pub soft: u64,
    pub hard: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nr_options {
    pub size: usize,
    pub flags: u64,
    pub argv: *const *const c_char,
    pub file: *const c_char,
    pub env: *const *const c_char,
    pub cwd: *const c_char,
    /// `in` in C.
    pub in_: nr_stdio,
    pub out: nr_stdio,
    pub err: nr_stdio,
    pub fds: *const nr_fdmap,
    pub nfds: usize,
    pub pipe_size: u32,
    pub reserved0: u32,
    pub rows: u16,
    pub cols: u16,
    pub umask: u32,
    pub timeout_ms: i64,
    pub kill_timeout_ms: i64,
    pub output_limit: u64,
    pub uid: u32,
    pub gid: u32,
    pub groups: *const u32,
    pub ngroups: usize,
    pub rlimits: *const nr_rlimit,
    pub nrlimits: usize,
    pub cgroup_base: *const c_char,
    pub cgroup_path: *const c_char,
    pub cgroup_set: *const *const c_char,
    pub nice: i32,
    pub reserved: i32,
    pub shepherd: *const c_char,
}

impl Default for nr_options {
    /// Everything zero, which always means the default, but for `size`.
    fn default() -> Self {
        // SAFETY: all fields are integers and raw pointers, for which zero is valid.
        let mut options: Self = unsafe { core::mem::zeroed() };
        options.size = core::mem::size_of::<Self>();
        options
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nr_outcome {
    pub size: usize,
    pub code: i32,
    pub signal: i32,
    pub reason: i32,
    pub core: i32,
}

impl Default for nr_outcome {
    /// Everything zero but for `size`.
    fn default() -> Self {
        Self { size: core::mem::size_of::<Self>(), code: 0, signal: 0, reason: 0, core: 0 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nr_statistics {
    pub size: usize,
    pub stdin_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub writes: u64,
    pub reads: u64,
    pub wall_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub memory: u64,
    pub memory_peak: u64,
    pub processes: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub blocks_in: u64,
    pub blocks_out: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

impl Default for nr_statistics {
    /// Everything zero but for `size`.
    fn default() -> Self {
        // SAFETY: all fields are integers.
        let mut statistics: Self = unsafe { core::mem::zeroed() };
        statistics.size = core::mem::size_of::<Self>();
        statistics
    }
}

extern "C" {
    pub fn nr_version() -> u32;
    pub fn nr_version_string() -> *const c_char;
    pub fn nr_strerror(err: c_int) -> *const c_char;
    pub fn nr_errname(err: c_int) -> *const c_char;
    pub fn nr_spawn(options: *const nr_options, why: *mut c_char, whylen: usize) -> nr_proc;
    pub fn nr_why(p: nr_proc, why: *mut c_char, whylen: usize) -> c_int;
    pub fn nr_pid(p: nr_proc) -> c_int;
    pub fn nr_fd(p: nr_proc, stream: c_int) -> c_int;
    pub fn nr_read(p: nr_proc, stream: c_int, buf: *mut c_void, len: usize) -> isize;
    pub fn nr_write(p: nr_proc, buf: *const c_void, len: usize) -> isize;
    pub fn nr_close_stdin(p: nr_proc) -> c_int;
    pub fn nr_close(p: nr_proc, stream: c_int) -> c_int;
    pub fn nr_winsize(p: nr_proc, rows: u16, cols: u16) -> c_int;
    pub fn nr_kill(p: nr_proc, sig: c_int) -> c_int;
    pub fn nr_stop(p: nr_proc) -> c_int;
    pub fn nr_wait(p: nr_proc, timeout_ms: c_int, how: *mut nr_outcome) -> c_int;
    pub fn nr_stats(p: nr_proc, s: *mut nr_statistics) -> c_int;
    pub fn nr_cgroup_get(p: nr_proc, file: *const c_char, buf: *mut c_char, len: usize) -> isize;
    pub fn nr_cgroup_set(p: nr_proc, file: *const c_char, value: *const c_char) -> c_int;
    pub fn nr_release(p: nr_proc) -> c_int;
}
