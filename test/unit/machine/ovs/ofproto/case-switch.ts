/** A switch of the recorded cases, without a world around it: bridges, tables and translation; its datapath keeps what it is asked to execute. */
import { FlowKey } from '../../../../../src/machine/ovs/datapath/flow-key.ts';
import type { OdpAction } from '../../../../../src/machine/ovs/datapath/odp-actions.ts';
import { formatOdpActions } from '../../../../../src/machine/ovs/datapath/odp-actions-text.ts';
import { formatDatapathFlow } from '../../../../../src/machine/ovs/datapath/odp-text.ts';
import type { Translation } from '../../../../../src/machine/ovs/datapath/slow-path.ts';
import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { Flow, W_DP_HASH, W_IN_PORT, W_RECIRC_ID } from '../../../../../src/machine/ovs/flow/flow.ts';
import { Backer } from '../../../../../src/machine/ovs/ofproto/backer.ts';
import { type BundleSettings, TRUNK_OF_ALL } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import { traceCommand } from '../../../../../src/machine/ovs/ofproto/trace-command.ts';

export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** Datapath actions, split at commas that are in no parentheses. */
export function actionList(text: string): string[] {
  const list: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++;
    else if (text[i] === ')') depth--;
    else if (text[i] === ',' && depth === 0) {
      list.push(text.slice(from, i));
      from = i + 1;
    }
  }
  return [...list, text.slice(from)];
}

/** ovs lib/dpif-netdev.c. */
const MAX_RECIRC_DEPTH = 6;

export class CaseSwitch {
  declare readonly backer: Backer;
  now = 1e9;
  /** What `execute` was asked for. */
  readonly executed: { readonly frame: Uint8Array; readonly actions: readonly OdpAction[] }[] = [];
  private nextPort = 1;
  private readonly buffer = new ArrayBuffer(1 << 16);
  private readonly arena = { u8: new Uint8Array(this.buffer), u16: new Uint16Array(this.buffer) };

  constructor(type: 'system' | 'netdev' = 'netdev') {
    this.backer = new Backer({
      name: `${type}@ovs-${type}`,
      type,
      execute: (frame, _key, actions) => {
        this.executed.push({ frame, actions });
      },
      bytesOf: () => this.frame,
    });
  }
  private frame: Uint8Array = new Uint8Array(0);

  addBridge(name: string, mac: Uint8Array, failMode: 'standalone' | 'secure'): Ofproto {
    const bridge = this.backer.addBridge({ name, mac, place: 0 });
    bridge.setFailMode(failMode, this.now);
    this.addPort(bridge, name, OFPP_LOCAL, 'internal');
    return bridge;
  }
  /** An interface with a Port of its own, unless `alone` is false. */
  addPort(
    bridge: Ofproto,
    name: string,
    number: number,
    type: string,
    options: { readonly peer?: string; readonly settings?: Partial<BundleSettings>; readonly alone?: boolean } = {},
  ): void {
    const dpPort = type === 'patch' ? null : number === OFPP_LOCAL ? 100 + this.nextPort++ : this.nextPort++;
    const mac = Uint8Array.of(0xaa, 0x55, 0xaa, 0x55, 0, this.nextPort);
    bridge.addPort({ name, number, dpPort, type, mac, peer: options.peer ?? null }, this.now);
    if (options.alone !== false)
      bridge.setBundle({ ...TRUNK_OF_ALL, ...options.settings, name, ports: [number] }, this.now);
  }

  keyOf(frame: Uint8Array, port: string): Int32Array {
    this.arena.u8.set(frame, 2048);
    const key = new FlowKey(this.arena);
    key.extract(2048, frame.length, this.dpPort(port));
    return key.words.slice();
  }
  private dpPort(name: string): number {
    for (const bridge of this.backer.bridges.values()) {
      const port = bridge.portByName(name === 'LOCAL' ? 'br0' : name);
      if (port?.dpPort != null) return port.dpPort;
    }
    throw new Error(`no port ${name}`);
  }
  readonly portName = (dpPort: number): string | null => this.backer.portOf(dpPort)?.name ?? null;

  /** A frame that no flow matches: the flows that it brings, as `dpctl/dump-flows` shows them. It comes back with `hash` where it recirculates. */
  receive(frame: Uint8Array, port: string, hash = 0): { readonly flows: string[]; readonly first: Translation } {
    this.frame = frame;
    const flows: string[] = [];
    const pending: Int32Array[] = [this.keyOf(frame, port)];
    let first: Translation | null = null;
    for (let key = pending.shift(); key !== undefined; key = pending.shift()) {
      const out = this.backer.upcall({ key, packet: 0, length: frame.length }, this.now, 0);
      if (out === null) throw new Error('the port is no more');
      first ??= out;
      flows.push(
        formatDatapathFlow(
          { id: 1, key, mask: out.mask, actions: out.actions, packets: 0, bytes: 0, used: -1, tcpFlags: 0 },
          this.now,
          { portName: this.portName },
        ),
      );
      for (const action of out.actions) {
        if (action.type === 'controller')
          this.backer.controller({ key, packet: 0, length: frame.length }, action.cookie, this.now, 0);
        if (action.type !== 'recirc' || flows.length > MAX_RECIRC_DEPTH) continue;
        const again = key.slice();
        again[W_RECIRC_ID] = action.id;
        again[W_DP_HASH] = hash | 0;
        pending.push(again);
      }
    }
    return { flows, first: first! };
  }
  trace(args: readonly string[]): string {
    return traceCommand([this.backer], args, false, this.now);
  }
  packetOut(
    bridge: Ofproto,
    frame: Uint8Array,
    inPort: number,
    actions: Parameters<Ofproto['packetOut']>[0]['actions'],
  ): void {
    const flow = new Flow();
    flow.w[W_IN_PORT] = inPort | 0;
    bridge.packetOut({ frame, flow, actions }, this.now, 0);
  }
  actionsText(actions: readonly OdpAction[]): string {
    return formatOdpActions(actions, this.portName);
  }
}
