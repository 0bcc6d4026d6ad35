/**
 * A flow: an order of recorded events that has to appear in a run, step by step and with nothing between the steps, each
 * with what it means and with the costs that make up its time. tests check flows (order.test.ts); flow-docs.ts makes pages
 * of them.
 */
import { COSTS, type CostTable, costTable } from '../../src/engine/costs.ts';
import { EAL_PHASES } from '../../src/machine/dpdk/eal.ts';
import { TUN_IOCTL_NAMES } from '../../src/machine/host/tun-ioctls.ts';
import * as carrier from '../../src/machine/vhost/kernel/vhost-net.ts';
import { featureNames } from '../../src/machine/virtio/features.ts';
import { statusNames } from '../../src/machine/virtio/status.ts';
import { KVM_IOCTL_NAMES } from '../../src/machine/wire/kvm.ts';
import { VFIO_IOCTL_NAMES } from '../../src/machine/wire/vfio.ts';
import { VHOST_USER_MESSAGES } from '../../src/machine/wire/vhost-user-messages.ts';
import type { Ringside } from '../tools/ringside.ts';

/** A line of GET /v1/topologies/{t}/events. */
export interface FlowEvent {
  readonly seq: number;
  readonly ns: number;
  readonly event: string;
  readonly place: string;
  readonly context: string;
  readonly frame: number | null;
  /** The kind's own columns. */
  readonly [column: string]: number | string | null | undefined;
}

export interface Step {
  readonly context: string;
  readonly place: string;
  readonly event: string;
  /** What happens, in a few words; left out where the event's own text says it. */
  readonly text?: string;
  /** Columns that have these values. */
  readonly is?: Readonly<Record<string, number>>;
  /** A name for `after`. */
  readonly name?: string;
  /** The time since the step of that name (default: since the previous step of the same context) ... */
  readonly after?: string;
  /** ... is the sum of these entries of the cost table: `name`, `-name`, `name / 2`, `72 * name`. */
  readonly takes?: readonly string[];
}

/** Something that the flow is said to cost, counted in the recording. */
export interface Count {
  readonly text: string;
  readonly of: (e: FlowEvent) => boolean;
  readonly expected: number;
}

export type Action =
  | { readonly traffic: object }
  | { readonly frames: { readonly at: string; readonly frames: readonly string[] } }
  /** PATCH of a resource of the topology. */
  | { readonly patch: string; readonly body: object };

export interface Flow {
  /** Also the page's file name. */
  readonly id: string;
  readonly title: string;
  /** Paragraphs: what it is. */
  readonly about: readonly string[];
  /** Where the run is simpler than the articles or the real thing, or they are simpler than the real thing. */
  readonly notes: readonly string[];
  /** A topology document, and what is done with it. */
  readonly document: object;
  readonly actions: readonly Action[];
  /** The events that the flow speaks of: all of them are steps. */
  readonly scope: (events: readonly FlowEvent[]) => FlowEvent[];
  readonly steps: readonly Step[];
  readonly counts: readonly Count[];
  /** What the counts are counted over, for the page. */
  readonly countedOver?: string;
  /** Frames whose journeys the page shows. */
  readonly journeys: readonly number[];
}

export interface Recording {
  readonly events: readonly FlowEvent[];
  readonly journeys: readonly string[];
}

// ---- running ----------------------------------------------------------------------------------------------------
/** Boots the flow's document, does its actions one after the other, and reads everything that was recorded. */
export async function record(server: Ringside, flow: Flow): Promise<Recording> {
  const topology = `/v1/topologies/${flow.id}`;
  await server.json('PUT', topology, flow.document);
  for (const action of flow.actions) {
    if ('patch' in action) {
      await server.json('PATCH', `${topology}/${action.patch}`, action.body);
      await idle(server, topology);
      continue;
    }
    const [path, body] = 'traffic' in action ? ['traffic', action.traffic] : ['frames', action.frames];
    const { id } = await server.json<{ id: string }>('POST', `${topology}/${path}`, body);
    const run = await server.json<{ state: string }>('GET', `${topology}/traffic/${id}?wait=60s`);
    if (run.state !== 'SUCCEEDED') throw new Error(`${flow.id}: the run ended as ${JSON.stringify(run)}`);
    await idle(server, topology);
  }
  const text = await (await fetch(`${server.url}${topology}/events`)).text();
  const events = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as FlowEvent)
    .sort((a, b) => a.ns - b.ns || a.seq - b.seq);
  const journeys = [];
  for (const frame of flow.journeys) {
    const response = await fetch(`${server.url}${topology}/frames/${frame}`, { headers: { accept: 'text/plain' } });
    journeys.push(await response.text());
  }
  await fetch(`${server.url}${topology}`, { method: 'DELETE' });
  return { events, journeys };
}

