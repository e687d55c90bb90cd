// SPDX-License-Identifier: Apache-2.0

//! Programs for tokio: calls are asynchronous. Needs the feature `tokio`.
//!
//! The types are those of the crate's root and of `tokio::process`, with these
//! differences from the latter:
//!
//! - [`Command::spawn`] is asynchronous, too: it does not hold up the event loop
//!   while the program is executed, however slow the file system.
//! - `kill_on_drop` is the default, and is graceful: SIGTERM, the
//!   [grace](Command::kill_timeout), SIGKILL, for the whole tree.
//! - Nothing depends on SIGCHLD, and there are no zombies to be reaped.
//!
//! ```
//! use netrunner::tokio::Command;
//!
//! # #[tokio::main]
//! # async fn main() -> std::io::Result<()> {
//! let output = Command::new("tr").args(["a-z", "A-Z"]).output_with("hello").await?;
//! assert_eq!(output.stdout, b"HELLO");
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! What makes a [`Child`] panics outside of a tokio runtime, and in one whose
//! I/O driver is not enabled.

use std::ffi::OsStr;
use std::future::{poll_fn, Future};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use netrunner_sys as sys;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::process::{Handle, Process, Stream};
use crate::spec::{builder, Spawned, Spec, Unset};
use crate::status::{ExitStatus, Output, Stats};
use crate::stdio::Stdio;

/// A program to be run. It can be run any number of times.
#[derive(Debug)]
pub struct Command {
    spec: Spec,
}

impl Command {
    builder!();

    /// Starts the program; the future is ready when it has been executed. It
    /// starts with the call, not with the first poll. Streams that are not set
    /// are inherited.
    ///
    /// # Errors
    ///
    /// Those of the blocking [`spawn`](crate::Command::spawn).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the program is stopped, or never starts.
    pub fn spawn(&mut self) -> impl Future<Output = io::Result<Child>> {
        Child::new(self.spec.spawn(Unset::Inherit, sys::NR_ASYNC))
    }

    /// Runs the program, waits for its end, and returns what it wrote. It starts
    /// with the call. Its standard input is empty, if not set otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Child::wait`]. A failed program,
    /// one out of time, or one with too much output, is none: see
    /// [`Output::status`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the program is stopped (see
    /// [`kill_on_drop`](Self::kill_on_drop)) and its output is lost.
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> {
        let child = Child::new(self.spec.spawn(Unset::Capture, sys::NR_ASYNC));
        async { child.await?.wait_with_output().await }
    }

    /// As [`output`](Self::output), with this as the program's standard input.
    /// Both directions move at once, so neither size nor order matter. That the
    /// program does not read it all is no error.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub fn output_with<I>(&mut self, input: I) -> impl Future<Output = io::Result<Output>>
    where
        I: AsRef<[u8]>,
    {
        let child = Child::new(self.spec.spawn(Unset::CaptureWithInput, sys::NR_ASYNC));
        async move { child.await?.communicate(input.as_ref()).await }
    }

    /// Runs the program and waits for its end. It starts with the call. Streams
    /// that are not set are inherited; what comes through a pipe or a terminal
    /// is thrown away.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the program is stopped, see
    /// [`kill_on_drop`](Self::kill_on_drop).
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> {
        let child = self.spawn();
        async { Ok(drive(child.await?, &[], false).await?.status) }
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
    status: Option<ExitStatus>,
    exit: AsyncFd<Exit>,
}

/// The descriptor that tells of the program's end. It is open as long as the
/// process is, which is not released before it has left the event loop.
#[derive(Debug)]
struct Exit {
    fd: RawFd,
    process: Arc<Process>,
}

impl AsRawFd for Exit {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// Registers with the event loop. All that is watched here stays open until its
/// `AsyncFd` has been dropped, which is what the new name of this function asks
/// for; older versions of tokio only have the old one.
#[allow(deprecated)]
fn watch<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}

impl Child {
    async fn new(spawned: io::Result<Spawned>) -> io::Result<Self> {
        let spawned = spawned?;
        let process = spawned.process;
        let fd = process.fd(sys::NR_EXIT)?.unwrap_or(-1);
        let exit = Exit { fd, process };
        let exit = watch(exit, Interest::READABLE)?;
        loop {
            if let Some(result) = exit.get_ref().process.spawned() {
                result?;
                break;
            }
            exit.readable().await?.clear_ready();
        }
        Ok(Self {
            stdin: spawned.stdin.map(ChildStdin::new).transpose()?,
            stdout: spawned.stdout.map(ChildStdout::new).transpose()?,
            stderr: spawned.stderr.map(ChildStderr::new).transpose()?,
            pid: exit.get_ref().process.pid()?,
            status: None,
            exit,
        })
    }

    fn process(&self) -> &Arc<Process> {
        &self.exit.get_ref().process
    }

