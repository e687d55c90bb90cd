// SPDX-License-Identifier: Apache-2.0

// Hosts in Node.js, one by the name of each function: node_host.js NAME

"use strict";

const assert = require("assert");
const childProcess = require("child_process");
const koffi = require("koffi");
const net = require("net");
const { once } = require("events");
const { setTimeout: sleep } = require("timers/promises");
const workers = require("worker_threads");

const library = koffi.load(process.env.NETRUNNER_LIBRARY);
const libc = koffi.load(null);
const stdio = koffi.struct({ mode: "int32", fd: "int32" });
const options = koffi.struct("nr_options", {
  size: "size_t", flags: "uint64", argv: "const char **", file: "str", env: "const char **", cwd: "str",
  in: stdio, out: stdio, err: stdio, fds: "void *", nfds: "size_t", pipe_size: "uint32", reserved0: "uint32",
  rows: "uint16", cols: "uint16", umask: "uint32", timeout_ms: "int64", kill_timeout_ms: "int64",
  output_limit: "uint64", uid: "uint32", gid: "uint32", groups: "void *", ngroups: "size_t", rlimits: "void *",
  nrlimits: "size_t", cgroup_base: "str", cgroup_path: "str", cgroup_set: "void *", nice: "int32",
  reserved: "int32", shepherd: "str",
});
const outcome = koffi.struct("nr_outcome", {
  size: "size_t", code: "int32", signal: "int32", reason: "int32", core: "int32",
});
const nr = {
  spawn: library.func("int64 nr_spawn(const nr_options *options, void *why, size_t whylen)"),
  fd: library.func("int nr_fd(int64 p, int stream)"),
  write: library.func("int64 nr_write(int64 p, const void *buf, size_t len)"),
  closeStdin: library.func("int nr_close_stdin(int64 p)"),
  wait: library.func("int nr_wait(int64 p, int timeout_ms, _Inout_ nr_outcome *how)"),
  release: library.func("int nr_release(int64 p)"),
};
const fcntl = libc.func("int fcntl(int fd, int command, int number)");
const F_DUPFD_CLOEXEC = 1030;
const STDOUT = 1;
const TREE = ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; wait"];

const zero = {
  flags: 0, file: null, env: null, cwd: null, in: { mode: 0, fd: 0 }, out: { mode: 0, fd: 0 }, err: { mode: 0, fd: 0 },
  fds: null, nfds: 0, pipe_size: 0, reserved0: 0, rows: 0, cols: 0, umask: 0, timeout_ms: 0, kill_timeout_ms: 0,
  output_limit: 0, uid: 0, gid: 0, groups: null, ngroups: 0, rlimits: null, nrlimits: 0, cgroup_base: null,
  cgroup_path: null, cgroup_set: null, nice: 0, reserved: 0, shepherd: null,
};

function spawn(argv) {
  const why = Buffer.alloc(256);
  const program = nr.spawn({ ...zero, size: koffi.sizeof(options), argv: [...argv, null] }, why, why.length);
  assert(program > 0, `${program}: ${why.toString("latin1")}`);
  // Node owns and closes what it watches.
  const fd = fcntl(nr.fd(program, STDOUT), F_DUPFD_CLOEXEC, 3);
  assert(fd > 2);
  return { program, stdout: new net.Socket({ fd, readable: true, writable: false }) };
}

// Waits in a thread of libuv's.
function end(program) {
  return new Promise((resolve, reject) => {
    const how = { size: koffi.sizeof(outcome), code: 0, signal: 0, reason: 0, core: 0 };
    nr.wait.async(program, -1, how, (error, status) => {
      if (error || status !== 0) reject(error || new Error(`nr_wait: ${status}`));
      else resolve(how);
    });
  });
}

async function run(argv, input) {
  const { program, stdout } = spawn(argv);
  const data = Buffer.from(input || "");
  if (data.length) assert.strictEqual(nr.write(program, data, data.length), data.length);
  assert.strictEqual(nr.closeStdin(program), 0);
  const parts = [];
  for await (const part of stdout) parts.push(part);
  const how = await end(program);
  assert.strictEqual(nr.release(program), 0);
  return { output: Buffer.concat(parts).toString(), code: how.code };
}

async function runPrograms(rounds) {
  for (let i = 0; i < rounds; i++) {
    const text = `${i} `.repeat(1000);
    assert.strictEqual((await run(["cat"], text)).output, text);
    assert.strictEqual((await run(["sh", "-c", `exit ${i}`])).code, i);
    if (i % 10 === 0) global.gc();
  }
}

// V8 leaves the check of bounds to a SIGSEGV: (func (export "f") (drop (i32.load (i32.const 1000000))))
function trap() {
  const code = Uint8Array.from([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 102, 0, 0,
    10, 12, 1, 10, 0, 65, 192, 132, 61, 40, 2, 0, 26, 11,
  ]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(code));
  for (let i = 0; i < 1000; i++) assert.throws(instance.exports.f, WebAssembly.RuntimeError);
}

const SIGNALS = ["SIGUSR2", "SIGHUP", "SIGALRM", "SIGPROF"];

function countSignals() {
  const seen = {};
  for (const name of SIGNALS) {
    seen[name] = 0;
    process.on(name, () => seen[name]++);
  }
  return seen;
}

// Programs, Node's own children, other threads and traps, under a storm of signals.
async function storm() {
  const seen = countSignals();
  const noise = setInterval(() => SIGNALS.forEach((name) => process.kill(process.pid, name)), 1);
  // No faster: libuv drops signals, SIGCHLD too, when its pipe for them is full.
  const sender = `while kill -USR2 ${process.pid}; do sleep 0.001; done 2>/dev/null`;
  const outside = childProcess.spawn("sh", ["-c", sender]);
  let over = false;
  const children = (async () => {
    while (!over) assert.strictEqual((await once(childProcess.spawn("sh", ["-c", "exit 3"]), "exit"))[0], 3);
  })();
  const others = [1, 2].map(() => new workers.Worker(__filename, { argv: ["thread"] }));
  const ended = others.map((worker) => once(worker, "exit"));
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(() => runPrograms(12)));
  trap();
  for (const [status] of await Promise.all(ended)) assert.strictEqual(status, 0);
  over = true;
  await children;
  outside.kill("SIGKILL");
  clearInterval(noise);
  for (const name of SIGNALS) {
    const before = seen[name];
    assert(before > 0, name);
    process.kill(process.pid, name);
    while (seen[name] === before) await sleep(5);
  }
  trap();
  // Nothing of the library's keeps the loop alive: it comes to its end.
}

// A worker of storm.
async function thread() {
  await runPrograms(10);
  trap();
}

// To be killed while it starts and ends programs.
async function killed() {
  countSignals();
  for (let i = 0; i < 5; i++) await once(spawn(TREE).stdout, "data");
  const forever = async () => {
    for (;;) await run(["sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 0"]);
  };
  forever();
  forever();
  console.log("ready");
  setInterval(() => process.kill(process.pid, "SIGUSR2"), 1);
}

process.on("unhandledRejection", (error) => {
  console.error(error);
  process.exit(1);
});
({ storm, thread, killed })[process.argv[2]]();
