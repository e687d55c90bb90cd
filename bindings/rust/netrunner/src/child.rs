// SPDX-License-Identifier: Apache-2.0

//! Programs for threads: calls block.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netrunner_sys as sys;

use crate::process::{poll, poll_fd, unless_would_block, Handle, Process, Stream};
use crate::spec::{builder, Spawned, Spec, Unset};
use crate::status::{ExitStatus, Output, Stats};
use crate::stdio::Stdio;

/// A program to be run. It can be run any number of times.
///
/// ```
/// use netrunner::Command;
///
/// let output = Command::new("sh")
///     .args(["-c", "echo $GREETING; exit 3"])
///     .env("GREETING", "hello")
///     .output()?;
/// assert_eq!(output.status.code(), Some(3));
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Command {
    spec: Spec,
}

impl Command {
    builder!();

    /// Starts the program, and returns when it has been executed. Streams that
    /// are not set are inherited.
    ///
    /// # Errors
    ///
    /// What the kernel says to the step that failed: `NotFound` and
    /// `PermissionDenied` may be the program or its directory, and the text
    /// tells which. `InvalidInput` is a bad option, or a NUL byte. `ENOPKG` is a
    /// missing or wrong `netrunner-shepherd`.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.spec.spawn(Unset::Inherit, 0).and_then(Child::new)
    }

    /// Runs the program, waits for its end, and returns what it wrote. Its
    /// standard input is empty, if not set otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Child::wait`]. A failed program,
    /// one out of time, or one with too much output, is none: see
    /// [`Output::status`].
    pub fn output(&mut self) -> io::Result<Output> {
        let child = self.spec.spawn(Unset::Capture, 0).and_then(Child::new)?;
        child.wait_with_output()
    }

    /// As [`output`](Self::output), with this as the program's standard input.
    /// Both directions move at once, so neither size nor order matter. That the
    /// program does not read it all is no error.
    pub fn output_with(&mut self, input: impl AsRef<[u8]>) -> io::Result<Output> {
        let spawned = self.spec.spawn(Unset::CaptureWithInput, 0);
        let child = spawned.and_then(Child::new)?;
        child.communicate(input.as_ref())
    }

    /// Runs the program and waits for its end. Streams that are not set are
    /// inherited; what comes through a pipe or a terminal is thrown away.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Child::wait`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let child = self.spawn()?;
        drive(child, &[], false).map(|output| output.status)
    }
}

/// A running or ended program.
///
/// **Dropping it ends the program** and its tree, if it still runs: SIGTERM, the
/// [grace](Command::kill_timeout), SIGKILL. The drop itself does not wait. See
/// [`Command::kill_on_drop`].
#[derive(Debug)]
pub struct Child {
    /// The program's standard input, if it is piped or a terminal.
    pub stdin: Option<ChildStdin>,
    /// The program's standard output, if it is piped or a terminal.
    pub stdout: Option<ChildStdout>,
    /// The program's standard error, if it is piped.
    pub stderr: Option<ChildStderr>,
    pid: u32,
    process: Arc<Process>,
}

impl Child {
    fn new(spawned: Spawned) -> io::Result<Self> {
        Ok(Self {
            pid: spawned.process.pid()?,
            stdin: spawned.stdin.map(ChildStdin),
            stdout: spawned.stdout.map(ChildStdout),
            stderr: spawned.stderr.map(ChildStderr),
            process: spawned.process,
        })
    }

    /// The program's process id. After its end it may be somebody else's: use
    /// [`send_signal`](Self::send_signal), not `kill(2)`.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// A reference with which other threads can end the program while this one
    /// waits.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.process)
    }

    /// Waits until the program has ended and its tree is gone. It can be called
    /// again. The program's standard input is closed before, so that it does
    /// not wait for more; its outputs are not read, so if it writes much to a
    /// pipe use [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Errors
    ///
    /// `EOWNERDEAD`: the shepherd was killed by force, and the tree with it; how
    /// the program ended is not known.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        match self.process.wait(None)? {
            Some(status) => Ok(status),
            None => unreachable!("a wait without limit"),
        }
    }

    /// As [`wait`](Self::wait), for no longer than this: `None` is a program
    /// that still runs. The standard input stays open.
    pub fn wait_timeout(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.process.wait(Some(limit))
    }

    /// How the program ended, or `None` while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Closes the standard input, reads both outputs to their ends, and waits.
    pub fn wait_with_output(self) -> io::Result<Output> {
        drive(self, &[], true)
    }

    /// Writes this to the standard input and closes it, reads both outputs to
    /// their ends, all at once, and waits.
    pub fn communicate(self, input: &[u8]) -> io::Result<Output> {
        drive(self, input, true)
    }

    /// Kills the program with SIGKILL. If it has ended that is no error.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Begins to end the tree: SIGTERM, the [grace](Command::kill_timeout),
    /// SIGKILL. It does not wait.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.stop()
    }

    /// Sends a signal to the program's process group, or, if it has a cgroup,
    /// to all in it. 0 asks whether it runs. After its end that is `ESRCH`.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// Changes the size of the terminal. `ENOTTY`: there is none.
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        self.process.resize(rows, cols)
    }

    /// Numbers about the program.
    pub fn stats(&self) -> io::Result<Stats> {
        self.process.stats()
    }

    /// Reads a file of the program's cgroup, such as `"memory.peak"`.
    pub fn cgroup_get(&self, file: &str) -> io::Result<String> {
        self.process.cgroup_get(file)
    }

    /// Writes a file of the program's cgroup.
    pub fn cgroup_set(&self, file: &str, value: &str) -> io::Result<()> {
        self.process.cgroup_set(file, value)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.give_up();
    }
}

