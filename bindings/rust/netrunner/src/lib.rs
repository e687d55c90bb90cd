// SPDX-License-Identifier: Apache-2.0

//! Run operating system processes, and never lose one.
//!
//! [`Command`] and [`Child`] have the methods of [`std::process`], and run their
//! programs under a shepherd, a small process beside this one:
//!
//! - When this process dies, in any way, its programs and all that these have
//!   started die.
//! - When a program ends, what it left running is killed before
//!   [`wait`](Child::wait) returns. When a [`Child`] is dropped, the program's
//!   tree is stopped.
//! - Time limits, output limits, terminals, cgroups, resource limits and users
//!   are options of [`Command`].
//! - A program that can't be executed is an [`io::Error`](std::io::Error) of the
//!   right kind, with a text that says which step failed and on what.
//!
//! ```
//! use netrunner::Command;
//!
//! let output = Command::new("tr").args(["a-z", "A-Z"]).output_with(b"hello")?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"HELLO");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Everything here is for threads. The module `tokio`, of the feature of that
//! name, is the same for asynchronous programs.
//!
//! # Threads, fork, exec
//!
//! All types are `Send` and `Sync`. After a `fork()` of this process all calls
//! fail with `ECHILD` in the new process if this one had spawned before. An
//! `exec` of this process ends its programs.
//!
//! # Differences from `std::process`
//!
//! - A program leads a process group of its own, so Ctrl-C on a terminal does
//!   not reach it (it ends when this process does), and it can't read from this
//!   process's terminal: see [`Stdio::inherit`].
//! - Dropping a [`Child`] ends the program, see [`Command::kill_on_drop`].
//! - All descriptors but those given to it are closed in the program, and all
//!   signals have their default action.
//! - There is no `pre_exec`, since there is no code of this process in the
//!   program's.
//! - [`io::Error::raw_os_error`](std::io::Error::raw_os_error) is `None` for an
//!   error that has a text: ask [`errno()`].

mod child;
mod error;
mod process;
mod spec;
mod status;
mod stdio;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
pub use error::{errno, Error};
pub use process::{library_version, Handle};
pub use status::{ExitStatus, Output, Reason, Stats};
pub use stdio::Stdio;

/// Runs the code in the README.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../README.md")]
struct Readme;
