/** KVM under worlds: the start of QEMU's process, exits by reason and handler, halt polling, posted interrupts. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { fingerprint } from '../../../src/lab/inspect.ts';
import { kvmState } from '../../../src/lab/inspect-kvm.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { EINTR } from '../../../src/machine/kernel/errno.ts';
import { KVM_CAP_NAMES, KVM_EXIT_INTR, KVM_IOCTL_NAMES, kvmArgument } from '../../../src/machine/wire/kvm.ts';
import { recorded } from './recorded.ts';
import {
  type Backend,
  collect,
  makeWorld,
  pairDocument,
  ping,
  runOne,
  runOut,
  type SeenEvent,
  udp,
} from './world-driver.ts';

const SET_UP = [
  E.KVM_OPEN,
  E.KVM_IOCTL,
  E.KVM_RUN_CALL,
  E.QEMU_PHASE,
  E.QEMU_DEVICE_REALIZE,
  E.QEMU_DEVICE_RESET,
  E.TUN_IOCTL,
  E.VHOST_IOCTL,
  E.VHOST_USER_REQUEST,
  E.VIRTIO_STATUS,
];
/** One text for each event, runs of the same text once. */
function told(events: readonly SeenEvent[]): string[] {
  const texts = events.map(({ kind, a, b }) => {
    if (kind !== E.KVM_IOCTL) return E.KIND_BY_ID[kind]!.name + (kind === E.QEMU_PHASE ? ` ${a}` : '');
    const name = KVM_IOCTL_NAMES.get(a >>> 0)!;
    return name === 'KVM_CHECK_EXTENSION' ? KVM_CAP_NAMES.get(b)! : name;
  });
  return texts.filter((text, i) => text !== texts[i - 1]);
}
/** Of guest a alone. */
function started(backend: Backend, document: object = {}): string[] {
  const world = makeWorld(pairDocument(backend, { guests: ['a'], ...document }));
  return told(recorded(world, ...SET_UP).events);
}

const ACCELERATOR = [
  'qemu.phase 1',
  'kvm.open',
  'KVM_GET_API_VERSION',
  'KVM_CAP_IMMEDIATE_EXIT',
  'KVM_CAP_NR_MEMSLOTS',
  'KVM_CAP_MULTI_ADDRESS_SPACE',
  'KVM_CREATE_VM',
  'KVM_CAP_NR_VCPUS',
  'KVM_CAP_MAX_VCPUS',
  'KVM_CAP_USER_MEMORY',
  'KVM_CAP_DESTROY_MEMORY_REGION_WORKS',
  'KVM_CAP_JOIN_MEMORY_REGIONS_WORKS',
  'KVM_CAP_SET_TSS_ADDR',
  'KVM_CAP_EXT_CPUID',
  'KVM_CAP_MP_STATE',
  'KVM_CAP_COALESCED_MMIO',
  'KVM_CAP_COALESCED_PIO',
  'KVM_CAP_SIGNAL_MSI',
  'KVM_CAP_IRQ_INJECT_STATUS',
  'KVM_CAP_READONLY_MEM',
  'KVM_CAP_IOEVENTFD',
  'KVM_CAP_IRQFD',
  'KVM_CAP_IRQFD_RESAMPLE',
  'KVM_CAP_IOEVENTFD_ANY_LENGTH',
  'KVM_SET_IDENTITY_MAP_ADDR',
  'KVM_SET_TSS_ADDR',
  'KVM_CAP_IRQCHIP',
  'KVM_CREATE_IRQCHIP',
  'KVM_CAP_IRQ_ROUTING',
  'qemu.phase 2',
];
const BOARD = [
  'qemu.phase 3',
  'KVM_CREATE_VCPU',
  'KVM_GET_VCPU_MMAP_SIZE',
  'KVM_SET_USER_MEMORY_REGION',
  'KVM_SET_GSI_ROUTING',
  'qemu.phase 4',
];
const READY = ['qemu.device_realize', 'qemu.phase 5', 'qemu.device_reset', 'KVM_SET_REGS', 'KVM_SET_SREGS', 'kvm.run'];

