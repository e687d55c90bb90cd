// SPDX-License-Identifier: Apache-2.0

//! Talks to a program line by line.
//!
//! Prints:
//! ```text
//! 1 + 1 = 2
//! 6 * 7 = 42
//! exit status: 0
//! ```

use std::io::{self, BufRead, BufReader, Write};

use netrunner::{Command, Stdio};

const CALCULATOR: &str = "while read -r sum; do echo $(($sum)); done";

fn main() -> io::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", CALCULATOR]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut to = child.stdin.take().expect("it is piped");
    let mut from = BufReader::new(child.stdout.take().expect("it is piped"));

    for sum in ["1 + 1", "6 * 7"] {
        writeln!(to, "{sum}")?;
        let mut answer = String::new();
        from.read_line(&mut answer)?;
        println!("{sum} = {}", answer.trim());
    }
    drop(to); // the end of its input
    println!("{}", child.wait()?);
    Ok(())
}
