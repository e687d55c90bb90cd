// SPDX-License-Identifier: Apache-2.0

//! The bindings beside C and the standard library, in one process and under one
//! shepherd.
//!
//!     cargo run --release -p netrunner-bench [BLOCKS]
//!
//! The variants take turns, in blocks of some runs each. Printed are the medians
//! of the blocks, and their ratio to C's. Only the ratios mean anything on a
//! machine that does other things, too.

use std::ffi::{c_char, c_int, CString};
use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Instant;

use netrunner::{Command, Stdio};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

extern "C" {
    fn c_spawn(program: *const c_char) -> c_int;
    fn c_stream(bytes: *const c_char, buf: *mut c_char, len: usize) -> c_int;
    fn c_dialog(times: c_int) -> c_int;
}

// The library that the C code calls is linked through this crate.
use netrunner_sys as _;

const PROGRAM: &str = "/bin/true";
const BYTES: &str = "67108864";
const BUFFER: usize = 1 << 16;
const TIMES: usize = 2000;

type Variant<'a> = (&'a str, Box<dyn FnMut() + 'a>);

fn compare(title: &str, unit: f64, runs: usize, blocks: usize, mut variants: Vec<Variant<'_>>) {
    let mut times = vec![Vec::new(); variants.len()];
    for block in 0..=blocks {
        for turn in 0..variants.len() {
            // Each is the first as often as the last.
            let index = if block % 2 == 0 { turn } else { variants.len() - 1 - turn };
            let start = Instant::now();
            for _ in 0..runs {
                variants[index].1();
            }
            let time = start.elapsed().as_secs_f64() * 1e6 / runs as f64 / unit;
            if block > 0 {
                times[index].push(time); // the first block warms up
            }
        }
    }
    println!("{title}");
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let base = median(&mut times[0]);
    for (index, (name, _)) in variants.iter().enumerate() {
        let time = median(&mut times[index]);
        println!("  {name:28} {time:10.2} us   {:.3}", time / base);
    }
}

fn piped(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn std_piped(program: &str) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    let pipe = std::process::Stdio::piped;
    command.stdin(pipe()).stdout(pipe()).stderr(pipe());
    command
}

fn async_piped(program: &str) -> netrunner::tokio::Command {
    let mut command = netrunner::tokio::Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn tokio_piped(program: &str) -> tokio::process::Command {
    std_piped(program).into()
}

fn drain(mut from: impl Read, buf: &mut [u8]) {
    while from.read(buf).unwrap() > 0 {}
    black_box(buf);
}

fn talk(mut to: impl Write, mut from: impl Read) {
    let mut byte = [b'x'];
    for _ in 0..TIMES {
        to.write_all(&byte).unwrap();
        from.read_exact(&mut byte).unwrap();
    }
}

async fn async_drain(mut from: impl AsyncReadExt + Unpin, buf: &mut [u8]) {
    while from.read(buf).await.unwrap() > 0 {}
}

async fn async_talk(mut to: impl AsyncWriteExt + Unpin, mut from: impl AsyncReadExt + Unpin) {
    let mut byte = [b'x'];
    for _ in 0..TIMES {
        to.write_all(&byte).await.unwrap();
        from.read_exact(&mut byte).await.unwrap();
    }
}

fn main() {
    let blocks = std::env::args().nth(1).map_or(21, |blocks| blocks.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (program, bytes) = (CString::new(PROGRAM).unwrap(), CString::new(BYTES).unwrap());

    compare(
        "spawn /bin/true with three pipes, and wait",
        1.0,
        25,
        blocks,
        vec![
            // SAFETY: the text is terminated.
            ("C", Box::new(|| unsafe { assert_eq!(c_spawn(program.as_ptr()), 0) })),
            (
                "netrunner",
                Box::new(|| assert!(piped(PROGRAM).spawn().unwrap().wait().unwrap().success())),
            ),
            (
                "netrunner::tokio",
                Box::new(|| {
                    runtime.block_on(async {
                        let mut child = async_piped(PROGRAM).spawn().await.unwrap();
                        child.wait().await.unwrap();
                    });
                }),
            ),
            (
                "std::process",
                Box::new(|| assert!(std_piped(PROGRAM).spawn().unwrap().wait().unwrap().success())),
            ),
            (
                "tokio::process",
                Box::new(|| {
                    runtime.block_on(async {
                        tokio_piped(PROGRAM).spawn().unwrap().wait().await.unwrap();
                    });
                }),
            ),
        ],
    );

    let [mut c, mut a, mut b, mut d, mut e]: [Vec<u8>; 5] =
        std::array::from_fn(|_| vec![0; BUFFER]);
    let args = ["-c", BYTES, "/dev/zero"];
    compare(
        "read 64 MiB, 64 KiB at a time; per MiB",
        64.0,
        1,
        blocks,
        vec![
            (
                "C",
                Box::new(|| {
                    // SAFETY: the text is terminated, the buffer as long as said.
                    let error = unsafe { c_stream(bytes.as_ptr(), c.as_mut_ptr().cast(), c.len()) };
                    assert_eq!(error, 0);
                }),
            ),
            (
                "netrunner",
                Box::new(|| {
                    let mut child = piped("head").args(args).spawn().unwrap();
                    drain(child.stdout.take().unwrap(), &mut a);
                    child.wait().unwrap();
                }),
            ),
            (
                "netrunner::tokio",
                Box::new(|| {
                    runtime.block_on(async {
                        let mut child = async_piped("head").args(args).spawn().await.unwrap();
                        async_drain(child.stdout.take().unwrap(), &mut b).await;
                        child.wait().await.unwrap();
                    });
                }),
            ),
            (
                "std::process",
                Box::new(|| {
                    let mut child = std_piped("head").args(args).spawn().unwrap();
                    drain(child.stdout.take().unwrap(), &mut d);
                    child.wait().unwrap();
                }),
            ),
            (
                "tokio::process",
                Box::new(|| {
                    runtime.block_on(async {
                        let mut child = tokio_piped("head").args(args).spawn().unwrap();
                        async_drain(child.stdout.take().unwrap(), &mut e).await;
                        child.wait().await.unwrap();
                    });
                }),
            ),
        ],
    );

    compare(
        "one byte through cat and back",
        TIMES as f64,
        1,
        blocks,
        vec![
            // SAFETY: takes no pointers.
            ("C", Box::new(|| unsafe { assert_eq!(c_dialog(TIMES as c_int), 0) })),
            (
                "netrunner",
                Box::new(|| {
                    let mut child = piped("cat").spawn().unwrap();
                    talk(child.stdin.take().unwrap(), child.stdout.take().unwrap());
                    child.wait().unwrap();
                }),
            ),
            (
                "netrunner::tokio",
                Box::new(|| {
                    runtime.block_on(async {
                        let mut child = async_piped("cat").spawn().await.unwrap();
                        async_talk(child.stdin.take().unwrap(), child.stdout.take().unwrap()).await;
                        child.wait().await.unwrap();
                    });
                }),
            ),
            (
                "std::process",
                Box::new(|| {
                    let mut child = std_piped("cat").spawn().unwrap();
                    talk(child.stdin.take().unwrap(), child.stdout.take().unwrap());
                    child.wait().unwrap();
                }),
            ),
            (
                "tokio::process",
                Box::new(|| {
                    runtime.block_on(async {
                        let mut child = tokio_piped("cat").spawn().unwrap();
                        async_talk(child.stdin.take().unwrap(), child.stdout.take().unwrap()).await;
                        child.wait().await.unwrap();
                    });
                }),
            ),
        ],
    );
}