    /// The program's process id, or `None` once its end has been seen by a wait.
    pub fn id(&self) -> Option<u32> {
        self.status.is_none().then_some(self.pid)
    }

    /// A reference with which others can end the program while this waits.
    pub fn handle(&self) -> Handle {
        Handle::new(self.process())
    }

    /// Waits until the program has ended and its tree is gone. It can be called
    /// again. The program's standard input is closed before, so that it does
    /// not wait for more; its outputs are not read, so if it writes much to a
    /// pipe read that at the same time, or use
    /// [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Errors
    ///
    /// `EOWNERDEAD`: the shepherd was killed by force, and the tree with it; how
    /// the program ended is not known.
    ///
    /// # Cancel safety
    ///
    /// This is cancel safe: nothing is lost if the future is dropped, as a
    /// branch of `tokio::select!` or by a timeout, but for the standard input,
    /// which then has been closed. Take it before to keep it open.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Poll::Ready(Ok(status));
            }
            // First cleared, then asked again: no news is missed.
            ready!(self.exit.poll_read_ready(cx))?.clear_ready();
        }
    }

    /// How the program ended, or `None` while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process().try_wait()?;
        }
        Ok(self.status)
    }

    /// Closes the standard input, reads both outputs to their ends, and waits.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped so is the child: the program is stopped, and its
    /// output is lost.
    pub async fn wait_with_output(self) -> io::Result<Output> {
        drive(self, &[], true).await
    }

    /// Writes this to the standard input and closes it, reads both outputs to
    /// their ends, all at once, and waits.
    ///
    /// # Cancel safety
    ///
    /// As [`wait_with_output`](Self::wait_with_output).
    pub async fn communicate(self, input: &[u8]) -> io::Result<Output> {
        drive(self, input, true).await
    }

    /// Kills the program with SIGKILL, and waits for its end.
    ///
    /// # Cancel safety
    ///
    /// The signal is sent when the future is polled first; what follows is as
    /// cancel safe as [`wait`](Self::wait).
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Kills the program with SIGKILL. If it has ended that is no error.
    pub fn start_kill(&mut self) -> io::Result<()> {
        self.process().kill()
    }

    /// Begins to end the tree: SIGTERM, the [grace](Command::kill_timeout),
    /// SIGKILL. It does not wait.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process().stop()
    }

    /// Sends a signal to the program's process group, or, if it has a cgroup,
    /// to all in it. 0 asks whether it runs. After its end that is `ESRCH`.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.process().signal(signal)
    }

    /// Changes the size of the terminal. `ENOTTY`: there is none.
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        self.process().resize(rows, cols)
    }

    /// Numbers about the program.
    pub fn stats(&self) -> io::Result<Stats> {
        self.process().stats()
    }

    /// Reads a file of the program's cgroup, such as `"memory.peak"`. This is a
    /// short blocking call.
    pub fn cgroup_get(&self, file: &str) -> io::Result<String> {
        self.process().cgroup_get(file)
    }

    /// Writes a file of the program's cgroup. This is a short blocking call.
    pub fn cgroup_set(&self, file: &str, value: &str) -> io::Result<()> {
        self.process().cgroup_set(file, value)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process().give_up();
    }
}

/// Feeds, reads and waits at once, as a program may do in any order.
async fn drive(mut child: Child, mut input: &[u8], keep: bool) -> io::Result<Output> {
    let mut stdin = child.stdin.take();
    let mut out = Capture::new(child.stdout.take().map(|stdout| stdout.0), keep);
    let mut err = Capture::new(child.stderr.take().map(|stderr| stderr.0), keep);
    let status = poll_fn(|cx| loop {
        if let Some(stream) = &mut stdin {
            if child.status.is_some() || stream.poll_feed(cx, &mut input).is_ready() {
                stdin = None;
            }
        }
        let ended = child.status.is_some();
        let out_ended = out.poll_end(cx)?;
        let err_ended = err.poll_end(cx)?;
        if !ended {
            // What was written up to the end is still to be read.
            ready!(child.poll_wait(cx))?;
            continue;
        }
        let status = child.try_wait()?.expect("has ended");
        if child.process().lingers() {
            // What lingers may hold a stream open for ever. What the program
            // itself wrote is there now.
            out.rest()?;
            err.rest()?;
        } else if out_ended.is_pending() || err_ended.is_pending() {
            return Poll::Pending;
        }
        return Poll::Ready(io::Result::Ok(status));
    })
    .await?;
    Ok(Output { status, stdout: out.bytes, stderr: err.bytes })
}

/// An output. It stays open behind its end: a program that is being killed for
/// too much output is not to die of SIGPIPE.
struct Capture {
    stream: Option<AsyncFd<Stream>>,
    ended: bool,
    bytes: Vec<u8>,
    keep: bool,
}

