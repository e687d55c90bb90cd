// SPDX-License-Identifier: Apache-2.0

//! The library's handle, and what can be done with it.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netrunner_sys as sys;

use crate::error::{check, check_size, errno, from_return, invalid, is_would_block, text, Error};
use crate::status::{ExitStatus, Stats};

/// A process of the library. Everything that belongs to it, such as a stream,
/// shares it by an [`Arc`]; with the last of them it is released. So no
/// descriptor of the library is closed while somebody can still use it.
#[derive(Debug)]
pub(crate) struct Process {
    handle: sys::nr_proc,
    kill_on_drop: bool,
    linger: bool,
}

impl Process {
    /// Takes over the handle.
    pub(crate) fn new(handle: sys::nr_proc, kill_on_drop: bool, linger: bool) -> Arc<Self> {
        Arc::new(Self { handle, kill_on_drop, linger })
    }

    pub(crate) fn lingers(&self) -> bool {
        self.linger
    }

    pub(crate) fn pid(&self) -> io::Result<u32> {
        // SAFETY: takes no pointers.
        let pid = check(unsafe { sys::nr_pid(self.handle) })?;
        Ok(pid as u32)
    }

    /// The text about why an asynchronous spawn has failed.
    #[cfg(feature = "tokio")]
    pub(crate) fn spawn_error(&self, error: i64) -> io::Error {
        let mut why = [0; 512];
        // SAFETY: why is writable for its length.
        unsafe { sys::nr_why(self.handle, why.as_mut_ptr(), why.len()) };
        // SAFETY: the library has terminated it.
        unsafe { spawn_error(error, &why) }
    }

    /// The descriptor to watch, or `None` if the stream is not connected to us.
    pub(crate) fn fd(&self, stream: i32) -> io::Result<Option<RawFd>> {
        // SAFETY: takes no pointers.
        match unsafe { sys::nr_fd(self.handle, stream) } {
            fd if fd >= 0 => Ok(Some(fd)),
            error if error == -libc::EINVAL => Ok(None),
            error => Err(from_return(error.into())),
        }
    }

    pub(crate) fn read(&self, stream: i32, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // SAFETY: buf is writable for its length.
        check_size(unsafe { sys::nr_read(self.handle, stream, buf.as_mut_ptr().cast(), buf.len()) })
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // SAFETY: buf is readable for its length.
        check_size(unsafe { sys::nr_write(self.handle, buf.as_ptr().cast(), buf.len()) })
    }

    pub(crate) fn close(&self, stream: i32) -> io::Result<()> {
        // SAFETY: takes no pointers. The descriptor's user has it no longer.
        check(unsafe { sys::nr_close(self.handle, stream) }).map(drop)
    }

    /// `None`: still running, when the time was over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let mut left = timeout;
        loop {
            // A wait of more than 24 days is made of several.
            let turn = left.map(|left| left.min(Duration::from_secs(86_400)));
            let ms = turn.map_or(-1, |turn| milliseconds(turn) as i32);
            let mut outcome = sys::nr_outcome::default();
            // SAFETY: outcome is valid, with its size.
            match unsafe { sys::nr_wait(self.handle, ms, &mut outcome) } {
                0 => return Ok(Some(ExitStatus::new(&outcome))),
                error if error == -libc::EAGAIN => return Ok(None),
                error if error == -libc::ETIMEDOUT => {}
                error => return Err(from_return(error.into())),
            }
            left = left.and_then(|left| left.checked_sub(turn?));
            if left.map_or(true, |left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.wait(Some(Duration::ZERO))
    }

    /// What has become of an asynchronous spawn: `None` is not known yet.
    #[cfg(feature = "tokio")]
    pub(crate) fn spawned(&self) -> Option<io::Result<()>> {
        // SAFETY: a NULL outcome is allowed.
        let state = unsafe { sys::nr_wait(self.handle, 0, std::ptr::null_mut()) };
        if state == 0 || self.pid().is_ok() {
            Some(Ok(()))
        } else if state == -libc::EAGAIN {
            None
        } else {
            Some(Err(self.spawn_error(state.into())))
        }
    }

    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: takes no pointers.
        check(unsafe { sys::nr_kill(self.handle, signal) }).map(drop)
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        match self.signal(libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }

    pub(crate) fn stop(&self) -> io::Result<()> {
        // SAFETY: takes no pointers.
        check(unsafe { sys::nr_stop(self.handle) }).map(drop)
    }

    pub(crate) fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        // SAFETY: takes no pointers.
        check(unsafe { sys::nr_winsize(self.handle, rows, cols) }).map(drop)
    }

