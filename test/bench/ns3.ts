/** ns-3 on the same task, where a compiler and its development files are installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Spread, spread } from './spread.ts';

const LIBRARIES = ['core', 'network', 'internet', 'csma', 'bridge', 'traffic-control', 'applications'];
const SOURCE = join(import.meta.dirname, 'ns3-bridge.cc');
const FRAMES = 200_000;
const RUNS = 3;

/** Delivered frames per second with pcap, by frame size; a text says why there are none. */
export function ns3(sizes: readonly number[]): Map<number, Spread> | string {
  const folder = mkdtempSync(join(tmpdir(), 'ringside-ns3-'));
  try {
    const program = join(folder, 'bridge');
    const options = ['-O2', '-std=c++17', SOURCE, '-o', program, '-Wl,--no-as-needed'];
    const built = spawnSync('g++', [...options, ...LIBRARIES.map((l) => `-lns3-${l}`)], { encoding: 'utf8' });
    if (built.error !== undefined) return 'g++ is not installed';
    if (built.status !== 0) return `ns-3 (libns3-dev) is not installed: ${built.stderr.split('\n')[0] ?? ''}`;
    const found = new Map<number, Spread>();
    for (const size of sizes) {
      const rates: number[] = [];
      for (let i = 0; i < RUNS; i++) {
        const args = [String(FRAMES), String(size), join(folder, 'capture')];
        const ran = spawnSync(program, args, { encoding: 'utf8' });
        const [received = 0, seconds = 0] = ran.stdout.split(' ').map(Number);
        if (ran.status !== 0 || received !== FRAMES)
          return `ns-3 delivered ${received} of ${FRAMES} frames ${ran.stderr}`;
        rates.push(received / seconds);
      }
      found.set(size, spread(rates));
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
