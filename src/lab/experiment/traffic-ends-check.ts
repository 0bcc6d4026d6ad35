/**
 * What the ends of a request can do, from the document alone. A world says no to the same requests (traffic.ts), for these reasons and
 * a few more that depend on what is in it at the time; here they are told before anything is built.
 */
import type { SchemaFault } from '../schema-faults.ts';
import type { Guest, GuestNic, Topology } from '../topology.ts';
import type { TrafficRequestBody } from '../traffic-request.ts';

type End =
  | { readonly kind: 'guest'; readonly name: string; readonly guest: Guest; readonly nic: GuestNic }
  /** The wire side of a host's NIC; `linked`: a cable takes its place. */
  | { readonly kind: 'wire'; readonly name: string; readonly linked: boolean }
  | { readonly kind: 'port'; readonly name: string };

export interface Ends {
  /** Without aliases and ports. */
  readonly names: readonly string[];
  find(name: string): End | undefined;
}

/** Ends by name: NICs of guests, NICs of hosts, and what begins with a bridge's name: ports come and go, so they are looked up later. */
export function endsOf({ hosts, links }: Topology): Ends {
  const several = hosts.length > 1;
  const linked = new Set(links.flatMap(({ ends }) => ends.map((end) => `${end.host}/${end.nic}`)));
  const names: string[] = [];
  const ends = new Map<string, End>();
  const bridges: string[] = [];
  for (const host of hosts) {
    const add = (local: string, of: (name: string) => End): void => {
      const name = several ? `${host.name}/${local}` : local;
      names.push(name);
      ends.set(name, of(name));
      // The host may be named where there is only one.
      ends.set(`${host.name}/${local}`, of(name));
    };
    for (const guest of host.guests)
      for (const nic of guest.nics) add(`${guest.name}/${nic.name}`, (name) => ({ kind: 'guest', name, guest, nic }));
    for (const nic of host.nics)
      add(nic.name, (name) => ({ kind: 'wire', name, linked: linked.has(`${host.name}/${nic.name}`) }));
    for (const { name } of host.bridges) bridges.push(`${host.name}/${name}/`, ...(several ? [] : [`${name}/`]));
  }
  return {
    names,
    find: (name) =>
      ends.get(name) ?? (bridges.some((bridge) => name.startsWith(bridge)) ? { kind: 'port', name } : undefined),
  };
}

const fault = (pointer: string, detail: string, expected: string): SchemaFault => ({ pointer, detail, expected });

/** What two ends that there are cannot do; pointers are those of the request's fields. */
export function endFaults(request: TrafficRequestBody, ends: Ends): SchemaFault[] {
  const from = ends.find(request.from);
  const to = ends.find(request.to);
  if (from === undefined || to === undefined) return [];
  return [...standing(from, '/from'), ...standing(to, '/to'), ...together(request, from, to)].slice(0, 1);
}

function* standing(end: End, field: '/from' | '/to'): Generator<SchemaFault> {
  if (end.kind === 'wire' && end.linked)
    yield fault(field, `${end.name} has a link, so it has no wire end`, 'a NIC that no link connects');
  if (end.kind === 'guest' && end.nic.driver === 'none' && field === '/from')
    yield fault(field, `${end.name} has no driver that could send`, 'an end that sends');
  if (end.kind === 'port' && field === '/to')
    yield fault(field, `${end.name} is a bridge port, where frames can only come in`, "a guest's NIC or a NIC");
}

function* together(request: TrafficRequestBody, from: End, to: End): Generator<SchemaFault> {
  const { kind, generator } = request;
  if (from.name === to.name && from.kind !== 'wire')
    yield fault('/to', `from and to are both ${from.name}`, 'two ends');
  if (kind !== 'udp') {
    if (generator !== undefined) yield fault('/generator', `${kind} has no generator`, 'the field to be left out');
    yield* stacks(from, '/from', kind);
    yield* stacks(to, '/to', kind);
    yield* subnet(request, from, to);
    return;
  }
  const ipv4 = (request.family ?? 4) === 4;
  const pair = from.kind === 'guest' && from.guest.app !== 'txonly' && to.kind === 'guest' && to.guest.app === 'stack';
  if (from.kind !== 'guest') {
    if (generator !== undefined)
      yield fault('/generator', `${from.name} has no generators`, 'the field to be left out');
  } else yield* runsOn(request, from);
  if (from.kind === 'guest' && from.guest.app !== 'txonly') yield* stacks(from, '/from', kind);
  if (pair) yield* subnet(request, from, to);
  else if (ipv4) {
    if (to.kind === 'guest' && to.guest.app === 'stack') yield* addressed(to, '/to');
    if (from.kind === 'guest' && from.guest.app !== 'txonly') yield* addressed(from, '/from');
  }
}

function* runsOn({ generator }: TrafficRequestBody, from: End & { kind: 'guest' }): Generator<SchemaFault> {
  const kernel = from.nic.driver === 'virtio-net';
  if (generator === undefined || kernel !== (generator === 'txonly')) return;
  const expected = kernel ? 'socket or pktgen' : 'txonly';
  yield fault('/generator', `${generator} does not run on ${from.name}`, `${expected} for its driver`);
}

function* addressed(end: End & { kind: 'guest' }, field: '/from' | '/to'): Generator<SchemaFault> {
  if (end.nic.addresses.length === 0)
    yield fault(field, `${end.name} has no address`, 'a NIC with addresses in the document');
}

function* stacks(end: End, field: '/from' | '/to', kind: string): Generator<SchemaFault> {
  if (end.kind === 'guest' && end.guest.app === 'stack') return;
  const what = field === '/from' ? 'send' : 'take';
  yield fault(field, `${end.name} cannot ${what} ${kind}`, 'a NIC of a guest with app "stack"');
}

/** Guests have no routes. With IPv6 there are always the link-local addresses. */
function* subnet({ family }: TrafficRequestBody, from: End, to: End): Generator<SchemaFault> {
  if (from.kind !== 'guest' || to.kind !== 'guest') return;
  const [a, b] = [from.nic, to.nic];
  const only6 = a.addresses.length === 0 || b.addresses.length === 0;
  if ((family ?? (only6 && a.addresses6.length > 0 && b.addresses6.length > 0 ? 6 : 4)) === 6) return;
  yield* addressed(from, '/from');
  yield* addressed(to, '/to');
  const [source] = a.addresses;
  const [target] = b.addresses;
  if (source !== undefined && target !== undefined) {
    const mask = source.prefix === 0 ? 0 : (0xffffffff << (32 - source.prefix)) >>> 0;
    if ((source.ip & mask) >>> 0 !== (target.ip & mask) >>> 0)
      yield fault(
        '/to',
        `${to.name} is not in the subnet of ${from.name}`,
        'addresses of one subnet: guests have no routes',
      );
  }
}
