/**
 * The classifier beside Open vSwitch's own: random flows of one table, random frames. `ofproto/trace` says which flow a frame meets and
 * which bits of it were looked at; ours has to find the same flow and to have looked at the same bits.
 */
import { afterAll, expect } from 'vitest';
import { Arena } from '../../../src/machine/memory/arena.ts';
import { FlowKey } from '../../../src/machine/ovs/datapath/flow-key.ts';
import {
  FLOW_NW_FRAG_ANY,
  FLOW_NW_FRAG_LATER,
  Flow,
  W_ETH_TYPE,
  W_IN_PORT,
  W_NW,
  W_TP,
} from '../../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../../src/machine/ovs/flow/match.ts';
import { keyValues } from '../../../src/machine/ovs/flow/text/key-values.ts';
import { formatMatch, parseMatch } from '../../../src/machine/ovs/flow/text/match-text.ts';
import { FlowTables } from '../../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import { Dice, randomFrame, randomMatch } from '../../property/ovs-compare-cases.ts';
import { flowMod, output } from '../../unit/machine/ovs/ofproto/tables/mods.ts';
import { requirePeer } from '../peers.ts';
import { deleteFlows } from './compare-switches.ts';
import { appctl, CLIENTS, DAEMONS, run, type Switch, startReal, vsctl } from './switches.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? (full ? 300 : 25));
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const peer = requirePeer(...CLIENTS, ...DAEMONS);
let real: Switch | null = null;

afterAll(async () => {
  await real?.stop();
});

function matchOf(text: string): Match {
  const match = new Match();
  parseMatch(keyValues(text), match, null);
  return match;
}

/** A frame as ofproto has it, from the bytes. */
function flowFrom(hex: string, port: number): Flow {
  const arena = new Arena(1 << 16);
  const bytes = Uint8Array.from(hex.match(/../g)!, (byte) => Number.parseInt(byte, 16));
  arena.u8.set(bytes, 2048);
  const key = new FlowKey(arena);
  key.extract(2048, bytes.length, port);
  const flow = new Flow();
  flow.w.set(key.words);
  return flow;
}

/** What a translation adds to what the tables looked at (ovs ofproto-dpif-xlate.c xlate_wc_init(), xlate_wc_finish()). */
function lookup(tables: FlowTables, flow: Flow): { priority: number; mask: Match } {
  const wc = new Flow();
  const type = flow.w[W_ETH_TYPE]! & 0xffff;
  const fragment = flow.u8[W_NW * 4 + 3]!;
  wc.w[W_IN_PORT] = -1;
  wc.w[W_ETH_TYPE] = 0xffff;
  if (type === 0x0008 || type === 0xdd86) wc.u8[W_NW * 4 + 3] = 3;
  const seen = new Flow().copyFrom(flow);
  // OFPC_FRAG_NORMAL: fragments have no ports.
  if ((fragment & FLOW_NW_FRAG_ANY) !== 0) seen.w[W_TP] = 0;
  const rule = tables.lookup(0, seen, wc);
  const protocol = flow.u8[W_NW * 4]!;
  if ((type === 0x0008 && protocol === 1) || (type === 0xdd86 && protocol === 58)) wc.w[W_TP]! &= 0xff00ff00;
  // Bits of a tag count only where there is one: the Ethernet type tells.
  if ((flow.w[W_ETH_TYPE]! & 0x00100000) === 0) wc.w[W_ETH_TYPE]! &= 0xffff;
  else if (wc.w[W_ETH_TYPE]! >>> 16 !== 0) wc.w[W_ETH_TYPE]! |= 0x00100000;
  if ((fragment & FLOW_NW_FRAG_LATER) !== 0) wc.w[W_TP] = 0;
  const mask = new Match();
  mask.mask.w.set(wc.w.subarray(0, 42));
  for (let i = 0; i < 42; i++) mask.flow.w[i] = flow.w[i]! & wc.w[i]!;
  return { priority: rule === null ? -1 : rule.priority, mask };
}

peer(
  'the same flow is found, the same bits are looked at',
  async () => {
    real = await startReal();
    const port = (n: number): string[] => [
      '--',
      'add-port',
      'br0',
      `p${n}`,
      '--',
      'set',
      'Interface',
      `p${n}`,
      'type=dummy',
      `ofport_request=${n}`,
    ];
    const made = await vsctl(
      real,
      'add-br',
      'br0',
      '--',
      'set',
      'Bridge',
      'br0',
      'fail_mode=secure',
      'protocols=OpenFlow10,OpenFlow15',
      ...[1, 2, 3, 4].flatMap(port),
    );
    expect(made.stderr).toBe('');
    let compared = 0;
    for (let i = 0; i < RUNS; i++) {
      const dice = new Dice(seed + i);
      await deleteFlows(real);
      const tables = new FlowTables();
      const flows: string[] = [];
      const matches: string[] = [];
      // Each priority once: which of two flows of one priority is found is left open.
      const priorities = Array.from({ length: 40 }, (_, n) => n + 1);
      const n = 2 + dice.below(20);
      for (let at = 0; at < n; at++) {
        const match = randomMatch(dice, 0).text.join(',');
        if (match.includes('0x05ff')) continue;
        const priority = priorities.splice(dice.below(priorities.length), 1)[0]!;
        matches.push(match);
        flows.push(`priority=${priority}${match === '' ? '' : `,${match}`},actions=output:${1 + dice.below(4)}`);
        tables.flowMod(flowMod({ priority, match: matchOf(match), actions: [output(1)] }), 0);
      }
      const added = await run(
        'ovs-ofctl',
        ['-O', 'OpenFlow15', 'add-flows', real.openflow('br0'), '-'],
        20,
        flows.join('\n'),
      );
      expect(added.stderr, flows.join('\n')).toBe('');
      for (let frame = 0; frame < 5; frame++) {
        const hex = randomFrame(dice);
        const inPort = 1 + dice.below(4);
        const ours = lookup(tables, flowFrom(hex, inPort));
        const said = `${ours.priority}: ${formatMatch(ours.mask)}`;
        const trace = (await appctl(real, 'ofproto/trace', 'br0', `in_port=${inPort}`, hex)).stdout;
        // Before the packet's type stand the fields of a tracked connection.
        const megaflow = /^Megaflow: recirc_id=0,(.*)$/m.exec(trace)?.[1]?.replace(/\beth\b,?/, '');
        const theirs = `${/^ 0\. (?:.*, )?priority (\d+)/m.exec(trace)?.[1] ?? -1}: ${megaflow}`;
        expect(said, `seed ${seed + i}\n${flows.join('\n')}\n${trace}`).toBe(theirs);
        compared++;
      }
    }
    expect(compared).toBe(RUNS * 5);
  },
  600_000,
);
