/** Our bridge of a case, without a world around it: its tables and its translation. */

import { Arena } from '../../src/machine/memory/arena.ts';
import { FlowKey } from '../../src/machine/ovs/datapath/flow-key.ts';
import { formatOdpActions } from '../../src/machine/ovs/datapath/odp-actions-text.ts';
import { OFPP_LOCAL } from '../../src/machine/ovs/flow/actions.ts';
import { FLOW_WORDS, Flow } from '../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../src/machine/ovs/flow/match.ts';
import { parseFlow } from '../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../src/machine/ovs/flow/text/group-text.ts';
import { formatMatch } from '../../src/machine/ovs/flow/text/match-text.ts';
import { decodeInstructionList, encodeInstructionList } from '../../src/machine/ovs/flow/wire/instructions.ts';
import { Backer } from '../../src/machine/ovs/ofproto/backer.ts';
import { TRUNK_OF_ALL, type VlanMode } from '../../src/machine/ovs/ofproto/bundle.ts';
import type { MirrorSettings } from '../../src/machine/ovs/ofproto/mirrors.ts';
import type { Ofproto } from '../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import { traceCommand } from '../../src/machine/ovs/ofproto/trace-command.ts';
import { XlateCache } from '../../src/machine/ovs/ofproto/xlate/cache.ts';
import { translate } from '../../src/machine/ovs/ofproto/xlate/xlate.ts';
import type { CompareCase } from './ovs-compare-cases.ts';

/** OpenFlow 1.5. */
const OFP15 = 6;
/** Datapath numbers: as the dummy datapath gives them. */
const LOCAL_DP_PORT = 100;
const NS_PER_S = 1_000_000_000;

export interface Answer {
  /** Terms without `recirc_id=0,eth`. */
  readonly megaflow: string;
  readonly actions: string;
}

export class OurSwitch {
  declare readonly bridge: Ofproto;
  /** Flows that ours does not take, and why. */
  readonly refused: string[] = [];
  private now = NS_PER_S;
  private readonly arena = new Arena(1 << 16);

  constructor(of: CompareCase) {
    const backer = new Backer({
      name: 'dummy@ovs-dummy',
      type: 'netdev',
      execute: () => {},
      bytesOf: () => new Uint8Array(0),
    });
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 0xaa);
    this.bridge = backer.addBridge({ name: 'br0', mac, place: 0 });
    this.bridge.setFailMode('secure');
    const add = (name: string, number: number, dpPort: number, type: string): void => {
      this.bridge.addPort({ name, number, dpPort, type, mac, peer: null }, 0);
    };
    add('br0', OFPP_LOCAL, LOCAL_DP_PORT, 'internal');
    this.bridge.setBundle({ ...TRUNK_OF_ALL, name: 'br0', ports: [OFPP_LOCAL] });
    of.ports.forEach(({ name, settings }, i) => {
      add(name, i + 1, i + 1, 'dummy');
      this.bridge.setBundle({ ...TRUNK_OF_ALL, name, ports: [i + 1], ...columns(settings) });
    });
    if (of.mirror !== null) this.bridge.setMirrors([mirrorOf(of.mirror)]);
    const band = { type: 'drop', rate: 1000, burst: 0, precLevel: 0 } as const;
    this.bridge.tables.meterMod({ command: 'add', meter: 1, flags: 2, bands: [band] }, this.now);
    for (const group of of.groups) this.bridge.tables.groupMod(parseGroup(group), this.now);
    for (const flow of of.flows) {
      try {
        const mod = parseFlow(flow);
        // As ovs-ofctl sends it: some actions are others in OpenFlow 1.5.
        const bytes = encodeInstructionList(mod.actions, OFP15);
        const actions = decodeInstructionList(bytes, 0, bytes.length, OFP15);
        this.bridge.tables.flowMod({ ...mod, actions }, this.now);
      } catch (error) {
        this.refused.push(`${flow}: ${String(error)}`);
      }
    }
  }

  /** `ofproto/trace`: nothing is learned by it. */
  trace(port: number, hex: string): string {
    return traceCommand([this.bridge.backer], ['br0', `in_port=${port}`, hex], false, this.now);
  }

  /** `learns`: as a frame that is there; otherwise as `ofproto/trace` does. */
  send(port: number, hex: string, learns: boolean): Answer {
    const bytes = Uint8Array.from(hex.match(/../g)!, (byte) => Number.parseInt(byte, 16));
    this.arena.u8.set(bytes, 2048);
    const key = new FlowKey(this.arena);
    key.extract(2048, bytes.length, port);
    const flow = new Flow();
    flow.w.set(key.words);
    const cache = new XlateCache();
    const out = translate({
      bridge: this.bridge,
      flow,
      now: this.now,
      contextBits: 0,
      sideEffects: learns,
      cache: learns ? cache : null,
      actions: null,
      inPacketOut: false,
      frozen: null,
      trace: null,
      texts: null,
    });
    if (learns) cache.push(1, bytes.length, this.now, 0);
    const mega = new Match();
    for (let i = 0; i < FLOW_WORDS; i++) {
      mega.mask.w[i] = out.wc.w[i]!;
      mega.flow.w[i] = flow.w[i]! & out.wc.w[i]!;
    }
    return {
      megaflow: formatMatch(mega).replace(/recirc_id=0,?/, ''),
      actions: formatOdpActions(out.actions),
    };
  }
}

function mirrorOf(columns: readonly string[]): MirrorSettings {
  const values = new Map(columns.map((column) => column.split('=') as [string, string]));
  const port = (name: string): string[] => (values.has(name) ? [values.get(name)!.slice(1)] : []);
  const number = (name: string): number[] => (values.has(name) ? [Number(values.get(name))] : []);
  return {
    name: 'm0',
    selectAll: values.get('select-all') === 'true',
    selectSrcPorts: port('select-src-port'),
    selectDstPorts: port('select-dst-port'),
    selectVlans: number('select-vlan'),
    outputPort: port('output-port')[0] ?? null,
    outputVlan: number('output-vlan')[0] ?? null,
    snaplen: 0,
  };
}

/** `ovs-vsctl set Port` in the switch's words. */
function columns(settings: readonly string[]): Record<string, unknown> {
  const values = new Map(
    settings.map((setting) => [setting.slice(0, setting.indexOf('=')), setting.slice(setting.indexOf('=') + 1)]),
  );
  const tag = values.get('tag');
  const trunks = values.get('trunks')?.split(',').map(Number);
  // As vswitchd takes them: with a tag alone it is an access port.
  const mode = values.get('vlan_mode') ?? (tag === undefined ? 'trunk' : 'access');
  return {
    vlanMode: mode as VlanMode,
    vlan: tag === undefined ? -1 : Number(tag),
    trunks: trunks ?? null,
    protected: values.get('protected') === 'true',
    priorityTags: values.get('other_config:priority-tags') === 'true' ? 'if-nonzero' : 'never',
  };
}
