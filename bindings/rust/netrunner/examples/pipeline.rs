// SPDX-License-Identifier: Apache-2.0

//! Connects two programs; the bytes do not pass through this process.
//!
//! Prints:
//! ```text
//! banana
//! cherry
//! printf: exit status: 0
//! grep: exit status: 0
//! ```

use std::io;

use netrunner::{Command, Stdio};

fn main() -> io::Result<()> {
    let mut first =
        Command::new("printf").arg("cherry\napple\nbanana\n").stdout(Stdio::piped()).spawn()?;
    let between = Stdio::try_from(first.stdout.take().expect("it is piped"))?;
    let second = Command::new("sh").args(["-c", "grep -v apple | sort"]).stdin(between).output()?;

    print!("{}", String::from_utf8_lossy(&second.stdout));
    println!("printf: {}", first.wait()?);
    println!("grep: {}", second.status);
    Ok(())
}