describe("QEMU's start, in its order", () => {
  const netdev: Readonly<Record<Backend, readonly string[]>> = {
    'virtio-net': ['tap.ioctl'],
    'vhost-net': ['tap.ioctl', 'vhost.ioctl'],
    'vhost-user': ['vhost.user_request'],
  };
  test.each(Object.keys(netdev) as Backend[])('%s', (backend) => {
    const seen = started(backend);
    const first = [...ACCELERATOR, ...netdev[backend], ...BOARD];
    expect(seen.slice(0, first.length)).toEqual(first);
    // a vhost-user front-end enables rings when the device comes to be, too
    const rest = seen.slice(first.length).filter((text) => text !== 'vhost.user_request');
    expect(rest.slice(0, READY.length)).toEqual(READY);
    expect(rest.indexOf('virtio.status')).toBeGreaterThan(READY.length - 1);
  });
  test('every vCPU of the document is made, and a slot for each part of memory', () => {
    const document = { hosts: [{ guests: [{ name: 'a', vcpus: 4, nics: [{ name: 'net0' }] }] }] };
    const world = makeWorld(document);
    const made = recorded(world, E.KVM_IOCTL, E.KVM_IOCTL_RESULT).events.filter(
      (e) => KVM_IOCTL_NAMES.get(e.a >>> 0) === 'KVM_CREATE_VCPU',
    );
    expect(made.filter((e) => e.kind === E.KVM_IOCTL).map((e) => e.b)).toEqual([0, 1, 2, 3]);
    const fds = made.filter((e) => e.kind === E.KVM_IOCTL_RESULT).map((e) => e.b);
    const state = kvmState(world.machine, 'a');
    const files = new Map(state.descriptors.map((d) => [d.fd, d.file]));
    expect(fds.map((fd) => files.get(fd))).toEqual([0, 1, 2, 3].map((id) => `anon_inode:kvm-vcpu:${id}`));
    expect(state.memorySlots.map((s) => [s.guestPhysAddr, s.memorySize])).toEqual([
      ['0x0', 0xa_0000],
      ['0xc0000', 0x100_0000 - 0xc_0000],
    ]);
  });
  test('the bytes of every argument are recorded, and say what was passed', () => {
    const world = makeWorld(pairDocument('vhost-net', { guests: ['a'] }));
    const { events, bytesOf } = recorded(world, E.KVM_IOCTL, E.KVM_IOCTL_ARGUMENT);
    const passed = events.flatMap((e, i) =>
      e.kind === E.KVM_IOCTL_ARGUMENT ? [{ request: events[i - 1]!.a, bytes: bytesOf(e) }] : [],
    );
    const of = (name: string) =>
      passed.filter((p) => KVM_IOCTL_NAMES.get(p.request >>> 0) === name).map((p) => kvmArgument(p.request, p.bytes)!);
    expect(of('KVM_SET_USER_MEMORY_REGION').map((a) => a.fields['memory_size'])).toEqual([
      0xa_0000,
      0x100_0000 - 0xc_0000,
    ]);
    // the board's table, then one more route for each vector
    expect(of('KVM_SET_GSI_ROUTING').map((a) => a.entries!.length)).toEqual([38, 39, 40]);
    const { irqfds, ioeventfds } = kvmState(world.machine, 'a');
    expect(of('KVM_IRQFD').map((a) => [a.fields['fd'], a.fields['gsi']])).toEqual(irqfds.map((i) => [i.fd, i.gsi]));
    expect(of('KVM_IOEVENTFD').map((a) => [a.fields['fd'], a.fields['addr']])).toEqual(
      ioeventfds.map((i) => [i.fd, Number(i.address)]),
    );
  });
  test('nothing that QEMU asks of KVM is refused', () => {
    for (const backend of ['virtio-net', 'vhost-net', 'vhost-user'] as const)
      for (const transport of ['pci-modern', 'pci-transitional'] as const) {
        const world = makeWorld(pairDocument(backend, { nic: { transport } }));
        const results = recorded(world, E.KVM_IOCTL_RESULT).events;
        expect(results.length).toBeGreaterThan(0);
        expect(results.filter((e) => (e.b | 0) < 0)).toEqual([]);
      }
  });
});