    pub(crate) fn stats(&self) -> io::Result<Stats> {
        let mut statistics = sys::nr_statistics::default();
        // SAFETY: statistics is valid, with its size.
        check(unsafe { sys::nr_stats(self.handle, &mut statistics) })?;
        Ok(Stats::new(&statistics))
    }

    pub(crate) fn cgroup_get(&self, file: &str) -> io::Result<String> {
        let file = c_string(file)?;
        let mut buf = vec![0u8; 256];
        loop {
            // SAFETY: buf is writable for its length, file is terminated.
            let length = check_size(unsafe {
                sys::nr_cgroup_get(self.handle, file.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
            })?;
            if length < buf.len() {
                buf.truncate(length);
                return String::from_utf8(buf)
                    .map_err(|_| invalid("the cgroup's file holds no text"));
            }
            buf.resize(length * 2, 0);
        }
    }

    pub(crate) fn cgroup_set(&self, file: &str, value: &str) -> io::Result<()> {
        let (file, value) = (c_string(file)?, c_string(value)?);
        // SAFETY: both are terminated.
        check(unsafe { sys::nr_cgroup_set(self.handle, file.as_ptr(), value.as_ptr()) }).map(drop)
    }

    /// For whoever gives up the program while others still hold the process.
    pub(crate) fn give_up(self: &Arc<Self>) {
        if self.kill_on_drop && Arc::strong_count(self) > 1 {
            // It is only asked for; there is nothing to do about an error.
            let _ = self.stop();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop || !is_running(self.handle) {
            release(self.handle);
        } else {
            let mut detached = DETACHED.lock().unwrap_or_else(|e| e.into_inner());
            detached.push(self.handle);
        }
    }
}

/// Programs that were dropped and are to run on. They are released when they
/// have ended; somebody has to look from time to time.
static DETACHED: Mutex<Vec<sys::nr_proc>> = Mutex::new(Vec::new());

pub(crate) fn release_detached() {
    let mut detached = DETACHED.lock().unwrap_or_else(|e| e.into_inner());
    detached.retain(|&handle| {
        let keep = is_running(handle);
        if !keep {
            release(handle);
        }
        keep
    });
}

fn is_running(handle: sys::nr_proc) -> bool {
    // SAFETY: a NULL outcome is allowed.
    unsafe { sys::nr_wait(handle, 0, std::ptr::null_mut()) == -libc::EAGAIN }
}

fn release(handle: sys::nr_proc) {
    // SAFETY: takes no pointers; nobody uses the handle's descriptors any more.
    unsafe { sys::nr_release(handle) };
}

/// # Safety
///
/// `why` holds a NUL.
pub(crate) unsafe fn spawn_error(error: i64, why: &[std::ffi::c_char]) -> io::Error {
    // SAFETY: the caller's promise.
    let why = unsafe { std::ffi::CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
    if why.is_empty() {
        return from_return(error);
    }
    Error::with_text(i32::try_from(-error).unwrap_or(libc::EIO), why)
}

pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text).map_err(|error| {
        let position = error.nul_position();
        let bytes = error.into_vec();
        let bytes = String::from_utf8_lossy(&bytes);
        invalid(format!("NUL byte at position {position} of {bytes:?}"))
    })
}

/// Rounded up, so that what is not nothing does not become it.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    let ms = duration.as_nanos().saturating_add(999_999) / 1_000_000;
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// One of the three streams: closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    process: Arc<Process>,
    stream: i32,
    fd: RawFd,
}

impl Stream {
    pub(crate) fn open(process: &Arc<Process>, stream: i32) -> io::Result<Option<Self>> {
        let fd = process.fd(stream)?;
        Ok(fd.map(|fd| Self { process: Arc::clone(process), stream, fd }))
    }

    pub(crate) fn read(&self, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.process.read(self.stream, buf)
    }

    /// Appends what there is to a vector, once.
    pub(crate) fn read_to(&self, to: &mut Vec<u8>) -> io::Result<usize> {
        to.reserve(CHUNK);
        let n = self.read(to.spare_capacity_mut())?;
        // SAFETY: the library has written n bytes behind the present end.
        unsafe { to.set_len(to.len() + n) };
        Ok(n)
    }

