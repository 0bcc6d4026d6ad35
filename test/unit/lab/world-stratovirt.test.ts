/** Guests of StratoVirt: the three back-ends side by side, what a frame costs in exits, and what the event loop does. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { World } from '../../../src/lab/world.ts';
import * as V from '../../../src/machine/vhost/kernel/vhost-net.ts';
import { hasFeature, VIRTIO_NET_F_GUEST_TSO4 } from '../../../src/machine/virtio/features.ts';
import * as M from '../../../src/machine/wire/vhost-user-requests.ts';
import {
  BACKENDS,
  type Backend,
  collect,
  FrameAccount,
  makeWorld,
  ping,
  runOne,
  runOut,
  type SeenEvent,
  stepThrough,
  udp,
  watch,
} from './world-driver.ts';

type Transport = 'mmio' | 'pci-modern';
const TRANSPORTS: readonly Transport[] = ['mmio', 'pci-modern'];

function document(backend: Backend, nic: object = {}, guests: readonly string[] = ['a', 'b']): object {
  const bridges = [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }];
  const machines = guests.map((name, i) => ({
    name,
    vmm: 'stratovirt',
    nics: [{ name: 'net0', backend, addresses: [`10.0.0.${i + 1}/24`], ...nic }],
  }));
  return { hosts: [{ name: 'h1', cores: 16, bridges, guests: machines }] };
}
function booted(backend: Backend, nic: object = {}, guests?: readonly string[]): World {
  const world = makeWorld(document(backend, nic, guests));
  runOut(world);
  return world;
}
/** A world, and all that happened when it booted. */
function bootWatched(document: object): { readonly world: World; readonly events: readonly SeenEvent[] } {
  const parsed = parseTopology({ recorder: { events: 1 << 16, bytes: '4MiB' }, ...document }, { name: 't' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const machine = buildMachine(parsed.topology);
  const events: SeenEvent[] = [];
  watch(machine, (e) => events.push(e));
  const world = new World(parsed.topology, machine);
  runOut(world);
  return { world, events: [...events] };
}
/** Neighbours and addresses are known: what follows is frames alone. */
function settled(backend: Backend, nic: object = {}): World {
  const world = booted(backend, nic);
  runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
  runOut(world);
  return world;
}
const contextOf = (world: World, e: SeenEvent): string => world.machine.catalog.contexts[e.context]!.name;
const placeOf = (world: World, e: SeenEvent): string => world.machine.catalog.places[e.place]!.name;
function everything(world: World): SeenEvent[] {
  const out: SeenEvent[] = [];
  watch(world.machine, (e) => out.push(e));
  return out;
}
const count = (events: readonly SeenEvent[], ...kinds: number[]): number =>
  events.filter((e) => kinds.includes(e.kind)).length;

describe.each(BACKENDS)('%s', (backend) => {
  describe.each(TRANSPORTS)('%s', (transport) => {
    test('no frame is lost, after every single step', () => {
      const world = booted(backend, { transport });
      const account = new FrameAccount(world);
      world.startTraffic(udp('a/net0', 'b/net0', { id: 'there', count: 300 }));
      world.startTraffic(udp('b/net0', 'a/net0', { id: 'back', count: 300, frameSize: 1518 }));
      stepThrough(world, () => account.check());
      for (const id of ['there', 'back']) expect(world.run(id)).toMatchObject({ state: 'SUCCEEDED', received: 300 });
      expect(world.status().conservation.holds).toBe(true);
    });

    test('the same document, the same events', () => {
      const prints = [1, 2].map(() => {
        const world = booted(backend, { transport });
        runOne(world, udp('a/net0', 'b/net0', { id: 'r', count: 200, flows: 3 }));
        return world.status().fingerprint;
      });
      expect(prints[0]).toBe(prints[1]);
    });

    test('a kick never exits to userspace, and StratoVirt is all that there is of a VMM', () => {
      const world = settled(backend, { transport });
      const events = everything(world);
      expect(runOne(world, udp('a/net0', 'b/net0', { count: 200 })).state).toBe('SUCCEEDED');
      const kicks = count(events, E.VIRTQ_KICK);
      expect(count(events, E.KVM_EXIT_MMIO_KERNEL)).toBe(kicks);
      // a line without vectors is asked for its reason and acknowledged: two accesses for each interrupt that is taken
      const accesses = count(events, E.KVM_EXIT_MMIO_USER, E.KVM_EXIT_IO);
      if (transport === 'pci-modern') expect(accesses).toBe(0);
      else expect(accesses % 2).toBe(0);
      expect(events.filter((e) => contextOf(world, e).startsWith('qemu'))).toEqual([]);
      expect(count(events, E.KVM_IRQ_LINE)).toBe(0);
    });

    test('who interrupts the guest, and how', () => {
      const world = settled(backend, { transport });
      const events = everything(world);
      runOne(world, ping('a/net0', 'b/net0', { count: 5 }));
      runOut(world);
      const loop = events.filter((e) => contextOf(world, e).startsWith('stratovirt-'));
      const interrupts = count(events, E.VIRTQ_INTERRUPT);
      expect(interrupts).toBeGreaterThan(0);
      if (backend === 'virtio-net') {
        const how = transport === 'mmio' ? E.KVM_IRQFD : E.KVM_SIGNAL_MSI;
        expect(count(loop, how)).toBe(interrupts);
        expect(count(events, E.KVM_IRQFD, E.KVM_SIGNAL_MSI)).toBe(interrupts);
      } else if (transport === 'mmio') {
        // InterruptStatus is StratoVirt's to set
        expect(count(loop, E.KVM_IRQFD)).toBe(interrupts);
        expect(count(loop, E.EVENTFD_READ)).toBe(interrupts);
      } else {
        expect(loop).toEqual([]);
        expect(count(events, E.KVM_IRQFD)).toBe(interrupts);
      }
    });
  });
});

describe('the event loop of a device that StratoVirt serves', () => {
  test('one copy in and one out: frames of the tap go straight into the guest', () => {
    const world = settled('virtio-net');
    const events = everything(world);
    runOne(world, ping('a/net0', 'b/net0', { count: 5 }));
    expect(count(events, E.PACKET_COPY)).toBe(2 * 10);
    const calls = (number: number): number => events.filter((e) => e.kind === E.SCHED_SYSCALL && e.a === number).length;
    expect([calls(20), events.filter((e) => e.kind === E.SCHED_SYSCALL && e.a === 19 && e.frame !== 0).length]).toEqual(
      [10, 10],
    );
  });

  test('receives while the tap has frames, shows each one, and interrupts once at the end', () => {
    const world = settled('virtio-net');
    const events = everything(world);
    runOne(world, udp('a/net0', 'b/net0', { count: 500, generator: 'pktgen' }));
    runOut(world);
    const rx = events.filter((e) => placeOf(world, e) === 'b/net0/rx0');
    const used = count(rx, E.VIRTQ_USED_IDX);
    const asked = count(rx, E.VIRTQ_INTERRUPT, E.VIRTQ_INTERRUPT_SUPPRESSED);
    expect(used).toBe(500);
    expect(asked).toBeLessThan(used / 2);
    // after the last frame of each burst the tap is found empty, or the ring
    const loop = events.filter((e) => contextOf(world, e) === 'stratovirt-b');
    for (const [i, e] of loop.entries()) {
      if (e.kind !== E.VIRTQ_INTERRUPT || placeOf(world, e) !== 'b/net0/rx0') continue;
      const before = loop[i - 1]!;
      const eagain = before.kind === E.SCHED_SYSCALL && before.a === 19 && before.frame === 0;
      expect(eagain || before.kind === E.VIRTQ_RX_EMPTY).toBe(true);
    }
  });

  test('without buffers it stops listening to the tap until the driver kicks', () => {
    // the guest gets far less done than the cable brings
    const slow = { costs: { guest_rx_per_packet: 20_000 }, hosts: [{ nics: [{ name: 'eth0' }] }] };
    const base = document('virtio-net', {}, ['b']) as { hosts: object[] };
    const world = makeWorld({ ...base, costs: slow.costs, hosts: [{ ...base.hosts[0], ...slow.hosts[0] }] });
    runOut(world);
    const events = everything(world);
    const account = new FrameAccount(world);
    world.startTraffic(udp('eth0', 'b/net0', { id: 'flood', count: 3000, rate: 1_000_000 }));
    stepThrough(world, () => account.check());
    const empty = events.findIndex((e) => e.kind === E.VIRTQ_RX_EMPTY);
    expect(empty).toBeGreaterThan(0);
    const after = events.slice(empty + 1);
    const kick = after.findIndex((e) => e.kind === E.EVENTFD_READ && contextOf(world, e) === 'stratovirt-b');
    expect(kick).toBeGreaterThan(0);
    expect(after.slice(0, kick).filter((e) => e.kind === E.TAP_DEQUEUE)).toEqual([]);
    expect(after.slice(0, kick).some((e) => e.kind === E.TAP_ENQUEUE)).toBe(true);
    const { received, dropped } = world.run('flood');
    expect(received + (dropped['tap.queue_full'] ?? 0)).toBe(3000);
  });

  test.each([true, false])('kicks with event idx %s', (eventIdx) => {
    const world = settled('virtio-net', { features: { VIRTIO_RING_F_EVENT_IDX: eventIdx } });
    const events = everything(world);
    runOne(world, udp('a/net0', 'b/net0', { count: 300, generator: 'pktgen' }));
    const tx = events.filter((e) => placeOf(world, e) === 'a/net0/tx0');
    // it never sets VRING_USED_F_NO_NOTIFY; avail_event goes along with what it has taken
    expect(count(tx, E.VIRTQ_KICKS_OFF)).toBe(0);
    if (eventIdx) expect(count(tx, E.VIRTQ_KICK)).toBeLessThan(100);
    else expect(count(tx, E.VIRTQ_KICK_SUPPRESSED)).toBe(0);
  });

  test('the commands of the control queue come through its eventfd, and the filter acts', () => {
    const { world, events } = bootWatched(document('virtio-net', {}, ['a', 'b', 'c']));
    const commands = events.filter((e) => e.kind === E.VIRTIO_NET_CTRL);
    expect(commands.length).toBeGreaterThan(0);
    for (const e of commands) expect(contextOf(world, e)).toMatch(/^stratovirt-/);
    const drops = collect(world.machine, E.VIRTIO_NET_DROP_RX_FILTER);
    // an unknown destination is flooded, and neither of the others wants it
    const bytes = new Uint8Array(64);
    bytes.set([0x52, 0x54, 0, 0, 0, 0x77, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5]);
    world.startFrames({ id: 'f', kind: 'frames', at: 'a/net0', bytes, lengths: Uint32Array.of(64), times: null });
    runOut(world);
    expect(drops.map((e) => placeOf(world, e)).sort()).toEqual(['b/net0/virtio-net', 'c/net0/virtio-net']);
    expect(world.status().conservation.holds).toBe(true);
  });

  test('two NICs and several queue pairs share the loop', () => {
    const nic = (name: string, address: string) => ({
      ...{ name, backend: 'virtio-net', transport: 'pci-modern', queuePairs: 2 },
      addresses: [address],
    });
    const guest = (name: string, i: number) => ({
      ...{ name, vmm: 'stratovirt', vcpus: 2 },
      nics: [nic('net0', `10.0.0.${i}/24`), nic('net1', `10.0.1.${i}/24`)],
    });
    const world = makeWorld({ hosts: [{ cores: 16, guests: [guest('a', 1), guest('b', 2)] }] });
    runOut(world);
    const account = new FrameAccount(world);
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'first', count: 400, flows: 16 }));
    world.startTraffic(udp('b/net1', 'a/net1', { id: 'second', count: 400, flows: 16 }));
    stepThrough(world, () => account.check());
    for (const id of ['first', 'second']) expect(world.run(id)).toMatchObject({ state: 'SUCCEEDED', received: 400 });
  });
});

