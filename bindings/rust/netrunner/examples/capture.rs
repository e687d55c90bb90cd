// SPDX-License-Identifier: Apache-2.0

//! Runs a program with input, a time limit and a limit of output, and says how
//! it ended.
//!
//! Prints:
//! ```text
//! exit status: 0: apple, banana, cherry
//! exit status: 3: 0 bytes, and on stderr "no such fruit"
//! signal: 15 (SIGTERM), out of time
//! signal: 9 (SIGKILL), too much output: 1000 bytes
//! ```

use std::io;
use std::time::Duration;

use netrunner::{Command, Reason};

fn main() -> io::Result<()> {
    let sorted = Command::new("sort").output_with("cherry\napple\nbanana\n")?;
    let text = String::from_utf8_lossy(&sorted.stdout);
    println!("{}: {}", sorted.status, text.lines().collect::<Vec<_>>().join(", "));

    let failed = Command::new("sh").args(["-c", "echo no such fruit >&2; exit 3"]).output()?;
    let words = String::from_utf8_lossy(&failed.stderr);
    println!("{}: {} bytes, and on stderr {:?}", failed.status, failed.stdout.len(), words.trim());

    let slow = Command::new("sleep").arg("60").timeout(Duration::from_millis(100)).status()?;
    assert_eq!(slow.reason(), Reason::Timeout);
    println!("{slow}");

    let endless = Command::new("yes").output_limit(1000).output()?;
    println!("{}: {} bytes", endless.status, endless.stdout.len());
    Ok(())
}
