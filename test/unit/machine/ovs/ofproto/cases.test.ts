/**
 * The forwarding cases that were recorded from Open vSwitch 3.1.0, on the translation alone: traces, datapath flows, MAC tables and
 * dumps in its words. Orders of floods, recirculation ids and times are no part of them; frames on wires are compared elsewhere.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { Match } from '../../../../../src/machine/ovs/flow/match.ts';
import { parseActions } from '../../../../../src/machine/ovs/flow/text/action-text.ts';
import { formatFlow, parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../../../../src/machine/ovs/flow/text/group-text.ts';
import { type BundleSettings, TRUNK_OF_ALL, type VlanMode } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import { macText } from '../../../../../src/machine/ovs/ofproto/mac-table.ts';
import type { MirrorSettings } from '../../../../../src/machine/ovs/ofproto/mirrors.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import { OFPUTIL_PC_NO_FLOOD, OFPUTIL_PC_PORT_DOWN } from '../../../../../src/machine/ovs/ofproto/port.ts';
import { actionList, bytesOf, CaseSwitch } from './case-switch.ts';

interface Step {
  readonly step: string;
  readonly in_port?: string;
  readonly frame?: string;
  readonly ms?: number;
  readonly tables?: readonly string[];
  readonly final_flow?: string;
  readonly megaflow?: string;
  readonly datapath_actions?: string;
  readonly lines?: readonly string[];
  readonly frames_out?: Readonly<Record<string, readonly string[]>>;
  readonly datapath_flows?: readonly string[];
  readonly rows?: readonly string[];
  readonly stdout?: string;
}
interface Case {
  readonly id: string;
  readonly title: string;
  readonly config: {
    readonly bridge: {
      readonly name: string;
      readonly mac: string;
      readonly fail_mode: 'standalone' | 'secure';
      readonly set: readonly string[];
    };
    readonly ports: Readonly<Record<string, { readonly ofport: number; readonly settings: readonly string[] }>>;
    readonly flows?: readonly string[];
    readonly groups?: readonly string[];
    readonly 'ovs-vsctl extra'?: readonly string[];
  };
  readonly results: readonly Step[];
}
const { cases } = JSON.parse(readFileSync(new URL('../../../../vectors/ovs/cases.json', import.meta.url), 'utf8')) as {
  readonly cases: readonly Case[];
};

/** What the datapath's hash comes to, where a case has one. */
const HASH = 0x2b974642;

/** Port columns as `ovs-vsctl set` writes them. */
function columns(settings: readonly string[]): Partial<BundleSettings> {
  const values = new Map(settings.map((text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]));
  const tag = values.get('tag');
  return {
    vlanMode: (values.get('vlan_mode') ?? (tag === undefined ? 'trunk' : 'access')) as VlanMode,
    vlan: tag === undefined ? -1 : Number(tag),
    trunks: values.get('trunks')?.split(',').map(Number) ?? null,
    protected: values.get('protected') === 'true',
  };
}

function setUp(of: Case): { readonly sw: CaseSwitch; readonly bridge: Ofproto } {
  const { bridge: row, ports, flows, groups } = of.config;
  const sw = new CaseSwitch();
  const bridge = sw.addBridge(row.name, bytesOf(row.mac.replaceAll(':', '')), row.fail_mode);
  for (const setting of row.set) {
    const [key, value] = setting.split('=') as [string, string];
    const aging = key === 'other_config:mac-aging-time' ? Number(value) : 300;
    bridge.macs.configure(aging, 8192, key === 'flood_vlans' ? value.split(',').map(Number) : [], sw.now);
  }
  for (const [name, { ofport, settings }] of Object.entries(ports))
    sw.addPort(bridge, name, ofport, 'dummy', { settings: columns(settings) });
  extras(sw, bridge, of.config['ovs-vsctl extra'] ?? []);
  for (const group of groups ?? []) bridge.tables.groupMod(parseGroup(group), sw.now);
  // Flows were added by OpenFlow 1.5, which knows set_field alone.
  for (const flow of flows ?? []) {
    const mod = parseFlow(flow);
    const actions = mod.actions.map((action) =>
      action.type === 'set_field' && action.spelling === 'mod' ? { ...action, spelling: 'set_field' as const } : action,
    );
    bridge.tables.flowMod({ ...mod, actions }, sw.now);
  }
  return { sw, bridge };
}
function extras(sw: CaseSwitch, bridge: Ofproto, commands: readonly string[]): void {
  for (const command of commands) {
    const mirror = /create Mirror (.*)$/.exec(command)?.[1];
    if (mirror !== undefined) bridge.setMirrors([mirrorOf(mirror)], sw.now);
    else if (command.startsWith('add-br ')) sw.addBridge('br1', Uint8Array.of(2, 0, 0, 0, 0, 0xbb), 'standalone');
    else if (command.startsWith('add-bond ')) {
      for (const [name, number] of [
        ['b1', 11],
        ['b2', 12],
      ] as const)
        sw.addPort(bridge, name, number, 'dummy', { alone: false });
      const bond = { mode: 'active-backup', primary: null, upDelay: 0, downDelay: 0 } as const;
      bridge.setBundle({ ...TRUNK_OF_ALL, name: 'bond0', ports: [11, 12], bond }, sw.now);
    } else if (command.startsWith('add-port ')) {
      const [, , to, name] = /add-(port) (\S+) (\S+)/.exec(command)!;
      const at = sw.backer.bridges.get(to!)!;
      const peer = /options:peer=(\S+)/.exec(command)?.[1];
      const number = at.freeNumber(0);
      sw.addPort(at, name!, number, peer === undefined ? 'dummy' : 'patch', peer === undefined ? {} : { peer });
    }
  }
}
function mirrorOf(text: string): MirrorSettings {
  const value = (key: string): string | undefined => new RegExp(`${key}=@?(\\S+)`).exec(text)?.[1];
  const ports = (key: string): string[] => value(key)?.split(',') ?? [];
  return {
    name: 'm0',
    selectAll: value('select-all') === 'true',
    selectSrcPorts: ports('select-src-port'),
    selectDstPorts: ports('select-dst-port'),
    selectVlans: ports('select-vlan').map(Number),
    outputPort: value('output-port') ?? null,
    outputVlan: null,
    snaplen: 0,
  };
}

