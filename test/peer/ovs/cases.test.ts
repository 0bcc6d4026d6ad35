/**
 * The forwarding cases that were recorded from Open vSwitch 3.1.0, through the doors: each is set up by `ovs-vsctl` and `ovs-ofctl` at
 * Open vSwitch's own daemon and at a topology of ours, and what `ovs-appctl` and `ovs-ofctl` show after each step is compared.
 * What the recordings say themselves is compared in test/unit/machine/ovs/ofproto.
 */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect } from 'vitest';
import { actionList } from '../../unit/machine/ovs/ofproto/case-switch.ts';
import { requirePeer } from '../peers.ts';
import {
  type Answer,
  appctl,
  CLIENTS,
  DAEMONS,
  normalise,
  ofctl,
  type Switch,
  startOurs,
  startReal,
  vsctl,
} from './switches.ts';

interface Case {
  readonly id: string;
  readonly title: string;
  readonly config: {
    readonly bridge: {
      readonly name: string;
      readonly mac: string;
      readonly fail_mode: string;
      readonly set: readonly string[];
    };
    readonly ports: Readonly<
      Record<
        string,
        { readonly ofport: number; readonly settings: readonly string[]; readonly interface: readonly string[] }
      >
    >;
    readonly flows?: readonly string[];
    readonly groups?: readonly string[];
    readonly 'ovs-vsctl extra'?: readonly string[];
  };
  readonly results: readonly {
    readonly step: string;
    readonly in_port?: string;
    readonly frame?: string;
    readonly ms?: number;
  }[];
}
const { cases } = JSON.parse(readFileSync(new URL('../../vectors/ovs/cases.json', import.meta.url), 'utf8')) as {
  readonly cases: readonly Case[];
};

/** A hash decides which bucket of a select group a frame goes to: ports that stand for each other then. */
const BY_HASH = new Map([['group-03', /\b(p|port +)[23]\b/g]]);

const peer = requirePeer(...CLIENTS, ...DAEMONS);
type Warp = (to: Switch, ms: number) => Promise<void>;
const words = (line: string): string[] => line.match(/"[^"]*"|\S+/g)?.map((w) => w.replaceAll('"', '')) ?? [];

async function setUp(to: Switch, { config }: Case): Promise<void> {
  const { bridge, ports } = config;
  const args = ['add-br', 'br0', '--', 'set', 'Bridge', 'br0', `other_config:hwaddr=${bridge.mac}`];
  args.push(`fail_mode=${bridge.fail_mode}`, 'protocols=OpenFlow10,OpenFlow13,OpenFlow15', ...bridge.set);
  for (const [name, port] of Object.entries(ports)) {
    args.push('--', 'add-port', 'br0', name, ...port.settings);
    args.push('--', 'set', 'Interface', name, 'type=dummy', `ofport_request=${port.ofport}`, ...port.interface);
  }
  await good(to, vsctl, args);
  const extra = config['ovs-vsctl extra'] ?? [];
  if (extra.length > 0) {
    const first = extra.flatMap((line) => ['--', ...words(line)]);
    // here, an interface without a type is a device of the host
    const added = extra
      .map(words)
      .flatMap(([verb, , ...rest]) =>
        verb === 'add-bond' ? rest.slice(1, 3) : verb === 'add-port' && rest[1] === undefined ? rest.slice(0, 1) : [],
      );
    const dummies = added.flatMap((name) => ['--', 'set', 'Interface', name, 'type=dummy']);
    // numbers are given in the order of a hash, too, where nobody asks for one
    const patched = extra.some((line) => line.startsWith('add-port br1 pb'));
    const numbers = patched ? ['--', 'set', 'Interface', 'pb', 'ofport_request=1'] : [];
    await good(to, vsctl, [...first, ...dummies, ...numbers]);
  }
  // which of two members carries first is a hash's choice
  if (extra.some((line) => line.startsWith('add-bond')))
    await good(to, appctl, ['bond/set-active-member', 'bond0', 'b1']);
  for (const group of config.groups ?? []) await good(to, ofctl, ['-O', 'OpenFlow15', 'add-group', 'BRIDGE', group]);
  for (const flow of config.flows ?? []) await good(to, ofctl, ['-O', 'OpenFlow15', 'add-flow', 'BRIDGE', flow]);
}
async function good(to: Switch, client: typeof vsctl, args: readonly string[]): Promise<Answer> {
  const answer = await client(to, ...args);
  if (answer.status !== 0) throw new Error(`${args.join(' ')}: ${answer.stderr}`);
  return answer;
}

/** One step at one switch: what is seen after it. */
async function take(to: Switch, step: Case['results'][number], warp: Warp): Promise<string> {
  const show = async (answer: Promise<Answer>): Promise<string> => {
    const { status, stdout, stderr } = await answer;
    return `${status}\n${stdout}${stderr}`;
  };
  const [program, ...rest] = words(step.step);
  switch (program) {
    case 'trace':
      return await show(appctl(to, 'ofproto/trace', '--names', 'br0', `in_port=${step.in_port}`, step.frame!));
    case 'receive': {
      await good(to, appctl, ['revalidator/purge']);
      await receive(to, step);
      return (await show(appctl(to, 'dpctl/dump-flows', '--names'))) + (await show(counters(to)));
    }
    case 'fdb/show':
      return await show(appctl(to, 'fdb/show', 'br0'));
    case 'dpif/dump-flows':
      return await show(appctl(to, 'dpif/dump-flows', '--names', 'br0'));
    case 'dump-flows':
      return await show(ofctl(to, '-O', 'OpenFlow15', 'dump-flows', 'BRIDGE'));
    case 'ovs-appctl':
      // counts everything since the daemon's start
      if (rest[0] === 'coverage/read-counter') return '';
      return await show(appctl(to, ...rest));
    case 'ovs-vsctl':
      // written every five seconds; and a dummy device counts other things
      return rest.at(-1) === 'statistics' ? '' : await show(vsctl(to, ...rest));
    case 'ovs-ofctl':
      return await show(ofctl(to, ...rest.map((word) => (word === 'br0' ? 'BRIDGE' : word))));
    case 'advance':
      await warp(to, step.ms!);
      return '';
    default:
      return await show(counters(to));
  }
}
async function receive(to: Switch, { in_port, frame }: Case['results'][number]): Promise<void> {
  await good(to, appctl, ['netdev-dummy/receive', in_port === 'LOCAL' ? 'br0' : in_port!, frame!]);
}
const counters = (to: Switch): Promise<Answer> => ofctl(to, '-O', 'OpenFlow13', 'dump-ports', 'BRIDGE');