impl Capture {
    fn new(stream: Option<AsyncFd<Stream>>, keep: bool) -> Self {
        Self { ended: stream.is_none(), stream, bytes: Vec::new(), keep }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Some(stream) = &self.stream else {
            return Ok(Poll::Ready(()));
        };
        while !self.ended {
            let Poll::Ready(guard) = stream.poll_read_ready(cx) else {
                return Ok(Poll::Pending);
            };
            let mut guard = guard?;
            if !self.keep {
                self.bytes.clear();
            }
            match stream.get_ref().capture(&mut self.bytes)? {
                Some(n) => self.ended = n == 0,
                None => guard.clear_ready(),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Without the event loop, which may want a break: what there is now.
    fn rest(&mut self) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        while !self.ended {
            match stream.get_ref().capture(&mut self.bytes)? {
                Some(n) => self.ended = n == 0,
                None => break,
            }
        }
        Ok(())
    }
}

/// A program's standard input. Dropping it closes it: the program sees the end
/// of its input when it has read what was written before. So does
/// `shutdown()`, which with a terminal also
/// tells whether that was possible, see
/// [`ChildStdin::close`](crate::ChildStdin::close); after it writes fail with
/// `BrokenPipe`.
#[derive(Debug)]
pub struct ChildStdin {
    stream: Stream,
    /// A copy, since the stream's own goes when it is closed; `None` then.
    watch: Option<AsyncFd<OwnedFd>>,
}

/// A program's standard output, or the screen of its terminal. Dropping it
/// closes it: the program then gets SIGPIPE when it writes.
#[derive(Debug)]
pub struct ChildStdout(AsyncFd<Stream>);

/// A program's standard error. Dropping it closes it.
#[derive(Debug)]
pub struct ChildStderr(AsyncFd<Stream>);

impl ChildStdin {
    fn new(stream: Stream) -> io::Result<Self> {
        let copy = stream.borrow().try_clone_to_owned()?;
        let watch = Some(watch(copy, Interest::WRITABLE)?);
        Ok(Self { stream, watch })
    }

    /// A descriptor in blocking mode, of the caller's own. What passes through
    /// it is neither counted nor limited by the library.
    pub fn into_owned_fd(mut self) -> io::Result<OwnedFd> {
        if self.watch.take().is_none() {
            return Err(closed());
        }
        self.stream.into_owned()
    }

    /// Calls, and waits where that would block.
    fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&Stream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let Some(watch) = &self.watch else {
            return Poll::Ready(Err(closed()));
        };
        loop {
            let mut guard = ready!(watch.poll_write_ready(cx))?;
            if let Ok(result) = guard.try_io(|_| call(&self.stream)) {
                return Poll::Ready(result);
            }
        }
    }

    /// Ready when all is written and the stream closed, or when that can't be.
    fn poll_feed(&mut self, cx: &mut Context<'_>, input: &mut &[u8]) -> Poll<()> {
        self.poll_with(cx, |stream| {
            if stream.feed(input) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        })
        .map(drop)
    }
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EPIPE)
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |stream| stream.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.is_some() {
            ready!(self.poll_with(cx, Stream::close))?;
            self.watch = None;
        }
        Poll::Ready(Ok(()))
    }
}

macro_rules! output_stream {
    ($($stream:ident)*) => {$(
        impl $stream {
            fn new(stream: Stream) -> io::Result<Self> {
                watch(stream, Interest::READABLE).map(Self)
            }

            /// A descriptor in blocking mode, of the caller's own. What passes
            /// through it is neither counted nor limited by the library.
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                self.0.into_inner().into_owned()
            }
        }

        impl AsyncRead for $stream {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                poll_read(&self.0, cx, buf)
            }
        }

        /// For polling: it is in non-blocking mode, and belongs to the library.
        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.get_ref().borrow()
            }
        }

        impl AsRawFd for $stream {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        /// Connects two programs: the pipe is put into blocking mode, as
        /// programs expect it.
        impl TryFrom<$stream> for Stdio {
            type Error = io::Error;

            fn try_from(stream: $stream) -> io::Result<Self> {
                stream.into_owned_fd().map(Self::from)
            }
        }
    )*};
}
output_stream!(ChildStdout ChildStderr);

fn poll_read(
    stream: &AsyncFd<Stream>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        let mut guard = ready!(stream.poll_read_ready(cx))?;
        // SAFETY: nothing is made uninitialized.
        let to: &mut [MaybeUninit<u8>] = unsafe { buf.unfilled_mut() };
        if let Ok(result) = guard.try_io(|stream| stream.get_ref().read(to)) {
            let n = result?;
            // SAFETY: the library has written n bytes there.
            unsafe { buf.assume_init(n) };
            buf.advance(n);
            return Poll::Ready(Ok(()));
        }
    }
}