describe('doorbells and interrupts as KVM has them', () => {
  test('a vhost-net NIC: an ioeventfd for any write to each doorbell, an irqfd that follows the message of its vector', () => {
    const world = makeWorld(pairDocument('vhost-net', { guests: ['a'] }));
    runOut(world);
    const { ioeventfds, irqfds, routes, descriptors } = kvmState(world.machine, 'a');
    const rings = ioeventfds.filter((i) => /[rt]x0/.test(i.what));
    expect(rings.map((i) => [i.bus, i.length, i.datamatch, i.what])).toEqual([
      ['mmio', 0, null, 'a/net0 rx0 kick'],
      ['mmio', 0, null, 'a/net0 tx0 kick'],
    ]);
    expect(irqfds.map((i) => [i.gsi, i.what])).toEqual([
      [24, 'a/net0 rx0 call'],
      [25, 'a/net0 tx0 call'],
    ]);
    const device = world.machine.guests[0]!.nics[0]!.setup.states[0]!.nic.device;
    const messages = [0, 1].map((q) => {
      const vector = device.queues[q]!.msixVector;
      return 'msixMessage' in device ? device.msixMessage(vector) : null;
    });
    expect(routes.filter((r) => r.type === 'msi').map((r) => [r.gsi, Number(r.address), r.data])).toEqual(
      messages.map((m, i) => [24 + i, m!.address, m!.data]),
    );
    const open = new Map(descriptors.map((d) => [d.fd, d.file]));
    for (const { fd } of [...ioeventfds, ...irqfds]) expect(open.get(fd)).toBe('anon_inode:[eventfd]');
  });
  test('legacy doorbells are told apart by the value that is written', () => {
    const nic = { transport: 'pci-legacy' };
    const world = makeWorld(pairDocument('vhost-net', { guests: ['a'], nic }));
    runOut(world);
    const { ioeventfds } = kvmState(world.machine, 'a');
    const rings = ioeventfds.filter((i) => /[rt]x0/.test(i.what));
    expect(rings.map((i) => [i.bus, i.length, i.datamatch])).toEqual([
      ['pio', 2, 0],
      ['pio', 2, 1],
    ]);
    expect(rings[0]!.address).toBe(rings[1]!.address);
  });
  test('a transitional device has both, whichever its driver uses; a reset takes all of them back', () => {
    const world = makeWorld(pairDocument('vhost-net', { guests: ['a'], nic: { transport: 'pci-transitional' } }));
    const of = () => kvmState(world.machine, 'a').ioeventfds.filter((i) => i.what === 'a/net0 tx0 kick');
    expect(of().map((i) => [i.bus, i.length, i.datamatch])).toEqual([
      ['mmio', 0, null],
      ['pio', 2, 1],
    ]);
    const before = kvmState(world.machine, 'a').descriptors;
    const { device } = world.machine.guests[0]!.nics[0]!.setup.states[0]!.nic;
    device.reset();
    const after = kvmState(world.machine, 'a');
    expect([of(), after.irqfds, after.ioeventfds]).toEqual([[], [], []]);
    expect(after.descriptors).toEqual(before);
  });
  test('virtio-mmio: four bytes and the queue', () => {
    const world = makeWorld(pairDocument('virtio-net', { guests: ['a', 'b'], nic: { transport: 'mmio' } }));
    runOut(world);
    expect(kvmState(world.machine, 'a').ioeventfds.map((i) => [i.bus, i.length])).toContainEqual(['mmio', 4]);
    const exits = collect(world.machine, E.KVM_EXIT_MMIO_KERNEL);
    expect(runOne(world, ping('a/net0', 'b/net0', { count: 2 })).received).toBe(2);
    expect(exits.length).toBeGreaterThan(0);
  });
});