describe('the hand-over', () => {
  test('vhost-net: features, memory table, then each queue to its end', () => {
    const { events } = bootWatched(document('vhost-net', {}, ['a']));
    const seen = events.filter((e) => e.kind === E.VHOST_IOCTL);
    const ring = [
      V.VHOST_SET_VRING_NUM,
      V.VHOST_SET_VRING_ADDR,
      V.VHOST_SET_VRING_BASE,
      V.VHOST_SET_VRING_KICK,
      V.VHOST_SET_VRING_CALL,
      V.VHOST_NET_SET_BACKEND,
    ];
    expect(seen.map((e) => e.a)).toEqual([
      V.VHOST_SET_OWNER,
      V.VHOST_GET_FEATURES,
      V.VHOST_SET_FEATURES,
      V.VHOST_SET_MEM_TABLE,
      ...ring,
      ...ring,
    ]);
  });
  test('vhost-user: no protocol features, all sizes first, then each ring', () => {
    const { events } = bootWatched(document('vhost-user', {}, ['a']));
    const seen = events.filter((e) => e.kind === E.VHOST_USER_REQUEST);
    const ring = [
      M.VHOST_USER_SET_VRING_ADDR,
      M.VHOST_USER_SET_VRING_BASE,
      M.VHOST_USER_SET_VRING_CALL,
      M.VHOST_USER_SET_VRING_KICK,
    ];
    expect(seen.map((e) => e.a)).toEqual([
      M.VHOST_USER_GET_FEATURES,
      M.VHOST_USER_SET_OWNER,
      M.VHOST_USER_SET_FEATURES,
      M.VHOST_USER_SET_MEM_TABLE,
      M.VHOST_USER_SET_VRING_NUM,
      M.VHOST_USER_SET_VRING_NUM,
      ...ring,
      ...ring,
    ]);
  });
  test('the vhost device does not tell its tap what the guest takes: the host cuts for it', () => {
    const offloads = (backend: Backend): number => {
      const world = booted(backend);
      const { wiring, setup } = world.machine.guests[0]!.nics[0]!;
      expect(hasFeature(setup.states[0]!.nic.device.driverFeatures, VIRTIO_NET_F_GUEST_TSO4)).toBe(true);
      return 'tap' in wiring ? wiring.tap.offloads : -1;
    };
    expect(offloads('vhost-net')).toBe(0);
    expect(offloads('virtio-net')).not.toBe(0);
  });
});