/// Feeds, reads and waits in one loop, as a program may do in any order.
fn drive(mut child: Child, mut input: &[u8], keep: bool) -> io::Result<Output> {
    let process = Arc::clone(&child.process);
    let mut stdin = child.stdin.take().map(|stdin| stdin.0);
    let mut out = Capture::new(child.stdout.take().map(|stdout| stdout.0), keep);
    let mut err = Capture::new(child.stderr.take().map(|stderr| stderr.0), keep);
    let exit = process.fd(sys::NR_EXIT)?.unwrap_or(-1);
    let mut status = None;

    loop {
        if let Some(stream) = &stdin {
            if status.is_some() || !stream.feed(&mut input) {
                stdin = None;
            }
        }
        let moved = out.read()? | err.read()?;
        if status.is_none() {
            status = process.try_wait()?;
            if status.is_some() {
                continue;
            }
        }
        if moved {
            continue;
        }
        if let Some(status) = status {
            // What lingers may hold a stream open for ever. What the program
            // itself wrote has been read.
            if process.lingers() || (out.fd() < 0 && err.fd() < 0) {
                return Ok(Output { status, stdout: out.bytes, stderr: err.bytes });
            }
        }
        let stdin = stdin.as_ref().map_or(-1, Stream::as_raw_fd);
        poll(&mut [
            poll_fd(stdin, libc::POLLOUT),
            poll_fd(out.fd(), libc::POLLIN),
            poll_fd(err.fd(), libc::POLLIN),
            poll_fd(if status.is_none() { exit } else { -1 }, libc::POLLIN),
        ])?;
    }
}

/// An output. It stays open behind its end: a program that is being killed for
/// too much output is not to die of SIGPIPE.
struct Capture {
    stream: Option<Stream>,
    ended: bool,
    bytes: Vec<u8>,
    keep: bool,
}

impl Capture {
    fn new(stream: Option<Stream>, keep: bool) -> Self {
        Self { ended: stream.is_none(), stream, bytes: Vec::new(), keep }
    }

    /// What to watch, -1 for nothing.
    fn fd(&self) -> RawFd {
        match &self.stream {
            Some(stream) if !self.ended => stream.as_raw_fd(),
            _ => -1,
        }
    }

    /// Whether it is worth to try again.
    fn read(&mut self) -> io::Result<bool> {
        let (Some(stream), false) = (&self.stream, self.ended) else {
            return Ok(false);
        };
        if !self.keep {
            self.bytes.clear();
        }
        let taken = stream.capture(&mut self.bytes)?;
        self.ended = taken == Some(0);
        Ok(matches!(taken, Some(1..)))
    }
}

/// A program's standard input. Dropping it closes it: the program sees the end
/// of its input when it has read what was written before.
#[derive(Debug)]
pub struct ChildStdin(Stream);

/// A program's standard output, or the screen of its terminal. Dropping it
/// closes it: the program then gets SIGPIPE when it writes.
#[derive(Debug)]
pub struct ChildStdout(Stream);

/// A program's standard error. Dropping it closes it.
#[derive(Debug)]
pub struct ChildStderr(Stream);

impl ChildStdin {
    /// Closes it as dropping it does, and tells whether that has worked, which
    /// is only a question with a terminal: closing that types its end-of-file
    /// character, for which this may have to wait, and one in raw mode has
    /// none, which is `ENOTTY`.
    pub fn close(self) -> io::Result<()> {
        retry(&self.0, || self.0.close())
    }
}

/// Calls, and waits where that would block.
fn retry<T>(stream: &Stream, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        if let Some(done) = unless_would_block(call())? {
            return Ok(done);
        }
        stream.wait_ready()?;
    }
}

impl Write for &ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        retry(&self.0, || self.0.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(stream: &Stream, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: initialized bytes are also maybe uninitialized ones, and the
    // library only writes.
    let buf = unsafe { &mut *(buf as *mut [u8] as *mut [MaybeUninit<u8>]) };
    retry(stream, || stream.read(buf))
}

/// Reads to the end without the zeroing and probing of the default method.
fn read_to_end(stream: &Stream, to: &mut Vec<u8>) -> io::Result<usize> {
    let before = to.len();
    while retry(stream, || stream.read_to(to))? > 0 {}
    Ok(to.len() - before)
}

macro_rules! output_stream {
    ($($stream:ident)*) => {$(
        impl Read for $stream {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                read(&self.0, buf)
            }

            fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
                read_to_end(&self.0, buf)
            }
        }
    )*};
}
output_stream!(ChildStdout ChildStderr);

macro_rules! descriptor {
    ($($stream:ident)*) => {$(
        /// For polling: it is in non-blocking mode, and belongs to the library.
        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.borrow()
            }
        }

        impl AsRawFd for $stream {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        /// A descriptor in blocking mode, of the caller's own. What passes
        /// through it is neither counted nor limited by the library.
        impl TryFrom<$stream> for OwnedFd {
            type Error = io::Error;

            fn try_from(stream: $stream) -> io::Result<Self> {
                stream.0.into_owned()
            }
        }
    )*};
}
descriptor!(ChildStdin ChildStdout ChildStderr);