describe('exits', () => {
  test.each(['virtio-net', 'vhost-net'] as const)('%s: each return of KVM_RUN is one exit to userspace', (backend) => {
    const nic = backend === 'virtio-net' ? { ioeventfd: false } : {};
    const world = makeWorld(pairDocument(backend, { nic }));
    const seen = collect(
      world.machine,
      E.KVM_EXIT_MMIO_USER,
      E.KVM_EXIT_IO,
      E.KVM_USERSPACE_EXIT,
      E.KVM_RUN_CALL,
      E.KVM_IOCTL,
    );
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    const count = (...kinds: number[]): number => seen.filter((e) => kinds.includes(e.kind)).length;
    expect(count(E.KVM_USERSPACE_EXIT)).toBe(count(E.KVM_EXIT_MMIO_USER, E.KVM_EXIT_IO));
    expect(count(E.KVM_RUN_CALL)).toBe(count(E.KVM_USERSPACE_EXIT));
    const [vcpu] = kvmState(world.machine, 'a').vcpus;
    const user = vcpu!.exits.filter((e) => e.handledBy === 'userspace');
    const of = (reason: string): number => user.find((e) => e.reason === reason)!.count;
    expect(vcpu!.returns).toEqual({ KVM_EXIT_IO: of('IO_INSTRUCTION'), KVM_EXIT_MMIO: of('EPT_MISCONFIG') });
    const kernel = vcpu!.exits.find((e) => e.reason === 'EPT_MISCONFIG' && e.handledBy === 'kernel')!.count;
    if (backend === 'virtio-net') expect(kernel).toBe(0);
    else expect(kernel).toBeGreaterThan(0);
  });
});

test('a guest that QEMU stops comes out of KVM_RUN by a signal, and goes in again with it', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const seen = collect(world.machine, E.KVM_USERSPACE_EXIT, E.KVM_RUN_CALL, E.QEMU_VM_STOP, E.QEMU_VM_START);
  for (const state of ['paused', 'running'] as const) {
    world.guestState('a', state);
    runOut(world);
  }
  expect(seen.map((e) => [E.KIND_BY_ID[e.kind]!.name, e.a])).toEqual([
    ['qemu.vm_stop', 0],
    ['kvm.userspace_exit', KVM_EXIT_INTR],
    ['qemu.vm_start', 0],
    ['kvm.run', world.machine.guests[0]!.vcpu.fd],
  ]);
  expect(seen[1]!.b).toBe(EINTR);
  const [vcpu] = kvmState(world.machine, 'a').vcpus;
  expect([vcpu!.exitReason, vcpu!.returns['KVM_EXIT_INTR']]).toEqual(['KVM_EXIT_INTR', 1]);
});

/** A world of two guests with fields of both, and what a run makes of it. */
function ran(
  fields: object,
  spec: ReturnType<typeof udp>,
  backend: Backend = 'vhost-net',
  host: object = { cores: 16 },
): { world: World; run: RunResult; events: SeenEvent[] } {
  const document = pairDocument(backend) as { hosts: { guests: object[] }[] };
  Object.assign(document.hosts[0]!, host);
  for (const guest of document.hosts[0]!.guests) Object.assign(guest, fields);
  const world = makeWorld(document);
  runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
  const events = collect(
    world.machine,
    E.KVM_EXIT_HLT,
    E.KVM_EXIT_EXTERNAL_INTERRUPT,
    E.KVM_HALT_POLL_SUCCESS,
    E.KVM_HALT_POLL_FAIL,
    E.KVM_POSTED_INTERRUPT,
    E.KVM_ENTRY,
    E.GUEST_IRQ,
  );
  const run = runOne(world, spec);
  return { world, run, events };
}
const count = (events: readonly SeenEvent[], kind: number): number => events.filter((e) => e.kind === kind).length;
function busy(world: World): number {
  const { scheduler, guests } = world.machine;
  return guests.reduce((sum, g) => sum + scheduler.busy[g.vcpu.id]!, 0);
}
const latency = (run: RunResult): number => run.virtual.latencySeconds.p50;
const echoes = () => ping('a/net0', 'b/net0', { count: 40, rate: 20_000 });

