/**
 * Random bridges of ours through the doors, beside Open vSwitch's own daemon: the same clients set both up, the same frames come in at
 * dummy ports. Datapath flows, their actions, and what flows have counted have to be the same.
 */
import { afterAll, expect } from 'vitest';
import { type CompareCase, randomCase } from '../property/ovs-compare-cases.ts';
import { makeBridge, outputs, setUp } from './ovs/compare-switches.ts';
import { appctl, CLIENTS, DAEMONS, ofctl, type Switch, startOurs, startReal } from './ovs/switches.ts';
import { requirePeer } from './peers.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? (full ? 60 : 4));
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const peer = requirePeer(...CLIENTS, ...DAEMONS);
const switches: Switch[] = [];

afterAll(async () => {
  for (const each of switches) await each.stop();
});

async function good(answer: ReturnType<typeof appctl>): Promise<string> {
  const { stderr, stdout } = await answer;
  expect(stderr).toBe('');
  return stdout;
}

/** Bytes of an address or of a number, as far as their texts need it here. */
function bytesOf(text: string): number[] {
  if (text.includes('.')) return text.split('.').map(Number);
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(text)) return text.split(':').map((byte) => Number.parseInt(byte, 16));
  if (text.includes(':')) {
    const [left = [], right = []] = text.split('::').map((half) => half.split(':').filter((word) => word !== ''));
    const words = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right];
    return words.map((word) => Number.parseInt(word, 16));
  }
  return [Number(text)];
}

/** Values as the first frame had them, or what their masks leave: the same. */
function masked(key: string): string {
  // Bits of a tag that nothing looked at are written in more than one way.
  const clear = key.replace(/,?(vid|pcp)=\d+\/0x0/g, '');
  return clear.replace(/=([0-9a-fx.:]+)\/([0-9a-fx.:]+)/g, (_, value: string, mask: string) => {
    const bits = bytesOf(mask);
    return `=${bytesOf(value).map((byte, i) => byte & bits[i]!)}/${bits}`;
  });
}

/** Datapath flows without counters, and in no order. */
function datapathFlows(text: string, hex: string): string[] {
  return text
    .split('\n')
    .filter((line) => line.includes('actions:'))
    .map((line) => {
      const [key = '', actions = ''] = line.replace(/packet_type\(ns=0,id=0\),/, '').split(/, packets:.*actions:/);
      const plain = actions.replace(/userspace\(.*?\)\)/g, 'userspace').replace(/\bbr0\b/g, '100');
      return `${masked(key).replace(/recirc_id\((?!0\))[^)]*\)/, 'recirc_id(N)')} -> ${outputs(plain, hex).join(' ; ')}`;
    })
    .sort();
}

/** Flows with what they have counted, and in no order. */
function counted(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line.includes('n_packets='))
    .map((line) => line.replace(/duration=[^,]*, |(idle|hard)_age=\d+, /g, '').trim())
    .sort();
}

peer(
  'datapath flows and counters are the same',
  async () => {
    switches.push(await startReal(), await startOurs());
    for (const each of switches) await makeBridge(each);
    const differences: string[] = [];
    let ended = 0;
    const one = async (of: CompareCase): Promise<void> => {
      const setting = [
        ...of.ports.map(({ name, settings }) => `${name} ${settings.join(' ')}`),
        of.mirror?.join(' ') ?? '',
      ];
      const about = [`seed ${of.seed}`, ...setting, ...of.groups, ...of.flows].join('\n');
      const taken: string[][] = [];
      for (const each of switches) {
        await good(appctl(each, 'fdb/flush', 'br0'));
        await good(appctl(each, 'revalidator/purge'));
        taken.push(await setUp(each, of));
      }
      if (taken[1]!.join() !== taken[0]!.join())
        differences.push(`${about}\nflows taken differ: ${taken[1]!.length} of ${taken[0]!.length}`);
      const [daemon] = switches;
      for (const { port, hex } of of.frames) {
        const seen: string[][] = [];
        for (const each of switches) {
          await good(appctl(each, 'revalidator/purge'));
          // What the frame has taught the switch may make its own flow out of date (a learned flow that looks at more, say): the daemon's
          // threads would drop it before it is shown, or after, as it happens.
          if (each === daemon) await good(appctl(each, 'revalidator/pause'));
          await good(appctl(each, 'netdev-dummy/receive', `p${port}`, hex));
          seen.push(datapathFlows(await good(appctl(each, '--', 'dpctl/dump-flows', '--names')), hex));
          if (each === daemon) await good(appctl(each, 'revalidator/resume'));
        }
        if (seen[0]!.join('\n') !== seen[1]!.join('\n'))
          differences.push(`${about}\np${port} ${hex}\n${seen[0]!.join('\n')}\nOURS:\n${seen[1]!.join('\n')}`);
      }
      const flows: string[] = [];
      for (const each of switches) {
        await good(appctl(each, 'revalidator/purge'));
        flows.push(counted(await good(ofctl(each, '-O', 'OpenFlow15', 'dump-flows', 'BRIDGE'))).join('\n'));
      }
      if (flows[0] !== flows[1]) differences.push(`${about}\n${flows[0]}\nOURS:\n${flows[1]}`);
    };
    for (let i = 0; i < RUNS; i++) {
      const of = randomCase(seed + i);
      try {
        await one(of);
      } catch (error) {
        // Some configurations are too much for the daemon itself: it fails an assertion of its own, and is started anew.
        const [daemon] = switches;
        if ((await appctl(daemon!, 'version')).status === 0) throw new Error(`seed ${of.seed}`, { cause: error });
        ended++;
        await daemon!.stop();
        switches[0] = await startReal();
        await makeBridge(switches[0]);
      }
    }
    expect(ended).toBeLessThan(2 + RUNS / 10);
    if (process.env['RINGSIDE_COMPARE'] !== undefined) console.log(differences.join('\n\n'));
    expect(differences.length, differences.slice(0, 3).join('\n\n')).toBe(0);
  },
  900_000,
);