    /// The same for those who want it all: `None` is nothing now, 0 the end. Too
    /// much output is an end like any other here, for the status tells of it.
    pub(crate) fn capture(&self, to: &mut Vec<u8>) -> io::Result<Option<usize>> {
        match unless_would_block(self.read_to(to)) {
            Err(error) if errno(&error) == Some(libc::EFBIG) => Ok(Some(0)),
            taken => taken,
        }
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.process.write(buf)
    }

    /// Writes what fits, and closes the stream behind the last of it. `false`
    /// is done: that the program does not want more, or that its terminal can't
    /// be told of the end, is no error.
    pub(crate) fn feed(&self, input: &mut &[u8]) -> bool {
        while !input.is_empty() {
            match unless_would_block(self.write(input)) {
                Ok(Some(n)) => *input = &input[n..],
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        matches!(unless_would_block(self.close()), Ok(None))
    }

    /// Once it has succeeded the descriptor is closed, which is why this is
    /// only for those who don't watch or lend it (any more).
    pub(crate) fn close(&self) -> io::Result<()> {
        self.process.close(self.stream)
    }

    /// Waits until a call makes sense again.
    pub(crate) fn wait_ready(&self) -> io::Result<()> {
        let events = if self.stream == sys::NR_STDIN { libc::POLLOUT } else { libc::POLLIN };
        let mut one = [poll_fd(self.fd, events)];
        poll(&mut one)
    }

    pub(crate) fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the process is not
        // released, which self prevents, and the stream not closed, which only
        // self does.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// A descriptor for others to own, in blocking mode as they expect it. One
    /// of a terminal stays as it is: its mode is shared with the other stream.
    pub(crate) fn into_owned(self) -> io::Result<OwnedFd> {
        let fd = self.borrow().try_clone_to_owned()?;
        if !std::io::IsTerminal::is_terminal(&fd) {
            set_blocking(&fd)?;
        }
        Ok(fd)
    }
}

/// How much is read at once: what the kernel's pipes hold by default.
pub(crate) const CHUNK: usize = 1 << 16;

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A terminal whose end of file can't be typed stays open until the
        // process is released; whoever minds calls close() and sees it.
        let _ = self.close();
    }
}

fn set_blocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: fd is open; both commands take and return integers.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

pub(crate) fn poll_fd(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits without limit until one of them is ready.
pub(crate) fn poll(fds: &mut [libc::pollfd]) -> io::Result<()> {
    loop {
        // SAFETY: fds is valid for its length.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A clonable reference to a program, to ask about it and to end it from
/// anywhere, while somebody else owns the `Child`. It does not keep the program
/// alive when the `Child` is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    process: Arc<Process>,
}

impl Handle {
    pub(crate) fn new(process: &Arc<Process>) -> Self {
        Self { process: Arc::clone(process) }
    }

    /// Kills the program with SIGKILL. If it has ended that is no error.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Begins to end the tree: SIGTERM, the
    /// [grace](crate::Command::kill_timeout), SIGKILL. It does not wait.
    pub fn stop(&self) -> io::Result<()> {
        self.process.stop()
    }

    /// Sends a signal to the program's process group, or, if it has a cgroup,
    /// to all in it. 0 asks whether it runs. After its end that is `ESRCH`.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.process.signal(signal)
    }

    /// How it ended, or `None` while it runs.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Numbers about it.
    pub fn stats(&self) -> io::Result<Stats> {
        self.process.stats()
    }

    /// Changes the size of its terminal. `ENOTTY`: it has none.
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        self.process.resize(rows, cols)
    }

    /// Reads a file of its cgroup, such as `"memory.peak"`.
    pub fn cgroup_get(&self, file: &str) -> io::Result<String> {
        self.process.cgroup_get(file)
    }

    /// Writes a file of its cgroup.
    pub fn cgroup_set(&self, file: &str, value: &str) -> io::Result<()> {
        self.process.cgroup_set(file, value)
    }
}

/// The version of the loaded library.
pub fn library_version() -> &'static str {
    // SAFETY: static text.
    unsafe { text(sys::nr_version_string()) }
}

/// For those that read until there is nothing: `None` is nothing now.
pub(crate) fn unless_would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_would_block(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
