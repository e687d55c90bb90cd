// SPDX-License-Identifier: Apache-2.0

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netrunner_sys as sys;

use crate::child::{ChildStderr, ChildStdin, ChildStdout};

/// What a stream of a program is connected to.
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Piped,
    Null,
    Inherit,
    Stdout,
    Fd(OwnedFd),
}

impl Stdio {
    /// A pipe between the program and this process.
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// `/dev/null`.
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// The same stream of this process. Mind that a program is in a process
    /// group of its own: if this process runs in the foreground of a terminal,
    /// a program that reads from that terminal is stopped by SIGTTIN.
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// For the standard error: wherever the standard output goes.
    pub fn stdout() -> Self {
        Self(Kind::Stdout)
    }

    pub(crate) fn lower(&self) -> sys::nr_stdio {
        let (mode, fd) = match &self.0 {
            Kind::Piped => (sys::NR_STDIO_PIPE, 0),
            Kind::Null => (sys::NR_STDIO_NULL, 0),
            Kind::Inherit => (sys::NR_STDIO_INHERIT, 0),
            Kind::Stdout => (sys::NR_STDIO_STDOUT, 0),
            Kind::Fd(fd) => (sys::NR_STDIO_FD, fd.as_raw_fd()),
        };
        sys::nr_stdio { mode, fd }
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Kind::Fd(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self(Kind::Fd(file.into()))
    }
}

/// Connects two programs by the first one's pipe, which is put into blocking
/// mode: programs expect that.
macro_rules! from_stream {
    ($($stream:ident)*) => {$(
        impl TryFrom<$stream> for Stdio {
            type Error = io::Error;

            fn try_from(stream: $stream) -> io::Result<Self> {
                OwnedFd::try_from(stream).map(Self::from)
            }
        }
    )*};
}
from_stream!(ChildStdin ChildStdout ChildStderr);
