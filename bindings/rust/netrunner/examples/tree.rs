// SPDX-License-Identifier: Apache-2.0

//! What a program leaves behind is killed before its end is told.
//!
//! Prints:
//! ```text
//! the program: exit status: 0
//! its daemon: gone
//! ```

use std::io;
use std::path::Path;

use netrunner::Command;

fn main() -> io::Result<()> {
    // In a session of its own, and with a pipe that would keep output() waiting.
    let output = Command::new("sh").args(["-c", "setsid sleep 1000 & echo $!"]).output()?;
    println!("the program: {}", output.status);

    let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let lives = Path::new("/proc").join(pid).exists();
    println!("its daemon: {}", if lives { "lives" } else { "gone" });
    Ok(())
}
