/**
 * Two switches for the real clients to talk to: Open vSwitch's own daemons with dummy devices, and a topology of ours. What both are
 * told is the same; what they answer is compared.
 */
import { join } from 'node:path';
import { Ringside } from '../../tools/ringside.ts';
import { Daemons } from './daemons.ts';
import { type Answer, run } from './run.ts';

export { type Answer, run };

/** Programs of Debian's openvswitch packages that a switch needs. */
export const CLIENTS = ['ovs-vsctl', 'ovs-ofctl', 'ovs-appctl'] as const;
/** `openvswitch-switch` links the daemon by its alternatives. */
export const DAEMONS = ['ovsdb-server', 'ovsdb-tool', 'ovs-vswitchd'] as const;

/** A switch, as its clients reach it. */
export interface Switch {
  /** Targets: of the database, of the bridge's OpenFlow, of ovs-vswitchd's unixctl socket. */
  readonly ovsdb: string;
  openflow(bridge: string): string;
  readonly unixctl: string;
  stop(): Promise<void>;
}

export const vsctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run('ovs-vsctl', [`--db=${to.ovsdb}`, '--timeout=15', ...args]);
/** `BRIDGE` among the arguments stands for the target of br0. */
export const ofctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run(
    'ovs-ofctl',
    args.map((a) => (a === 'BRIDGE' ? to.openflow('br0') : a)),
  );
export const appctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run('ovs-appctl', ['-t', to.unixctl, ...args]);

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

/** Open vSwitch's own daemons; every interface is a dummy. */
export function startReal(): Promise<Switch> {
  return Daemons.start(async (daemons) => {
    const socket = await daemons.database(SCHEMA);
    const made = await run('ovs-vsctl', [`--db=unix:${socket}`, '--no-wait', 'init']);
    if (made.status !== 0) throw new Error(made.stderr);
    const unixctl = await daemons.vswitchd(socket);
    return {
      ovsdb: `unix:${socket}`,
      openflow: (bridge) => `unix:${join(daemons.folder, `${bridge}.mgmt`)}`,
      unixctl,
      stop: () => daemons.stop(),
    };
  });
}

interface Endpoint {
  readonly host: string;
  readonly protocol: 'ovsdb' | 'openflow' | 'unixctl';
  readonly bridge?: string;
  readonly target: string;
}
/** A topology of one host, without a bridge unless `document` has one, in a server of its own. */
export async function startOurs(
  document: object = { hosts: [{ name: 'h1', bridges: [] }] },
): Promise<Switch & { readonly server: Ringside; readonly topology: string }> {
  const server = await Ringside.start();
  try {
    const topology = 't1';
    await server.json('PUT', `/v1/topologies/${topology}`, document);
    const { endpoints } = await server.json<{ endpoints: Endpoint[] }>('GET', `/v1/topologies/${topology}`);
    const target = (protocol: Endpoint['protocol']): string => {
      const found = endpoints.find((e) => e.protocol === protocol);
      if (found === undefined) throw new Error(`no endpoint ${protocol}: ${JSON.stringify(endpoints)}`);
      return found.target;
    };
    const unixctl = target('unixctl');
    return {
      ovsdb: target('ovsdb'),
      // as `ovs-ofctl br0` finds it: beside the unixctl socket
      openflow: (bridge) => `unix:${join(unixctl, '..', `${bridge}.mgmt`)}`,
      unixctl,
      server,
      topology,
      stop: () => server.stop(),
    };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** What differs from run to run: times, ages, transaction numbers, addresses that a dummy device makes up, UUIDs, program noise. */
export function normalise(text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z\|\d+\|/g, 'LOG|')
    .replace(/\(xid=0x[0-9a-f]+\)/g, '(xid)')
    .replace(/xid=[0-9a-f]{8}/g, 'xid')
    .replace(/time=[\d.]+ ms/g, 'time')
    .replace(/duration[=:][\d.]+s/g, 'duration')
    .replace(/(idle|hard)_age=\d+/g, '$1_age')
    .replace(/aa:55:aa:55:[0-9a-f]{2}:[0-9a-f]{2}/g, 'MAC')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UUID')
    .replace(/(tcp:127\.0\.0\.1:\d+|unix:[^ :\n"]+)/g, 'TARGET');
}
