// SPDX-License-Identifier: Apache-2.0

use std::error;
use std::ffi::{c_char, CStr};
use std::fmt;
use std::io;

use netrunner_sys as sys;

/// What is inside an [`io::Error`] that says more than an errno: which step of a
/// spawn failed and on what, or what an errno means here.
///
/// ```
/// let error = netrunner::Command::new("/no/such/program").spawn().unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
///
/// let detail = netrunner::Error::of(&error).unwrap();
/// assert_eq!(detail.errno_name(), "ENOENT");
/// assert!(detail.why().contains("/no/such/program"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    errno: i32,
    why: String,
}

impl Error {
    pub(crate) fn with_text(errno: i32, why: impl Into<String>) -> io::Error {
        let why = why.into();
        let plain = io::Error::from_raw_os_error(errno);
        if why.is_empty() {
            return plain;
        }
        io::Error::new(plain.kind(), Self { errno, why })
    }

    /// The `Error` inside an [`io::Error`], if it is one of this crate.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The errno, positive.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The errno's name, such as `"ENOENT"`.
    pub fn errno_name(&self) -> &'static str {
        // SAFETY: nr_errname returns static text, for any number.
        unsafe { text(sys::nr_errname(self.errno)) }
    }

    /// The step that failed, what it was done to, and the errno in words.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl error::Error for Error {}

/// The errno of an error of this crate or of the standard library: what
/// [`io::Error::raw_os_error`] does not tell for an error that carries a text.
///
/// ```
/// let error = netrunner::Command::new("true").current_dir("/nowhere").spawn().unwrap_err();
/// assert_eq!(netrunner::errno(&error), Some(2)); // ENOENT
/// ```
pub fn errno(error: &io::Error) -> Option<i32> {
    Error::of(error).map(Error::errno).or_else(|| error.raw_os_error())
}

/// Static text of the library.
///
/// # Safety
///
/// `text` is a NUL-terminated string that lives for ever.
pub(crate) unsafe fn text(text: *const c_char) -> &'static str {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("?")
}

/// The error for what a function of the library has returned, which is negative.
pub(crate) fn from_return(value: i64) -> io::Error {
    let errno = i32::try_from(-value).unwrap_or(libc::EIO);
    let why = match errno {
        libc::ECHILD => "this process is a fork() of the one that uses libnetrunner",
        libc::EOWNERDEAD => {
            "the shepherd was killed, and the program with it: how it ended is not known"
        }
        libc::EFBIG => "the program's output exceeds its limit",
        _ => "",
    };
    Error::with_text(errno, why)
}

pub(crate) fn check(value: i32) -> io::Result<i32> {
    if value < 0 {
        return Err(from_return(value.into()));
    }
    Ok(value)
}

pub(crate) fn check_size(value: isize) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| from_return(value as i64))
}

pub(crate) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, Error { errno: libc::EINVAL, why: why.into() })
}

pub(crate) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
