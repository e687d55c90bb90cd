// SPDX-License-Identifier: Apache-2.0

// Node's child_process. Arguments and samples are those of peer.py.

'use strict';

const { spawn } = require('child_process');
const { once } = require('events');

const WARM_UP = 3;
const now = () => Number(process.hrtime.bigint()) / 1e3;
const lines = [];

const measures = {
  async spawn(count, mib, ...argv) {
    const memory = Buffer.alloc(Number(mib) * 2 ** 20, 1);
    for (let n = -WARM_UP; n < count; n++) {
      const started = now();
      const program = spawn(argv[0], argv.slice(1));
      const blocked = now();
      await once(program, 'exit');
      const ended = now();
      program.stdin.destroy();
      if (n >= 0) lines.push(`blocked ${blocked - started}`, `exit ${ended - started}`);
    }
    return memory.length;
  },

  async read(mib, ...argv) {
    const program = spawn(argv[0], argv.slice(1));
    const started = now();
    const cpu = process.cpuUsage();
    let left = mib * 2 ** 20;
    program.stdout.on('data', (piece) => { left -= piece.length; });
    await once(program.stdout, 'end');
    const used = process.cpuUsage(cpu);
    lines.push(`read ${mib * 1e6 / (now() - started)}`, `cpu ${(used.user + used.system) / 1e3}`);
    if (left !== 0) throw new Error(`${left} bytes are missing`);
  },

  async echo(mib, ...argv) {
    const data = Buffer.alloc(mib * 2 ** 20);
    const started = now();
    const program = spawn(argv[0], argv.slice(1));
    let left = data.length;
    program.stdout.on('data', (piece) => { left -= piece.length; });
    program.stdin.end(data);
    await once(program.stdout, 'end');
    lines.push(`echo ${(now() - started) / 1e3}`);
    if (left !== 0) throw new Error(`${left} bytes are missing`);
  },

  async turn(count, ...argv) {
    const program = spawn(argv[0], argv.slice(1));
    for (let n = -50; n < count; n++) {
      const started = now();
      program.stdin.write('x');
      await once(program.stdout, 'data');
      if (n >= 0) lines.push(`turn ${now() - started}`);
    }
    program.stdin.end();
    await once(program, 'exit');
  },
};

const [, what, count, ...argv] = process.argv.slice(2);
measures[what](Number(count), ...argv).then(() => console.log(lines.join('\n')));
