// SPDX-License-Identifier: Apache-2.0

//! Reads a program's lines in an event loop, gives it up after some time, and
//! runs others at the same time.
//!
//! Prints:
//! ```text
//! tick 1
//! tick 2
//! tick 3
//! stopped: signal: 15 (SIGTERM), killed
//! squares: [0, 1, 4, 9, 16, 25, 36, 49]
//! ```

use std::io;

use netrunner::tokio::Command;
use netrunner::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let clock = "i=0; while :; do i=$((i + 1)); echo tick $i; sleep 0.02; done";
    let mut child = Command::new("sh").args(["-c", clock]).stdout(Stdio::piped()).spawn().await?;
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();

    // Both branches are cancel safe.
    let mut seen = 0;
    let status = loop {
        tokio::select! {
            line = lines.next_line() => {
                seen += 1;
                if let (Some(line), 1..=3) = (line?, seen) {
                    println!("{line}");
                }
                if seen == 3 {
                    child.stop()?;
                }
            }
            status = child.wait() => break status?,
        }
    };
    println!("stopped: {status}");

    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let square =
                Command::new("sh").args(["-c", "echo $((N * N))"]).env("N", n.to_string()).output();
            tokio::spawn(square)
        })
        .collect();
    let mut squares = Vec::new();
    for task in tasks {
        let output = task.await??;
        squares
            .push(String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().expect("a number"));
    }
    println!("squares: {squares:?}");
    Ok(())
}