const anyId = (text: string): string => text.replace(/recirc\(0x\w+\)|recirc_id=\w+(?=,rule)/g, 'recirc');
/** Each output with what was rewritten before it, the order of outputs aside. `tag`: the frame's own, which may be pushed back. */
function outputs(text: string, frame: string): string[] {
  const tci = frame.slice(24, 28) === '8100' ? Number.parseInt(frame.slice(28, 32), 16) : null;
  const own = tci === null ? '' : `push_vlan(vid=${tci & 0xfff},pcp=${tci >> 13})`;
  const state: string[] = [];
  const found: string[] = [];
  for (const action of actionList(anyId(text))) {
    const top = state.at(-1) ?? '';
    if (/^(?:p\d|q\d|b\d|br\d)$/.test(action)) found.push(`${state.join(' ')}>${action}`);
    else if (action === 'pop_vlan' && top.startsWith('push_vlan')) state.pop();
    else if (action === own && top === 'pop_vlan') state.pop();
    else if (action.startsWith('userspace') || action === 'drop' || action.startsWith('recirc'))
      found.push(`${state.join(' ')}>${action}`);
    else state.push(action);
  }
  return found.sort();
}
/** A datapath flow in two halves. */
function flowHalves(line: string, frame: string): { readonly key: string; readonly actions: string[] } {
  const at = line.indexOf(', actions:');
  const key = line
    .slice(0, at)
    .replace(/recirc_id\(0x\w+\)/, 'recirc_id(N)')
    .replace(/dp_hash\(0x\w+/, 'dp_hash(H');
  return { key, actions: outputs(line.slice(at + 10), frame) };
}

function runTrace(sw: CaseSwitch, step: Step): void {
  const frame = step.frame!;
  const text = sw.trace(['br0', '--names', `in_port=${step.in_port}`, frame]);
  const lines = text.trimEnd().split('\n');
  const tail = (name: string): string => lines.find((line) => line.startsWith(`${name}: `))!.slice(name.length + 2);
  expect(tail('Megaflow')).toBe(step.megaflow);
  expect(outputs(tail('Datapath actions'), frame)).toEqual(outputs(step.datapath_actions!, frame));
  expect(tail('Final flow')).toBe(step.final_flow);
  const body = lines.slice(
    2,
    lines.findIndex((line) => line.startsWith('Final flow')),
  );
  const said = (all: readonly string[]): string[] => all.filter((line) => line !== '' && !line.startsWith('bridge('));
  expect(said(body)).toEqual(said(step.lines!));
  // The recorded switch learns from traces, ours does not: a frame makes up for it.
  sw.receive(bytesOf(frame), step.in_port!, HASH);
}
function runReceive(sw: CaseSwitch, step: Step): void {
  const frame = step.frame!;
  const { flows } = sw.receive(bytesOf(frame), step.in_port!, HASH);
  const sorted = (all: readonly string[]) =>
    all.map((line) => flowHalves(line, frame)).sort((a, b) => (a.key < b.key ? -1 : 1));
  expect(sorted(flows)).toEqual(sorted(step.datapath_flows!));
}
function runFdb(sw: CaseSwitch, bridge: Ofproto, step: Step): void {
  const rows = Array.from(bridge.macs.entries(sw.now), (entry) => {
    const port = entry.bundle.ports[0]!.number;
    return `${port === OFPP_LOCAL ? 'LOCAL' : port} ${entry.vlan} ${macText(entry.mac)}`;
  });
  // Seconds between the recorded steps are the recording's.
  expect(rows).toEqual(step.rows!.slice(1).map((row) => row.slice(0, row.lastIndexOf(' '))));
}
function runDump(sw: CaseSwitch, bridge: Ofproto, step: Step): void {
  const rules = bridge.tables.collect({
    table: 0xff,
    match: new Match(),
    priority: null,
    cookie: 0n,
    cookieMask: 0n,
    outPort: 0xffffffff,
    outGroup: 0xffffffff,
  });
  const lines = rules.map((rule) =>
    formatFlow(
      { ...rule, match: rule.match },
      { duration: sw.now - rule.created, packets: rule.packets, bytes: rule.bytes, idleAge: null, hardAge: null },
    )
      .trim()
      .replace(/duration=[^,]*/, 'duration=T'),
  );
  expect(lines.sort()).toEqual([...step.rows!].sort());
}

/** Commands of the cases; false: one that is not about translation. */
function runCommand(sw: CaseSwitch, bridge: Ofproto, step: Step, results: readonly Step[]): boolean {
  const command = step.step;
  const port = /mod-port br0 (\S+) (\S+)/.exec(command);
  if (port !== null) {
    const { number } = bridge.portByName(port[1]!)!;
    if (port[2] === 'down') bridge.modPort(number, OFPUTIL_PC_PORT_DOWN, OFPUTIL_PC_PORT_DOWN, sw.now);
    // OpenFlow 1.5 has no such flag: nothing changes.
    else if (command.includes('OpenFlow10')) bridge.modPort(number, OFPUTIL_PC_NO_FLOOD, OFPUTIL_PC_NO_FLOOD, sw.now);
    return true;
  }
  const flow = /(--strict )?(add-flow|mod-flows|del-flows) br0 (\S+)/.exec(command);
  if (flow !== null) {
    const strict = flow[1] === undefined ? '' : '_strict';
    const kind = flow[2] === 'add-flow' ? 'add' : flow[2] === 'mod-flows' ? `modify${strict}` : `delete${strict}`;
    const mod = parseFlow(flow[3]!, kind as 'add');
    // OpenFlow 1.0 resets counters where it replaces a flow.
    bridge.tables.flowMod(command.includes('OpenFlow10') ? { ...mod, flags: mod.flags | 32 } : mod, sw.now);
    return true;
  }
  if (command.startsWith('ovs-appctl netdev-dummy/receive')) {
    const [, name, hex] = /receive (\S+) (\S+)/.exec(command)!;
    sw.receive(bytesOf(hex!), name!);
    return true;
  }
  if (command.includes('fdb/flush')) {
    bridge.macs.flush();
    return true;
  }
  if (command.includes('set-fail-mode')) {
    bridge.setFailMode('secure', sw.now);
    return true;
  }
  if (command.includes('packet-out')) {
    const [, hex, actions] = /packet=(\S+) actions=(\S+)/.exec(command)!;
    sw.packetOut(bridge, bytesOf(hex!), 1, parseActions(actions!));
    const sent = sw.executed.pop()!;
    const expected = results.find(({ frames_out: out }) => out !== undefined)!.frames_out!;
    const ports = Object.entries(expected).flatMap(([name, frames]) =>
      frames.map(() => (name === 'LOCAL' ? 'br0' : name)),
    );
    const text = sw.actionsText(sent.actions);
    expect(text.startsWith('set(eth(dst=00:00:00:00:00:bb)),')).toBe(true);
    expect(actionList(text).slice(1).sort()).toEqual(ports.sort());
    return true;
  }
  return false;
}

describe('recorded forwarding cases', () => {
  test.each(cases)('$id $title', (of) => {
    const { sw, bridge } = setUp(of);
    let checked = 0;
    for (const step of of.results) {
      sw.now += 1e6;
      if (step.step === 'trace') runTrace(sw, step);
      else if (step.step === 'receive') runReceive(sw, step);
      else if (step.step === 'fdb/show') runFdb(sw, bridge, step);
      else if (step.step === 'dump-flows') runDump(sw, bridge, step);
      else if (step.step === 'advance time') {
        sw.now += step.ms! * 1e6;
        sw.backer.run(sw.now);
      } else if (!runCommand(sw, bridge, step, of.results)) continue;
      checked++;
    }
    expect(checked).toBeGreaterThan(0);
  });
});
