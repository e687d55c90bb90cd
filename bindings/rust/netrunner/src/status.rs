// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use netrunner_sys as sys;

/// How a program ended: its exit code or the signal that killed it, and on
/// whose behalf.
///
/// ```
/// use std::time::Duration;
/// use netrunner::{Command, Reason};
///
/// let status = Command::new("sleep")
///     .arg("60")
///     .timeout(Duration::from_millis(50))
///     .status()?;
/// assert_eq!(status.reason(), Reason::Timeout);
/// assert_eq!(status.to_string(), "signal: 15 (SIGTERM), out of time");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus {
    code: i32,
    signal: i32,
    core: bool,
    reason: Reason,
}

/// On whose behalf a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// By itself, or by the signal of somebody else.
    Own,
    /// By this process: `kill`, `stop`, `send_signal`, or a drop.
    Killed,
    /// [`timeout`](crate::Command::timeout) was over.
    Timeout,
    /// It wrote more than [`output_limit`](crate::Command::output_limit).
    OutputLimit,
    /// The kernel killed it for its cgroup's memory limit.
    OutOfMemory,
    /// What this version does not know.
    Unknown(i32),
}

impl ExitStatus {
    pub(crate) fn new(outcome: &sys::nr_outcome) -> Self {
        Self {
            code: outcome.code,
            signal: outcome.signal,
            core: outcome.core != 0,
            reason: match outcome.reason {
                sys::NR_REASON_OWN => Reason::Own,
                sys::NR_REASON_KILLED => Reason::Killed,
                sys::NR_REASON_TIMEOUT => Reason::Timeout,
                sys::NR_REASON_OUTPUT => Reason::OutputLimit,
                sys::NR_REASON_OOM => Reason::OutOfMemory,
                other => Reason::Unknown(other),
            },
        }
    }

    /// Whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// The exit code, 0 to 255, or `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        (self.code >= 0).then_some(self.code)
    }

    /// The signal that ended it, or `None` if it exited.
    pub fn signal(&self) -> Option<i32> {
        (self.signal >= 0).then_some(self.signal)
    }

    /// Whether it dumped core.
    pub fn core_dumped(&self) -> bool {
        self.core
    }

    /// On whose behalf it ended.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl From<ExitStatus> for std::process::ExitStatus {
    /// Without the reason, for which the standard library has no place.
    fn from(status: ExitStatus) -> Self {
        let core = if status.core { 0x80 } else { 0 };
        Self::from_raw(match status.signal() {
            Some(signal) => signal | core,
            None => status.code << 8,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("by itself"),
            Self::Killed => f.write_str("killed"),
            Self::Timeout => f.write_str("out of time"),
            Self::OutputLimit => f.write_str("too much output"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Unknown(number) => write!(f, "reason {number}"),
        }
    }
}

impl fmt::Display for ExitStatus {
    /// As the standard library does, with the reason if it is not its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::process::ExitStatus::from(*self).fmt(f)?;
        match self.reason {
            Reason::Own => Ok(()),
            reason => write!(f, ", {reason}"),
        }
    }
}

/// How a program ended, and what it wrote to the streams that were
/// [piped](crate::Stdio::piped).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output. With a terminal that is all it
    /// wrote to the terminal.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Numbers about a running or an ended program. `None` is not known: it needs a
/// cgroup, or the program's end, or the kernel does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes written to its standard input.
    pub stdin_bytes: u64,
    /// Bytes read from its standard output.
    pub stdout_bytes: u64,
    /// Bytes read from its standard error.
    pub stderr_bytes: u64,
    /// Writes that moved bytes.
    pub writes: u64,
    /// Reads that moved bytes.
    pub reads: u64,
    /// Time from spawn to exit, or to now.
    pub wall: Option<Duration>,
    /// CPU time in user mode: of the whole tree with a cgroup, else of the
    /// program and the children that it waited for.
    pub user: Option<Duration>,
    /// CPU time in the kernel, of the same processes.
    pub system: Option<Duration>,
    /// Memory in use now, in bytes; with a cgroup only.
    pub memory: Option<u64>,
    /// The most memory that was in use, in bytes.
    pub memory_peak: Option<u64>,
    /// Processes now; with a cgroup only.
    pub processes: Option<u64>,
    /// Page faults without I/O, after the end.
    pub minor_faults: Option<u64>,
    /// Page faults with I/O, after the end.
    pub major_faults: Option<u64>,
    /// Blocks read from file systems, after the end.
    pub blocks_in: Option<u64>,
    /// Blocks written to file systems, after the end.
    pub blocks_out: Option<u64>,
    /// Times that it waited, after the end.
    pub voluntary_switches: Option<u64>,
    /// Times that it was preempted, after the end.
    pub involuntary_switches: Option<u64>,
}

impl Stats {
    pub(crate) fn new(s: &sys::nr_statistics) -> Self {
        let known = |value: u64| (value != u64::MAX).then_some(value);
        let time = |value: u64| known(value).map(Duration::from_nanos);
        Self {
            stdin_bytes: s.stdin_bytes,
            stdout_bytes: s.stdout_bytes,
            stderr_bytes: s.stderr_bytes,
            writes: s.writes,
            reads: s.reads,
            wall: time(s.wall_ns),
            user: time(s.user_ns),
            system: time(s.system_ns),
            memory: known(s.memory),
            memory_peak: known(s.memory_peak),
            processes: known(s.processes),
            minor_faults: known(s.minor_faults),
            major_faults: known(s.major_faults),
            blocks_in: known(s.blocks_in),
            blocks_out: known(s.blocks_out),
            voluntary_switches: known(s.voluntary_switches),
            involuntary_switches: known(s.involuntary_switches),
        }
    }
}