describe('halt polling', () => {
  test('echoes come back sooner, at the price of busy time; the halts are the same', () => {
    const off = ran({}, echoes());
    const on = ran({ haltPollNs: 200_000 }, echoes());
    expect(count(off.events, E.KVM_HALT_POLL_SUCCESS) + count(off.events, E.KVM_HALT_POLL_FAIL)).toBe(0);
    expect(count(on.events, E.KVM_HALT_POLL_SUCCESS)).toBeGreaterThan(20);
    expect(on.run.received).toBe(40);
    const { costs } = on.world.machine.catalog;
    // at least two sleepers on the way: b when the request comes, a when the answer does
    const saved = 2 * (costs['halted_vcpu_wakeup']! - costs['halt_poll_wakeup']!);
    expect(1e9 * (latency(off.run) - latency(on.run))).toBeGreaterThan(saved / 2);
    expect(busy(on.world)).toBeGreaterThan(busy(off.world));
    expect(count(on.events, E.KVM_EXIT_HLT)).toBe(count(on.events, E.KVM_ENTRY));
  });
  test("KVM's statistics are those of the events", () => {
    const { world } = ran({ haltPollNs: 50_000 }, echoes());
    for (const guest of ['a', 'b']) {
      const { vcpus } = kvmState(world.machine, guest);
      const { haltAttemptedPoll, haltSuccessfulPoll, haltPollInvalid, haltPollNs } = vcpus[0]!.haltPoll!;
      expect(haltAttemptedPoll).toBeGreaterThanOrEqual(haltSuccessfulPoll);
      expect(haltSuccessfulPoll).toBeGreaterThan(0);
      expect(haltPollInvalid).toBe(0);
      expect(haltPollNs).toBeLessThanOrEqual(50_000);
    }
  });
  test('a wake-up later than the longest poll is no success, and the next halt polls no more', () => {
    const rare = ping('a/net0', 'b/net0', { count: 10, rate: 100 });
    const { events } = ran({ haltPollNs: 20_000 }, rare);
    expect(count(events, E.KVM_HALT_POLL_FAIL)).toBeGreaterThan(0);
    for (const e of events) if (e.kind === E.KVM_HALT_POLL_FAIL) expect([e.a <= 20_000, e.b]).toEqual([true, 0]);
  });
  test('where threads share a core, one that polls gives it up to one that has work', () => {
    const { events, run } = ran({ haltPollNs: 200_000 }, echoes(), 'vhost-net', { cores: 1 });
    expect(run.received).toBe(40);
    const polled = events.filter((e) => e.kind === E.KVM_HALT_POLL_FAIL || e.kind === E.KVM_HALT_POLL_SUCCESS);
    expect(polled.length).toBeGreaterThan(0);
    const cut = polled.filter((e) => e.kind === E.KVM_HALT_POLL_FAIL && e.a < 10_000);
    expect(cut.length).toBeGreaterThan(0);
  });
});

describe('posted interrupts', () => {
  const load = () => udp('a/net0', 'b/net0', { count: 400, rate: 400_000 });
  test('a running vCPU takes its interrupts without an exit, and handles as many', () => {
    const off = ran({}, load());
    const on = ran({ postedInterrupts: true }, load());
    expect(count(off.events, E.KVM_EXIT_EXTERNAL_INTERRUPT)).toBeGreaterThan(0);
    expect(count(off.events, E.KVM_POSTED_INTERRUPT)).toBe(0);
    expect(count(on.events, E.KVM_EXIT_EXTERNAL_INTERRUPT)).toBe(0);
    expect(count(on.events, E.KVM_POSTED_INTERRUPT)).toBeGreaterThan(0);
    expect(on.run.received).toBe(400);
    expect(kvmState(on.world.machine, 'b').vcpus[0]!.exits.find((e) => e.reason === 'EXTERNAL_INTERRUPT')!.count).toBe(
      0,
    );
    expect(busy(on.world)).toBeLessThan(busy(off.world));
  });
});

test('the same document gives the same run, with all options on', () => {
  const fields = { haltPollNs: 100_000, postedInterrupts: true };
  const prints = [1, 2].map(() => fingerprint(ran(fields, echoes(), 'virtio-net', { cores: 2 }).world.machine));
  expect(prints[0]).toBe(prints[1]);
});
