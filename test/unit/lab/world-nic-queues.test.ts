/** NICs with several receive queues, and what a flood from the line does to a guest behind a vhost worker. */
import { describe, expect, test } from 'vitest';
import { equalDocuments, parseTopology } from '../../../src/lab/document.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { World } from '../../../src/lab/world.ts';
import { runOne, udp } from './world-driver.ts';

type Host = Record<string, unknown>;
/** The preset's one host with other fields, its NICs with other fields. */
function world(preset: string, host: Host, nic: Host): World {
  const { document } = PRESETS.find(({ name }) => name === preset)!;
  const [first] = document.hosts;
  const hosts = [{ ...first, cores: 16, ...host, nics: first!.nics!.map((n) => ({ ...n, ...nic })) }];
  const parsed = parseTopology({ ...document, hosts }, { name: 'w' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const again = parseTopology(parsed.document, { name: 'w' });
  expect(again.ok && equalDocuments(again.document, parsed.document)).toBe(true);
  expect(again.ok && again.topology).toEqual(parsed.topology);
  return new World(parsed.topology);
}
const flood = udp('eth0', 'eth0', { count: 100_000, rate: 10_000_000, flows: 1000 });

describe('receive queues of a NIC', () => {
  test('of a kernel bridge have a softirq each, on cores of their own: more is received', () => {
    const run = (queues: number) =>
      runOne(
        world('p2p-kernel', {}, { queues }),
        udp('eth0', 'eth1', { count: 40_000, rate: 10_000_000, flows: 1000 }),
      );
    const [one, four] = [run(1), run(4)];
    expect(one.received + (one.dropped['nic.rx_ring_full'] ?? 0)).toBe(40_000);
    expect(four.received).toBeGreaterThan(3 * one.received);
  });
  test('of a userspace bridge are shared by its poll-mode threads', () => {
    const run = (queues: number) => {
      const { document } = PRESETS.find(({ name }) => name === 'p2p')!;
      const bridges = document.hosts[0]!.bridges!.map((b) => ({ ...b, pmds: 2 }));
      const w = world('p2p', { bridges }, { queues });
      return runOne(w, udp('eth0', 'eth1', { count: 60_000, rate: 30_000_000, flows: 1000 }));
    };
    expect(run(2).received).toBeGreaterThan(1.6 * run(1).received);
  });
});

describe('a flood towards a guest that sends all of it back, through one vhost worker', () => {
  const returned = (vhostPacketWeight: number, queues: number): number => {
    const w = world('pvp-kernel', { vhostPacketWeight }, { queues });
    // until the bridge has learned where the guest is, frames wait for its upcall handler
    runOne(w, udp('eth0', 'eth0', { count: 1000, rate: 100_000, flows: 1000 }));
    return runOne(w, flood).virtual.framesPerSecond;
  };
  test('is shared fairly where packets end a turn (linux db688c24eada)', () => {
    const [one, four] = [returned(256, 1), returned(256, 4)];
    expect(four).toBeGreaterThan(0.8 * one);
  });
  test('starves what the guest sends where bytes alone do, once more comes than the worker can take', () => {
    expect(returned(0, 4)).toBeLessThan(0.3 * returned(256, 4));
  });
});
