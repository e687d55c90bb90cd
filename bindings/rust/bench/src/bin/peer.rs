// SPDX-License-Identifier: Apache-2.0

//! One variant at a time, for `make bench`: std and tokio, and the binding's
//! counterparts. Arguments and samples are those of tests/bench/peers/peer.py.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WARM_UP: i64 = 3;
const PIECE: usize = 1 << 16;

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn report_read(mib: usize, time: Duration, used: Duration) {
    println!("read {}\ncpu {}", mib as f64 / time.as_secs_f64(), us(used) / 1e3);
}

fn report_spawn(n: i64, started: Instant, blocked: Instant, ended: Instant) {
    if n >= 0 {
        println!("blocked {}\nexit {}", us(blocked - started), us(ended - started));
    }
}

// What is measured is written the same for both, which have no trait in common.
macro_rules! blocking {
    ($name:ident, $command:ty, $stdio:ty) => {
        fn $name(what: &str, count: usize, argv: &[String]) -> std::io::Result<()> {
            let start = |errors: bool| {
                let mut command = <$command>::new(&argv[0]);
                command.args(&argv[1..]).stdin(<$stdio>::piped()).stdout(<$stdio>::piped());
                if errors {
                    command.stderr(<$stdio>::piped());
                }
                command.spawn()
            };
            match what {
                "spawn" => {
                    for n in -WARM_UP..count as i64 {
                        let started = Instant::now();
                        let mut child = start(true)?;
                        let blocked = Instant::now();
                        child.wait()?;
                        report_spawn(n, started, blocked, Instant::now());
                    }
                }
                "read" => {
                    let mut child = start(false)?;
                    let (started, used) = (Instant::now(), cpu());
                    let mut from = child.stdout.take().unwrap();
                    let (mut buf, mut left) = (vec![0; PIECE], count << 20);
                    loop {
                        match from.read(&mut buf)? {
                            0 => break,
                            n => left -= n,
                        }
                    }
                    report_read(count, started.elapsed(), cpu() - used);
                    assert_eq!(left, 0);
                    child.wait()?;
                }
                "echo" => {
                    let data = vec![0; count << 20];
                    let started = Instant::now();
                    let mut child = start(false)?;
                    let mut to = child.stdin.take().unwrap();
                    let mut from = child.stdout.take().unwrap();
                    let mut output = Vec::new();
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            to.write_all(&data).unwrap();
                            drop(to);
                        });
                        from.read_to_end(&mut output).unwrap();
                    });
                    println!("echo {}", us(started.elapsed()) / 1e3);
                    assert_eq!(output.len(), data.len());
                    child.wait()?;
                }
                _ => {
                    let mut child = start(false)?;
                    let mut to = child.stdin.take().unwrap();
                    let mut from = child.stdout.take().unwrap();
                    let mut byte = [b'x'];
                    for n in -50..count as i64 {
                        let started = Instant::now();
                        to.write_all(&byte)?;
                        from.read_exact(&mut byte)?;
                        if n >= 0 {
                            println!("turn {}", us(started.elapsed()));
                        }
                    }
                    drop(to);
                    child.wait()?;
                }
            }
            Ok(())
        }
    };
}

macro_rules! asynchronous {
    ($name:ident, $command:ty, $stdio:ty, $($ready:tt)*) => {
        async fn $name(what: &str, count: usize, argv: &[String]) -> std::io::Result<()> {
            let start = |errors: bool| {
                let mut command = <$command>::new(&argv[0]);
                command.args(&argv[1..]).stdin(<$stdio>::piped()).stdout(<$stdio>::piped());
                if errors {
                    command.stderr(<$stdio>::piped());
                }
                async move { command.spawn()$($ready)* }
            };
            match what {
                "spawn" => {
                    for n in -WARM_UP..count as i64 {
                        let started = Instant::now();
                        let mut child = start(true).await?;
                        let blocked = Instant::now();
                        child.wait().await?;
                        report_spawn(n, started, blocked, Instant::now());
                    }
                }
                "read" => {
                    let mut child = start(false).await?;
                    let (started, used) = (Instant::now(), cpu());
                    let mut from = child.stdout.take().unwrap();
                    let (mut buf, mut left) = (vec![0; PIECE], count << 20);
                    loop {
                        match from.read(&mut buf).await? {
                            0 => break,
                            n => left -= n,
                        }
                    }
                    report_read(count, started.elapsed(), cpu() - used);
                    assert_eq!(left, 0);
                    child.wait().await?;
                }
                "echo" => {
                    let data = vec![0; count << 20];
                    let started = Instant::now();
                    let mut child = start(false).await?;
                    let mut to = child.stdin.take().unwrap();
                    let mut from = child.stdout.take().unwrap();
                    let mut output = Vec::new();
                    let write = async move {
                        to.write_all(&data).await.unwrap();
                        drop(to);
                    };
                    let (_, read) = tokio::join!(write, from.read_to_end(&mut output));
                    println!("echo {}", us(started.elapsed()) / 1e3);
                    assert_eq!(read?, count << 20);
                    child.wait().await?;
                }
                _ => {
                    let mut child = start(false).await?;
                    let mut to = child.stdin.take().unwrap();
                    let mut from = child.stdout.take().unwrap();
                    let mut byte = [b'x'];
                    for n in -50..count as i64 {
                        let started = Instant::now();
                        to.write_all(&byte).await?;
                        from.read_exact(&mut byte).await?;
                        if n >= 0 {
                            println!("turn {}", us(started.elapsed()));
                        }
                    }
                    drop(to);
                    child.wait().await?;
                }
            }
            Ok(())
        }
    };
}

blocking!(standard, std::process::Command, std::process::Stdio);
blocking!(ours, netrunner::Command, netrunner::Stdio);
asynchronous!(tokio_standard, tokio::process::Command, std::process::Stdio,);
asynchronous!(tokio_ours, netrunner::tokio::Command, netrunner::Stdio, .await);

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().expect("VARIANT MEASURE COUNT [MIB] PROGRAM...");
    let (variant, what) = (next(), next());
    let count = next().parse().expect("a number");
    let memory = match what.as_str() {
        "spawn" => vec![1u8; next().parse::<usize>().expect("a number") << 20],
        _ => Vec::new(),
    };
    let argv: Vec<String> = args.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match variant.as_str() {
        "std" => standard(&what, count, &argv),
        "netrunner" => ours(&what, count, &argv),
        "tokio" => runtime.block_on(tokio_standard(&what, count, &argv)),
        "netrunner::tokio" => runtime.block_on(tokio_ours(&what, count, &argv)),
        _ => panic!("no such variant: {variant}"),
    };
    drop(std::hint::black_box(memory));
    result
}
