/** Switches of random cases, set up by their clients, and what is compared of datapath actions. */
import { expect } from 'vitest';
import type { CompareCase } from '../../property/ovs-compare-cases.ts';
import { actionList } from '../../unit/machine/ovs/ofproto/case-switch.ts';
import { appctl, ofctl, run, type Switch, vsctl } from './switches.ts';

/** A bridge of four dummy ports, and a meter. */
export async function makeBridge(to: Switch): Promise<void> {
  const ports = [1, 2, 3, 4].flatMap((n) => [
    ...['--', 'add-port', 'br0', `p${n}`],
    ...['--', 'set', 'Interface', `p${n}`, 'type=dummy', `ofport_request=${n}`],
  ]);
  const columns = [
    'datapath_type=netdev',
    'fail_mode=secure',
    'other_config:hwaddr=02:00:00:00:00:aa',
    'protocols=OpenFlow10,OpenFlow15',
  ];
  const made = await vsctl(to, 'add-br', 'br0', '--', 'set', 'Bridge', 'br0', ...columns, ...ports);
  expect(made.stderr).toBe('');
  const meter = await ofctl(to, '-O', 'OpenFlow15', 'add-meter', 'BRIDGE', 'meter=1,pktps,bands=type=drop,rate=1000');
  expect(meter.stderr).toBe('');
}

/** Wins over all flows of a case, and looks at a bit that none of them looks at. */
const MARKER = 'table=0,priority=65535,pkt_mark=0/0x80000000,actions=drop';
const TRIES = 1000;

/** Until a trace does (or does not) look at what the marker looks at. */
async function untilMarked(to: Switch, wanted: boolean): Promise<void> {
  for (let tries = 0; tries < TRIES; tries++) {
    const { stdout } = await appctl(to, 'ofproto/trace', 'br0', 'in_port=1');
    if (/^Megaflow:.*pkt_mark/m.test(stdout) === wanted) return;
  }
  throw new Error(`deleted flows are ${wanted ? 'not yet' : 'still'} looked at`);
}

/**
 * Deletes all flows, and waits until nothing is left of them. The daemon takes a deleted flow out of its classifier when all threads
 * have come to rest once (ofproto/ofproto.c remove_rules_postponed()): on a busy machine that takes its time. Until then the masks of
 * such flows are looked at. And where a subtable goes the last one takes its place before they are sorted by priority (lib/pvector.c
 * pvector_remove()): where new flows were there by then, the order of their subtables of one priority, and so what is looked at before
 * a flow is found, stays another one for good.
 */
export async function deleteFlows(to: Switch): Promise<void> {
  const added = await ofctl(to, '-O', 'OpenFlow15', 'add-flow', 'BRIDGE', MARKER);
  expect(added.stderr).toBe('');
  await untilMarked(to, true);
  const deleted = await ofctl(to, '-O', 'OpenFlow15', 'del-flows', 'BRIDGE');
  expect(deleted.stderr).toBe('');
  // Flows are taken out in the order in which they were deleted, those of one request together.
  await untilMarked(to, false);
}

/** Empties the switch's bridge and sets the case up; returns the flows that it took. */
export async function setUp(to: Switch, of: CompareCase): Promise<string[]> {
  const columns = ['tag', 'trunks', 'vlan_mode', 'other_config'];
  const ports = of.ports.flatMap(({ name, settings }) => [
    ...['--', 'clear', 'Port', name, ...columns],
    ...['--', 'set', 'Port', name, 'protected=false', ...settings],
  ]);
  const ids = ['p1', 'p2', 'p4'].flatMap((name) => ['--', `--id=@${name}`, 'get', 'Port', name]);
  const mirror = [...ids, '--', '--id=@m', 'create', 'Mirror', 'name=m0', ...(of.mirror ?? [])];
  const mirrors = of.mirror === null ? [] : [...mirror, '--', 'set', 'Bridge', 'br0', 'mirrors=@m'];
  const said = [await vsctl(to, 'clear', 'Bridge', 'br0', 'mirrors', ...ports, ...mirrors)];
  said.push(await ofctl(to, '-O', 'OpenFlow15', 'del-groups', 'BRIDGE'));
  await deleteFlows(to);
  for (const group of of.groups) said.push(await ofctl(to, '-O', 'OpenFlow15', 'add-group', 'BRIDGE', group));
  expect(said.map(({ stderr }) => stderr).join('')).toBe('');
  const all = await run(
    'ovs-ofctl',
    ['-O', 'OpenFlow15', 'add-flows', to.openflow('br0'), '-'],
    20,
    of.flows.join('\n'),
  );
  if (all.status === 0 && all.stderr === '') return [...of.flows];
  await deleteFlows(to);
  const taken: string[] = [];
  for (const flow of of.flows) {
    const { status, stderr } = await ofctl(to, '-O', 'OpenFlow15', 'add-flow', 'BRIDGE', flow);
    if (status === 0 && stderr === '') taken.push(flow);
  }
  return taken;
}

/** Each output with the tags that the frame has there, and what else was done to it; sorted. */
export function outputs(actions: string, hex: string): string[] {
  const tags: string[] = [];
  if (hex.slice(24, 28) === '8100') {
    const tci = Number.parseInt(hex.slice(28, 32), 16);
    tags.push(`vid=${tci & 0xfff},pcp=${tci >> 13}`);
  }
  const done: string[] = [];
  const found: string[] = [];
  for (const action of actionList(actions)) {
    if (action.startsWith('push_vlan(')) tags.push(action.slice(10, -1));
    else if (action === 'pop_vlan') tags.pop();
    else if (/^(set|ct|hash|trunc|push|pop)/.test(action)) done.push(action);
    else {
      const inner = action
        .replace(/recirc_id=\d+|recirc\(0x[0-9a-f]+\)/g, 'recirc')
        // Lists inside: both ways of check_pkt_len, and clone.
        .replace(/\b(gt|le|clone)\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)/g, (_, name: string, list: string) => {
          return `${name}(${outputs(list, hex).join(' ; ')})`;
        });
      found.push(`${done.join(' ')} [${tags.join(' ')}] ${inner}`);
    }
  }
  return found.sort();
}