/** A run ends with its last delivery; what that still sets off is part of the flow. */
async function idle(server: Ringside, topology: string): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    if ((await server.json<{ idle: boolean }>('GET', `${topology}/clock`)).idle) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${topology} does not come to rest`);
}

// ---- checking ---------------------------------------------------------------------------------------------------
const line = (e: { context: string; place: string; event: string }): string => `${e.context} | ${e.place} | ${e.event}`;

/** The events of the steps, in order; throws where the recording is another. */
export function matchSteps(flow: Flow, events: readonly FlowEvent[]): FlowEvent[] {
  const seen = flow.scope(events);
  for (let i = 0; i < Math.max(seen.length, flow.steps.length); i++) {
    const step = flow.steps[i];
    const event = seen[i];
    const fits =
      step !== undefined &&
      event !== undefined &&
      line(step) === line(event) &&
      Object.entries(step.is ?? {}).every(([column, value]) => event[column] === value);
    if (fits) continue;
    const around = seen.slice(Math.max(0, i - 3), i + 3).map((e) => `  ${line(e)} ${detail(e)}`);
    throw new Error(
      `${flow.id}, step ${i + 1}: expected ${step === undefined ? 'the end' : `${line(step)} ${JSON.stringify(step.is ?? {})}`}` +
        `, recorded ${event === undefined ? 'nothing' : `${line(event)} ${detail(event)}`}; around it:\n${around.join('\n')}`,
    );
  }
  return seen;
}

/** The sum of cost entries in ns. */
export function sumOf(takes: readonly string[], costs: CostTable = costTable({})): number {
  let sum = 0;
  for (const term of takes) {
    const [, sign, factor = '1', name = '', divisor = '1'] =
      /^(-?)(?:(\d+) \* )?([a-z_]+)(?: \/ (\d+))?$/.exec(term) ?? [];
    const cost = costs[name];
    if (cost === undefined) throw new Error(`no cost ${JSON.stringify(term)}`);
    sum += ((sign === '-' ? -1 : 1) * Number(factor) * cost) / Number(divisor);
  }
  return sum;
}

/** Index of the step that the time of step `i` counts from. */
export function reference(flow: Flow, i: number): number {
  const { after, context } = flow.steps[i]!;
  for (let j = i - 1; j >= 0; j--) {
    if (after === undefined ? flow.steps[j]!.context === context : flow.steps[j]!.name === after) return j;
  }
  throw new Error(
    `${flow.id}, step ${i + 1} (${line(flow.steps[i]!)}): nothing before it ${after ?? 'in its context'}`,
  );
}

/** Every step with `takes` took that long. Costs per byte are rounded to a ns each time. */
export function checkTimes(flow: Flow, events: readonly FlowEvent[]): void {
  flow.steps.forEach((step, i) => {
    if (step.takes === undefined) return;
    const took = events[i]!.ns - events[reference(flow, i)]!.ns;
    const sum = sumOf(step.takes);
    const perByte = step.takes.some((term) => COSTS.some((c) => c.unit === 'ns/B' && term.includes(c.name)));
    if (Math.abs(took - sum) > (perByte ? 3 : 0)) {
      throw new Error(
        `${flow.id}, step ${i + 1} (${line(step)}): took ${took} ns, ${step.takes.join(' + ')} is ${sum}`,
      );
    }
  });
}

// ---- texts ------------------------------------------------------------------------------------------------------
const VHOST_IOCTL_NAMES = new Map(
  Object.entries(carrier).flatMap(([name, value]) =>
    /^VHOST_.*[A-Z]$/.test(name) && typeof value === 'number' ? [[value, name] as const] : [],
  ),
);
const SYSCALLS = new Map([
  [0, 'read'],
  [1, 'write'],
  [16, 'ioctl'],
  [19, 'readv'],
  [20, 'writev'],
]);
const CFG_TYPES = ['', 'common', 'notify', 'ISR', 'device', 'PCI access'];
const hex = (n: number): string => `0x${n.toString(16)}`;

/** An event's columns, with names for what has names. */
export function detail(e: FlowEvent): string {
  const number = (column: string): number => Number(e[column] ?? 0);
  const ioctl = (names: ReadonlyMap<number, string>): string =>
    `${names.get(number('ioctl')) ?? hex(number('ioctl'))} ${hex(number('argument'))}`;
  switch (e.event) {
    case 'kvm.ioctl':
      return ioctl(KVM_IOCTL_NAMES);
    case 'vfio.ioctl':
      return ioctl(VFIO_IOCTL_NAMES);
    case 'vfio.open':
      return `${['container', 'group', 'device'][number('file')] ?? ''}, descriptor ${number('fd')}`;
    case 'dpdk.eal':
      return EAL_PHASES[number('phase')] ?? '';
    case 'tap.ioctl':
      return ioctl(TUN_IOCTL_NAMES);
    case 'vhost.ioctl':
      return ioctl(VHOST_IOCTL_NAMES);
    case 'vhost.user_request':
    case 'vhost.user_reply':
      return VHOST_USER_MESSAGES.find((m) => m.id === number('request'))?.name ?? String(number('request'));
    case 'virtio.status':
      return statusNames(number('acceptedStatus')).join(' ') || '0';
    case 'virtio.features': {
      const word = number('word');
      const names = (word & 1) === 0 ? { lo: number('bits'), hi: 0 } : { lo: 0, hi: number('bits') };
      return `${word >= 0x8000_0000 ? 'accepted' : 'offered'}, word ${word & 1}: ${featureNames(names).join(' ')}`;
    }
    case 'pci.capability': {
      const id = number('id');
      return `at ${hex(number('offset'))}: ${(id & 0xff) === 0x11 ? 'MSI-X' : `virtio ${CFG_TYPES[id >> 8]} configuration`}`;
    }
    case 'sched.syscall':
      return SYSCALLS.get(number('number')) ?? String(number('number'));
    case 'kvm.exit_ept_misconfig_kernel':
    case 'kvm.exit_ept_misconfig_user':
    case 'kvm.exit_io_kernel':
      return `address ${hex(number('address'))}`;
  }
  const own = Object.entries(e).filter(([key]) => !FIXED.has(key));
  return own.map(([key, value]) => `${key} ${value}`).join(', ');
}
/** Columns that every event has, and places in memory, which say nothing to a reader. */
const FIXED = new Set(['seq', 'time', 'ns', 'event', 'place', 'context', 'frame', 'arenaOffset', 'position', 'gpa']);