/**
 * What each output of a list of datapath actions sends: the order of a flood is a hash's, and so is whether a tag is taken off and
 * put on again between two of its ports.
 */
function outputs(list: string, tag: string | null): string {
  let tags = tag === null ? [] : [tag];
  const rest: string[] = [];
  const sent: string[] = [];
  for (const action of actionList(list)) {
    if (action.startsWith('push_vlan')) tags = [action, ...tags];
    else if (action === 'pop_vlan') tags = tags.slice(1);
    else if (/^[\w.-]+$/.test(action)) sent.push(`${tags.join('+')}>${action}`);
    else rest.push(action);
  }
  return [...rest, ...sent.sort()].join(' ');
}
/**
 * Ports of a flood come in the order of a hash, identifiers of recirculation and hashes are a run's own. `alike`: ports of which any
 * may be the one.
 */
function comparable(text: string, frame = '', alike: RegExp | undefined): string {
  const tci = frame.slice(24, 28) === '8100' ? Number.parseInt(frame.slice(28, 32), 16) : null;
  const tag = tci === null ? null : `push_vlan(vid=${tci & 0xfff},pcp=${tci >> 13})`;
  return (
    normalise(alike === undefined ? text : text.replace(alike, '$1N'))
      .replace(/recirc(_id)?\((0x[1-9a-f][0-9a-f]*)\)/g, 'recirc$1(N)')
      .replace(/recirc_id=[1-9a-f]\w*/g, 'recirc_id=N')
      .replace(/dp_hash\(0x[0-9a-f]+\/0x[0-9a-f]+\)/g, 'dp_hash(H)')
      // what the userspace datapath knows of a packet and the kernel's does not
      .replace(/packet_type\(ns=0,id=0\),/g, '')
      // and how it hashes: OVS_HASH_ALG_SYM_L4 is the userspace datapath's alone
      .replace(/hash\(sym_l4\(0\)\)/g, 'hash(l4(0))')
      // the kernel shows masked keys: what is wildcarded is 0
      .replace(/,?\b\w+=[^,()]*\/(0x)?0(?=[,)])/g, '')
      .replace(/used:[\d.]+s/g, 'used')
      // ages, to ten seconds: the daemon's clock is not ours
      .replace(
        /^( *\S+ +\d+ +(?:[0-9a-f]{2}:){5}[0-9a-f]{2}) +(\d+)$/gm,
        (_, row: string, age: string) => `${row} ${Math.round(Number(age) / 10)}`,
      )
      .replace(/(actions:|Datapath actions: )(.*)$/gm, (_, head: string, list: string) => head + outputs(list, tag))
      .replace(/\b(drop|errs|frame|over|crc|coll)=(\?|\d+)/g, '$1')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !/^(flow-dump from|-+$)/.test(line))
      .sort()
      .join('\n')
  );
}

describe('forwarding cases through the real clients', () => {
  let real: Switch;
  let ours: Awaited<ReturnType<typeof startOurs>>;

  const warpReal: Warp = async (to, ms) => {
    await good(to, appctl, ['time/warp', String(ms)]);
  };
  const warpOurs: Warp = async (_, ms) => {
    const path = `/v1/topologies/${ours.topology}/clock`;
    const { virtualTimeSeconds } = await ours.server.json<{ virtualTimeSeconds: number }>('GET', path);
    const until = virtualTimeSeconds + ms / 1000;
    await ours.server.json('PUT', path, { until });
    for (;;) {
      const clock = await ours.server.json<{ virtualTimeSeconds: number; state: string }>('GET', path);
      if (clock.virtualTimeSeconds >= until) break;
    }
    await ours.server.json('PUT', path, { state: 'RUNNING' });
  };

  peer.beforeAll(async () => {
    [real, ours] = await Promise.all([startReal(), startOurs()]);
    await good(real, appctl, ['time/stop']);
  }, 60_000);
  afterAll(async () => {
    await real?.stop();
    await ours?.stop();
  });

  for (const each of cases) {
    peer(
      `${each.id}: ${each.title}`,
      async () => {
        try {
          await Promise.all([setUp(real, each), setUp(ours, each)]);
          for (const step of each.results) {
            const alike = BY_HASH.get(each.id);
            const theirs = comparable(await take(real, step, warpReal), step.frame, alike);
            const mine = comparable(await take(ours, step, warpOurs), step.frame, alike);
            expect(mine, JSON.stringify(step).slice(0, 400)).toBe(theirs);
            // its trace of a packet learns, ours has no side effects: both learn from the frame itself
            if (step.step === 'trace' && theirs.includes('-> learned that'))
              for (const to of [real, ours]) await receive(to, step);
          }
        } finally {
          await Promise.all([real, ours].map((to) => vsctl(to, '--if-exists', 'del-br', 'br1', '--', 'del-br', 'br0')));
        }
      },
      60_000,
    );
  }
});
